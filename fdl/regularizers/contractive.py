"""The contractive penalty of an encoder, and the tangents that such an encoder has learned."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from fdl.regularizers.tangent import directional_derivatives
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


def contractive(encode: Callable[[Array], Array], x: ArrayLike) -> Array:
    """Compute the squared norm of the Jacobian of any encoder, exactly: |dh/dx|_F^2.

    Takes as many passes as a code or an input has dimensions, whichever are fewer; for long codes
    use `contractive_hutchinson`, for one sigmoid layer `contractive_sigmoid`.

    Args:
      encode: inputs (b, d) -> codes (b, m), example by example; a closure over the parameters.
      x: inputs, (b, d), floating point.

    Returns:
      A value for each example, (b,).

    Raises:
      ValueError: when inputs or codes have another form.

    Example:
      >>> encode = lambda x: x @ jnp.array([[1.0, 0.0, 2.0], [0.0, 2.0, 0.0]])
      >>> contractive(encode, jnp.ones((1, 2))).tolist()
      [9.0]

    Source: Rifai et al. 2011, Contractive auto-encoders, equation 1; DLB 14.7, equation 14.18.
    """
    x, width = _encoded("contractive", encode, x)
    if x.shape[1] <= width:
        basis = jnp.broadcast_to(
            jnp.eye(x.shape[1], dtype=x.dtype)[None], (len(x), *x.shape[1:] * 2)
        )
        return jnp.square(directional_derivatives(encode, x, basis)).sum((1, 2))
    code, pull = jax.vjp(encode, x)
    rows = jnp.broadcast_to(jnp.eye(width, dtype=code.dtype)[:, None], (width, *code.shape))
    return jnp.square(jax.vmap(lambda row: pull(row)[0])(rows)).sum((0, 2))


def contractive_hutchinson(
    encode: Callable[[Array], Array], x: ArrayLike, probes: ArrayLike
) -> Array:
    """Estimate the squared norm of the Jacobian of any encoder from a few directions.

    mean_k |J v_k|^2, J = dh/dx, whose expectation is |J|_F^2 for probes with E v v' = I

    Each probe costs one forward derivative, whatever the size of the code. Random signs have the
    smallest variance; orthogonal ones in full number leave none.

    Args:
      encode: inputs (b, d) -> codes (b, m), example by example; a closure over the parameters.
      x: inputs, (b, d), floating point.
      probes: v, (b, k, d), k >= 1, drawn for each example from its own key, as in the example.

    Returns:
      A value for each example, (b,).

    Raises:
      ValueError: when inputs, codes or probes have another form.

    Example:
      >>> keys, x = jax.random.split(jax.random.key(0), 2), jnp.ones((2, 3))
      >>> probes = jax.vmap(lambda k: jax.random.rademacher(k, (1, 3), x.dtype))(keys)
      >>> contractive_hutchinson(lambda x: 2 * x, x, probes).tolist()
      [12.0, 12.0]

    Source: Hutchinson 1989; Rifai et al. 2011, Higher order contractive auto-encoder, for another
    stochastic form; DLB 14.7.
    """
    x, _ = _encoded("contractive_hutchinson", encode, x)
    v = jnp.asarray(probes)
    if v.ndim != 3 or not v.shape[1] or (v.shape[0], v.shape[2]) != x.shape:
        raise ValueError(
            f"contractive_hutchinson(probes) must be (b, k >= 1, d) over x {x.shape}, got {v.shape}"
        )
    return jnp.square(directional_derivatives(encode, x, v)).sum(-1).mean(-1)


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


def _encoded(
    function: str, encode: Callable[[Array], Array], inputs: ArrayLike
) -> tuple[Array, int]:
    """Return the inputs and the size of a code."""
    x = jnp.asarray(inputs)
    if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{function}(x) must be floating point (b, d), got {x.dtype}{x.shape}")
    code = jax.eval_shape(encode, x).shape
    if len(code) != 2 or code[0] != len(x):
        raise ValueError(f"{function}(encode) must give codes (b, m), got {code}")
    return x, code[1]


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
