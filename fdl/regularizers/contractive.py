"""The contractive penalty of an encoder, and the tangents that such an encoder has learned."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from fdl.types import Array

ROWS = 64  # Jacobians that are held at a time


def contractive_sigmoid(code: ArrayLike, kernel: ArrayLike) -> Array:
    """Compute the squared norm of the Jacobian of h = sigmoid(x W + b), in closed form.

    |dh/dx|_F^2 = sum_j (h_j (1 - h_j))^2 |W_:j|^2

    Added to a reconstruction error it keeps the code constant in all directions but those that
    the reconstruction needs: the tangents of the data's manifold.

    Args:
      code: h, (b, m), in [0, 1].
      kernel: W, (d, m).

    Returns:
      A value for each example, (b,); write its mean, times a strength, into the objective.

    Raises:
      ValueError: when shapes do not fit.

    Example:
      >>> contractive_sigmoid(jnp.array([[0.5]]), jnp.array([[4.0]])).tolist()
      [1.0]

    Source: Rifai et al. 2011, Contractive auto-encoders, equation 7; DLB 14.7.
    """
    h, w = jnp.asarray(code), jnp.asarray(kernel)
    if h.ndim != 2 or w.ndim != 2 or h.shape[1] != w.shape[1]:
        raise ValueError(
            f"contractive_sigmoid(code, kernel) must be (b, m) and (d, m), got {h.shape}, {w.shape}"
        )
    return ((h * (1 - h)) ** 2 * (w**2).sum(0)[None]).sum(-1)


def leading_tangents(
    encode: Callable[[Array], Array], x: ArrayLike, *, count: int, threshold: float = 0.0
) -> Array:
    """Find the directions of each input to which its code responds most.

    dh/dx = U S V', and the tangents are the rows of V' with the largest singular values.

    They come from the eigenvectors of a product of dh/dx with itself, which is several times faster
    than the decomposition and no worse for the leading ones.

    Of a contractive auto-encoder they span the tangent plane of the data's manifold at x. They
    have unit length and are orthogonal; their signs are arbitrary.

    Args:
      encode: inputs (b, d) -> codes (b, m), example by example.
      x: inputs, (n, d), floating point.
      count: tangents of an input, in 1..min(d, m).
      threshold: tangents whose singular value is at most this share of the largest are set to 0.

    Returns:
      (n, count, d). Jacobians of 64 inputs are held at a time.

    Raises:
      ValueError: for a count or threshold out of range, or inputs or codes of another form.

    Example:
      >>> encode = lambda x: x @ jnp.array([[0.0, 1.0], [3.0, 0.0]])
      >>> jnp.abs(leading_tangents(encode, jnp.ones((1, 2)), count=1)).tolist()
      [[[0.0, 1.0]]]

    Source: Rifai et al. 2011, The manifold tangent classifier, section 3; DLB 7.14, 14.6.
    """
    x = jnp.asarray(x)
    if x.ndim != 2 or not 0 <= threshold <= 1:
        raise ValueError(
            "leading_tangents(x, threshold=...) must be (n, d) and in [0, 1], "
            f"got {x.shape} and {threshold}"
        )
    code = jax.eval_shape(encode, x[:1]).shape
    if len(code) != 2 or not 1 <= count <= min(x.shape[1], code[1]):
        raise ValueError(
            f"leading_tangents(count=...) must lie in 1..{min(x.shape[1], code[-1])}, got {count}"
        )

    def tangents(point: Array) -> Array:
        jacobian = jax.jacobian(lambda p: encode(p[None])[0])(point)
        squares, rows = _right_singular(jacobian)
        kept = squares[:count] > threshold**2 * squares[0]
        return jnp.where(kept[:, None], rows[:count], 0)

    return lax.map(tangents, x, batch_size=ROWS)


def _right_singular(a: Array) -> tuple[Array, Array]:
    """Return squared singular values, falling, and right singular vectors as rows."""
    wide = a.shape[0] < a.shape[1]
    left, right = (a, a.T) if wide else (a.T, a)
    squares, vectors = jnp.linalg.eigh(jnp.matmul(left, right, precision=lax.Precision.HIGHEST))
    squares, rows = squares[::-1], vectors.T[::-1]
    if wide:  # from left singular vectors
        rows = jnp.matmul(rows, a, precision=lax.Precision.HIGHEST)
        rows = rows / jnp.sqrt(jnp.where(squares > 0, squares, 1))[:, None]
    return squares, rows
