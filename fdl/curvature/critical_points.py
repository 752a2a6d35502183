"""What the Hessian says about a point: its kind, its definiteness, its condition."""

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fdl import tree
from fdl.curvature.dense import hessian
from fdl.types import Array, Params


class Kind(IntEnum):
    """The kinds of points that `classify_critical_point` tells apart."""

    MINIMUM = 0  # all eigenvalues positive
    MAXIMUM = 1  # all negative
    SADDLE = 2  # some positive, some negative
    DEGENERATE = 3  # some zero and the others of one sign: second derivatives do not tell
    NOT_CRITICAL = 4  # the gradient is not zero


class CriticalPoint(NamedTuple):
    """A point seen by its first and second derivatives.

    Attributes:
      kind: a `Kind`, int32 scalar.
      grad_norm: |grad|, scalar.
      eigenvalues: of the Hessian, ascending, [n].
      downhill: the number of negative eigenvalues (the index of a saddle), int32 scalar.
    """

    kind: Array
    grad_norm: Array
    eigenvalues: Array
    downhill: Array


def classify_critical_point(
    fun: Callable[[Params], Array],
    params: Params,
    *,
    grad_tol: float = 1e-4,
    eig_rtol: float | None = None,
) -> CriticalPoint:
    """Tell minimum, maximum, saddle and degenerate point apart by the Hessian's eigenvalues.

    Args:
      fun: params -> scalar.
      params: arrays of any shape, n real numbers in all; the Hessian is written out, [n, n].
      grad_tol: a point counts as critical when |grad| <= grad_tol.
      eig_rtol: an eigenvalue counts as zero when |e| <= eig_rtol max|e|; n machine epsilons, but
        ten at least, by default.

    Returns:
      A `CriticalPoint`.

    Example:
      >>> point = classify_critical_point(lambda x: x[0] ** 2 - x[1] ** 2, jnp.zeros(2))
      >>> Kind(int(point.kind)).name, int(point.downhill), point.eigenvalues.tolist()
      ('SADDLE', 1, [-2.0, 2.0])

    Source: DLB 4.3.1; Dauphin et al. 2014.
    """
    flat, unravel = tree.ravel(params)
    grad = jax.grad(lambda x: fun(unravel(x)))(flat)
    values = jnp.linalg.eigvalsh(hessian(fun, params))
    zero = _rtol(eig_rtol, values) * tree.max_abs(values)
    up, down = (values > zero).sum(), (values < -zero).sum()
    n = values.size
    kind = jnp.where((up > 0) & (down > 0), Kind.SADDLE, Kind.DEGENERATE)
    kind = jnp.where((up == n) & (n > 0), Kind.MINIMUM, kind)
    kind = jnp.where((down == n) & (n > 0), Kind.MAXIMUM, kind)
    size = tree.norm(grad)
    # written so that a gradient of NaN is not critical
    kind = jnp.where(size <= grad_tol, kind, Kind.NOT_CRITICAL)
    return CriticalPoint(kind.astype(jnp.int32), size, values, down.astype(jnp.int32))


def is_positive_definite(matrix: Array, *, rtol: float | None = None) -> Array:
    """Tell whether all eigenvalues of a symmetric matrix are positive: e_min > rtol max|e|.

    Args:
      matrix: symmetric, [n, n].
      rtol: n machine epsilons, but ten at least, by default.

    Returns:
      A boolean scalar; False where the matrix holds a NaN.

    Example:
      >>> bool(is_positive_definite(jnp.array([[2.0, 1.0], [1.0, 2.0]])))
      True
      >>> bool(is_positive_definite(jnp.array([[1.0, 2.0], [2.0, 1.0]])))
      False

    Source: DLB 2.7.
    """
    values = jnp.linalg.eigvalsh(_square("is_positive_definite", matrix))
    return (values > _rtol(rtol, values) * jnp.abs(values).max(initial=0)).all()


def condition_number(matrix: Array) -> Array:
    """Return max|e| / min|e| over the eigenvalues of a symmetric matrix; inf where one is 0.

    How much longer gradient descent takes than Newton's method: its error falls by
    (c - 1) / (c + 1) a step on a quadratic of condition c, with the best step size.

    Args:
      matrix: symmetric, [n, n]. For operators that are not written out take the quotient of
        `fdl.curvature.extreme_eigenpairs`, where all eigenvalues are positive.

    Returns:
      A scalar >= 1.

    Example:
      >>> float(condition_number(jnp.diag(jnp.array([-8.0, 2.0]))))
      4.0

    Source: DLB 4.2, equation 4.2.
    """
    sizes = jnp.abs(jnp.linalg.eigvalsh(_square("condition_number", matrix)))
    return sizes.max() / sizes.min()


def _square(name: str, matrix: Array) -> Array:
    matrix = jnp.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"{name}(matrix=...) must be of shape (n, n), got {matrix.shape}")
    return matrix.astype(tree.dtype(matrix))


def _rtol(given: float | None, values: Array) -> float:
    least = max(10, values.size) * float(jnp.finfo(values.dtype).eps)
    return least if given is None else given
