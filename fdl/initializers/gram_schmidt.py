"""Orthogonal weights by the method of Gram and Schmidt."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from fdl.initializers.form import Initializer, initializer
from fdl.types import Array, DTypeLike

HIGHEST = lax.Precision.HIGHEST


def orthonormalise(matrix: Array) -> Array:
    """Orthonormalise the columns of a matrix, one after another (Gram and Schmidt).

    q_j = a_j - sum_{i<j} (q_i'a_j) q_i, twice, divided by its norm

    Each column loses what it shares with those before it a second time, so that rounding does not
    add up: Q'Q = I to a few units in the last place, however close to dependent the columns are.
    The result is that of a QR factorisation with a positive diagonal of R.

    Args:
      matrix: [m, n], m >= n, floating point; its columns must be independent.

    Returns:
      Q, [m, n].

    Raises:
      ValueError: for more columns than rows.

    Example:
      >>> q = orthonormalise(jnp.array([[3.0, 1.0], [4.0, 2.0]]))
      >>> [[round(float(x), 4) for x in row] for row in q]
      [[0.6, -0.8], [0.8, 0.6]]

    Source: Golub and Van Loan 2013, section 5.2.7; twice is enough: Giraud et al. 2005.
    """
    m, n = matrix.shape
    if m < n:
        raise ValueError(f"orthonormalise(matrix) must have rows >= columns, got {(m, n)}")

    def column(q: Array, j: Array) -> tuple[Array, None]:
        a = matrix[:, j]
        for _ in range(2):  # columns that are still to come are 0 in q and take nothing away
            a = a - jnp.dot(q, jnp.dot(a, q, precision=HIGHEST), precision=HIGHEST)
        return q.at[:, j].set(a / jnp.linalg.norm(a)), None

    return lax.scan(column, jnp.zeros_like(matrix), jnp.arange(n))[0]


def gram_schmidt(scale: float = 1.0) -> Initializer:
    """Draw orthogonal weights: a Gaussian matrix, orthonormalised by Gram and Schmidt, times scale.

    Uniform among all orthogonal matrices, as `orthogonal`, which uses a QR factorisation and is
    faster. A kernel (..., inputs, outputs) is a matrix of all inputs against outputs; the smaller
    side is orthonormal.

    Args:
      scale: gain, such as 2^(1/2) for rectifiers.

    Returns:
      `(key, shape, dtype) -> array`.

    Raises:
      ValueError: from the initializer, for a shape of less than two axes.

    Example:
      >>> w = gram_schmidt()(jax.random.key(0), (4, 3), jnp.float32)
      >>> bool(jnp.allclose(w.T @ w, jnp.eye(3), atol=1e-6))
      True

    Source: Saxe et al. 2013, arXiv 1312.6120; DLB 8.4.
    """

    def draw(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        if len(shape) < 2:
            raise ValueError(f"gram_schmidt(shape) must have two axes or more, got {shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        tall = (max(rows, columns), min(rows, columns))
        wide = jnp.promote_types(dtype, jnp.float32)
        q = orthonormalise(jax.random.normal(key, tall, wide))
        return (scale * (q if rows >= columns else q.T)).reshape(shape).astype(dtype)

    return initializer(draw)
