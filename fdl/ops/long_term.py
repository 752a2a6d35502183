"""How far gradients reach through a recurrent cell: they vanish or explode with distance."""

import jax
import jax.flatten_util
import jax.numpy as jnp

from fdl.ops.recurrent import CellStep, CellWeights
from fdl.types import Array, PyTree


def carry_gradients(step: CellStep, weights: CellWeights, carry: PyTree, x: Array) -> Array:
    """Measure the gradient of the last carry with respect to the earlier ones.

    n_k = || d s_T / d s_{T-k} ||_2 = || J_T J_{T-1} ... J_{T-k+1} ||_2,   J_t = d s_t / d s_{t-1}

    with s all that the cell carries and the norm the largest singular value. A product of k
    matrices goes like the k-th power of their size: n_k vanishes or explodes.

    Args:
      step: a cell, such as `fdl.ops.lstm_step`.
      weights: of the cell.
      carry: s_0 of one sequence, leaves of shape (1, H).
      x: shape (T, D).

    Returns:
      n_0, ..., n_T, shape (T + 1,); n_0 = 1.

    Raises:
      ValueError: x has another rank, or the carry is of more sequences.

    Example:
      >>> from fdl.ops.recurrent import elman_step
      >>> weights = CellWeights(jnp.zeros((1, 2)), 0.5 * jnp.eye(2))
      >>> carry_gradients(elman_step, weights, jnp.zeros((1, 2)), jnp.zeros((3, 1))).tolist()
      [1.0, 0.5, 0.25, 0.125]

    Source: Bengio et al. 1994; Pascanu et al. 2013, arXiv 1211.5063; DLB 10.7.
    """
    if x.ndim != 2:
        raise ValueError(f"carry_gradients(x) must be of shape (time, features), got {x.shape}")
    if any(leaf.shape[:1] != (1,) for leaf in jax.tree.leaves(carry)):
        shapes = [leaf.shape for leaf in jax.tree.leaves(carry)]
        raise ValueError(f"carry_gradients(carry) must be of one sequence, got {shapes}")
    flat, whole = jax.flatten_util.ravel_pytree(carry)

    def advance(s: Array, x_t: Array) -> Array:
        return jax.flatten_util.ravel_pytree(step(weights, whole(s), x_t[None])[0])[0]

    def forwards(s: Array, x_t: Array) -> tuple[Array, Array]:
        return advance(s, x_t), jax.jacfwd(advance)(s, x_t)

    def backwards(product: Array, jacobian: Array) -> tuple[Array, Array]:
        product = product @ jacobian
        return product, jnp.linalg.norm(product, 2)

    _, jacobians = jax.lax.scan(forwards, flat, x)
    one = jnp.eye(len(flat), dtype=flat.dtype)
    _, norms = jax.lax.scan(backwards, one, jacobians, reverse=True)
    return jnp.append(norms, jnp.ones((), flat.dtype))[::-1]
