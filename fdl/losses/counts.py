"""Losses of predicted counts."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array


def poisson(log_rate: ArrayLike, count: ArrayLike) -> Array:
    """Compute the negative log-likelihood of Poisson outputs, elementwise, up to log count!.

    exp(z) - y z,  z the logarithm of the expected count

    The gradient with respect to z is exp(z) - y. The best constant prediction of exp(z) is the
    mean. log y! does not depend on z and is left out, as in PyTorch's `poisson_nll_loss`;
    `fdl.outputs.Poisson` has it.

    Args:
      log_rate: z, any shape, floating point. Above 88 the rate overflows in float32.
      count: y, the same shape, >= 0.

    Returns:
      The loss of each element in nats, at least float32.

    Raises:
      ValueError: when the shapes differ.

    Example:
      >>> poisson(jnp.array([0.0, -1e4]), jnp.array([3, 0]))
      Array([1., 0.], dtype=float32)

    Source: McCullagh and Nelder 1989, Generalized Linear Models, chapter 6; DLB 6.2.2.4.
    """
    z, y = jnp.asarray(log_rate), jnp.asarray(count)
    if z.shape != y.shape:
        raise ValueError(
            f"poisson(log_rate, count) must have equal shapes, got {z.shape} and {y.shape}"
        )
    z = z.astype(jnp.promote_types(z.dtype, jnp.float32))
    return jnp.exp(z) - y.astype(z.dtype) * z
