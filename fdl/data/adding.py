"""The adding problem: sequences whose answer stands far back in them."""

import jax
import jax.numpy as jnp

from fdl.types import Array


def adding(key: Array, length: int) -> tuple[Array, Array]:
    """Draw a sequence of the adding problem.

    x_t = (v_t, m_t) with v_t ~ U(0, 1); m is 1 at one place of the first half and at one of the
    second, 0 elsewhere. y = sum_t m_t v_t, to be told after the last step.

    To answer 1 always has mean squared error 1/6. Anything better must remember a value for half of
    the length on average.

    Args:
      key: a typed PRNG key; `jax.vmap` draws a batch from one for each example.
      length: number of steps, >= 2.

    Returns:
      (x, y): float32 arrays of shape (length, 2) and ().

    Raises:
      ValueError: for a length below 2.

    Example:
      >>> x, y = adding(jax.random.key(0), 10)
      >>> x.shape, x[:, 1].sum(), bool(abs((x[:, 0] * x[:, 1]).sum() - y) < 1e-6)
      ((10, 2), Array(2., dtype=float32), True)

    Source: Hochreiter and Schmidhuber 1997, experiment 4; this form: Arjovsky et al. 2016, arXiv
    1511.06464.
    """
    if length < 2:
        raise ValueError(f"adding(length=...) must be >= 2, got {length}")
    early, late, values = jax.random.split(key, 3)
    half = length // 2
    first = jax.random.randint(early, (), 0, half)
    second = jax.random.randint(late, (), half, length)
    v = jax.random.uniform(values, (length,), jnp.float32)
    at = jnp.arange(length)
    marks = ((at == first) | (at == second)).astype(jnp.float32)
    return jnp.stack([v, marks], axis=1), (v * marks).sum()
