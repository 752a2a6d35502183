"""The distance between images that may move along their tangents before they are compared."""

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from fdl.types import Array


def tangent_distance(
    x: ArrayLike,
    y: ArrayLike,
    x_tangents: ArrayLike,
    y_tangents: ArrayLike | None = None,
    *,
    ridge: float | Array = 0.0,
) -> Array:
    """Compute the squared distance between two tangent planes.

    one-sided: min_a    |x + a.T_x - y|^2         + ridge |a|^2
    two-sided: min_{a,b} |x + a.T_x - y - b.T_y|^2 + ridge (|a|^2 + |b|^2)

    Between 0 and the squared Euclidean distance, which it becomes as the ridge grows; the two-sided
    one is symmetric and at most the one-sided. It does not change, to first order, when an image
    moves along its tangents. The ridge keeps planes of many tangents from meeting far from the
    images, where a tangent is no image any more: without one, 14 free directions bring any two
    small images close together. Tangents of unit length share it fairly.

    Args:
      x: (..., d), floating point; leading axes of all arguments broadcast.
      y: (..., d).
      x_tangents: T_x, (..., k, d); they may be linearly dependent.
      y_tangents: T_y, (..., m, d); None: one-sided.
      ridge: >= 0, of the unit of (x / a)^2.

    Returns:
      Squared distances, (...), float32 at least. Differentiable in the images and the tangents.

    Raises:
      ValueError: when shapes do not fit or the ridge is negative.

    Example:
      >>> x, y, across = jnp.array([0.0, 0.0]), jnp.array([3.0, 4.0]), jnp.array([[1.0, 0.0]])
      >>> float(tangent_distance(x, y, across)), float(tangent_distance(x, y, across, ridge=1e9))
      (16.0, 25.0)

    Source: Simard et al. 1993, Efficient pattern recognition using a new transformation distance;
    DLB 7.14. There the ridge is a spring between an image and its plane, here it weighs the
    coefficients.
    """
    x, y, own = jnp.asarray(x), jnp.asarray(y), jnp.asarray(x_tangents)
    # one-sided is two-sided without tangents of y
    other = own[..., :0, :] if y_tangents is None else jnp.asarray(y_tangents)
    _check(x, y, own, other, ridge)
    x, y, own, other = _aligned(x, y, own, other)
    delta = x - y
    matrix = _blocks(_products(own, own), -_products(own, other), _products(other, other))
    right = _joined(-_along(own, delta), _along(other, delta))
    coefficients = _least(matrix, right, ridge)
    a, b = jnp.split(coefficients, [own.shape[-2]], axis=-1)
    rest = delta + _combine(a, own) - _combine(b, other)
    return (rest**2).sum(-1) + ridge * (coefficients**2).sum(-1)


def tangent_distances(
    x: ArrayLike,
    y: ArrayLike,
    x_tangents: ArrayLike,
    y_tangents: ArrayLike | None = None,
    *,
    ridge: float | Array = 0.0,
) -> Array:
    """Compute `tangent_distance` between every x_i and every y_j.

    One row after another: memory grows with M d, not with N M d.

    Args:
      x: (N, d).
      y: (M, d).
      x_tangents: (N, k, d).
      y_tangents: (M, m, d); None: one-sided, with the tangents of x.
      ridge: as in `tangent_distance`.

    Returns:
      Squared distances, (N, M).

    Raises:
      ValueError: as `tangent_distance`.

    Example:
      >>> x, across = jnp.array([[0.0, 0.0], [3.0, 4.0]]), jnp.array([[[1.0, 0.0]]] * 2)
      >>> tangent_distances(x, x, across, across).tolist()
      [[0.0, 16.0], [16.0, 0.0]]
    """
    y = jnp.asarray(y)
    return lax.map(
        lambda row: tangent_distance(row[0], y, row[1], y_tangents, ridge=ridge),
        (jnp.asarray(x), jnp.asarray(x_tangents)),
    )


def _aligned(*arrays: Array) -> list[Array]:
    """Give all one dtype and, behind images and tangents alike, as many leading axes."""
    dtype = jnp.result_type(jnp.float32, *arrays)
    leading = [a.ndim - kind for a, kind in zip(arrays, (1, 1, 2, 2), strict=True)]
    return [
        a.astype(dtype).reshape((1,) * (max(leading) - n) + a.shape)
        for a, n in zip(arrays, leading, strict=True)
    ]


def _products(a: Array, b: Array) -> Array:
    """Inner products of tangents, (..., k, m), in full precision on every device."""
    return jnp.einsum("...kd,...md->...km", a, b, precision=lax.Precision.HIGHEST)


def _along(vectors: Array, delta: Array) -> Array:
    return jnp.einsum("...kd,...d->...k", vectors, delta, precision=lax.Precision.HIGHEST)


def _combine(coefficients: Array, vectors: Array) -> Array:
    return jnp.einsum("...k,...kd->...d", coefficients, vectors, precision=lax.Precision.HIGHEST)


def _blocks(a: Array, b: Array, c: Array) -> Array:
    """Return [[a, b], [b', c]] with leading axes broadcast."""
    lower = _joined(jnp.swapaxes(b, -1, -2), c)
    return jnp.swapaxes(_joined(*(jnp.swapaxes(m, -1, -2) for m in (_joined(a, b), lower))), -1, -2)


def _joined(a: Array, b: Array) -> Array:
    """Put b behind a along the last axis; all other axes broadcast."""
    batch = jnp.broadcast_shapes(a.shape[:-1], b.shape[:-1])
    return jnp.concatenate([jnp.broadcast_to(m, (*batch, m.shape[-1])) for m in (a, b)], -1)


def _least(matrix: Array, right: Array, ridge: float | Array) -> Array:
    """Return the shortest c that minimises c'Mc - 2 r'c + ridge |c|^2, M positive semidefinite.

    Kept from differentiation: at a minimum the derivative through c is 0.
    """
    matrix, right = lax.stop_gradient((matrix, right))
    values, vectors = jnp.linalg.eigh(matrix)
    # tangents may depend on each other: directions that only rounding makes up are left out
    tolerance = values.shape[-1] * jnp.finfo(values.dtype).eps
    kept = values > tolerance * values.max(-1, keepdims=True, initial=0)
    factors = jnp.where(kept, 1 / jnp.where(kept, values + ridge, 1), 0)
    inner = jnp.einsum("...ij,...i->...j", vectors, right, precision=lax.Precision.HIGHEST)
    return jnp.einsum("...ij,...j->...i", vectors, factors * inner, precision=lax.Precision.HIGHEST)


def _check(x: Array, y: Array, own: Array, other: Array, ridge: float | Array) -> None:
    if isinstance(ridge, float | int) and not ridge >= 0:
        raise ValueError(f"tangent_distance(ridge=...) must be >= 0, got {ridge}")
    if x.ndim < 1 or y.ndim < 1 or x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"tangent_distance(x, y) must be (..., d) with one d, got {x.shape} and {y.shape}"
        )
    for name, vectors in (("x_tangents", own), ("y_tangents", other)):
        if vectors.ndim < 2 or vectors.shape[-1] != x.shape[-1]:
            raise ValueError(
                f"tangent_distance({name}) must be (..., k, {x.shape[-1]}), got {vectors.shape}"
            )
