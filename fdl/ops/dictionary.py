"""Dictionary learning by blocks: the best atom while the others and the codes rest."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array


def update_dictionary(
    dictionary: ArrayLike, squares: ArrayLike, products: ArrayLike, *, sweeps: int = 1
) -> Array:
    """Improve each atom in turn, with codes fixed: least squares under |D_j| <= 1.

    u = D_j + (B_j - D A_j) / A_jj,   D_j <- u / max(|u|, 1)

    with A = sum_n z_n z_n' and B = sum_n x_n z_n', all that codes must leave behind.
    sum_n |x_n - D z_n|^2 never rises. The other way to learn, in any training step, is the
    gradient and `fdl.optim.project(fdl.optim.projection_unit_norm)`.

    Args:
      dictionary: D, shape (inputs, codes), floating point.
      squares: A, shape (codes, codes).
      products: B, shape (inputs, codes).
      sweeps: times through all atoms, >= 0.

    Returns:
      The new dictionary, columns of norm <= 1. An atom that no code has used stays.

    Raises:
      ValueError: when the shapes do not fit or `sweeps` is negative.

    Example:
      >>> x, z = jnp.array([[0.3, 0.4], [0.0, 2.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0]])
      >>> update_dictionary(jnp.eye(2), z.T @ z, x.T @ z).tolist()
      [[0.30000001192092896, 0.0], [0.4000000059604645, 1.0]]

    Source: Mairal et al. 2009, Online dictionary learning for sparse coding, algorithm 2.
    """
    dictionary, a, b = jnp.asarray(dictionary), jnp.asarray(squares), jnp.asarray(products)
    codes = dictionary.shape[-1]
    if dictionary.ndim != 2 or a.shape != (codes, codes) or b.shape != dictionary.shape:
        raise ValueError(
            "update_dictionary(dictionary, squares, products) must be (inputs, codes), (codes, "
            f"codes), (inputs, codes), got {dictionary.shape}, {a.shape}, {b.shape}"
        )
    if sweeps < 0:
        raise ValueError(f"update_dictionary(sweeps=...) must be >= 0, got {sweeps}")

    def update(i: Array, d: Array) -> Array:
        j = i % codes
        used = a[j, j] > 0
        u = d[:, j] + (b[:, j] - d @ a[:, j]) / jnp.where(used, a[j, j], 1)
        u = u / jnp.maximum(jnp.sqrt(jnp.square(u).sum()), 1)
        return d.at[:, j].set(jnp.where(used, u, d[:, j]))

    return jax.lax.fori_loop(0, sweeps * codes, update, dictionary)
