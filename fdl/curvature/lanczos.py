"""Lanczos' method: a symmetric operator seen from the subspace span(v, A v, A^2 v, ...)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fdl import tree
from fdl.curvature.products import Operator
from fdl.types import Array, PyTree

HIGHEST = lax.Precision.HIGHEST


class Lanczos(NamedTuple):
    """A V' = V' T + b_k v_{k+1} e_k', with orthonormal rows of V.

    Attributes:
      alphas: diagonal of T, [k].
      betas: [k]; all but the last stand beside the diagonal of T, the last is the norm left over.
      basis: V, [k, n] over the tree ravelled by `fdl.tree.ravel`.
    """

    alphas: Array
    betas: Array
    basis: Array


def lanczos(operator: Operator, v: PyTree, steps: int) -> Lanczos:
    """Make an orthonormal basis of the Krylov space of v in which the operator is tridiagonal.

    w = A v_j - a_j v_j - b_{j-1} v_{j-1},  b_j = |w|,  v_{j+1} = w / b_j

    w is made orthogonal to all rows before, twice: without it the method finds large eigenvalues
    again and again. Where w vanishes (the space is invariant) b_j = 0 and the next row is a new
    direction, drawn with a fixed seed; with steps = n the eigenvalues of T are therefore those of
    A, multiple ones too.

    Args:
      operator: symmetric linear function of a tree like v.
      v: arrays of any shape, n real numbers in all; where the first row points to. Not 0.
      steps: k >= 1, how many products to make; never more than n are made.

    Returns:
      A `Lanczos` with k rows, float32 at least.

    Raises:
      ValueError: for steps below 1, or a tree without numbers.

    Example:
      >>> a = jnp.diag(jnp.array([1.0, 2.0, 5.0]))
      >>> found = lanczos(lambda v: a @ v, jnp.ones(3), 3)
      >>> [round(float(x), 3) for x in jnp.linalg.eigvalsh(tridiagonal(found))]
      [1.0, 2.0, 5.0]

    Source: Golub and Van Loan 2013, section 10.3; Parlett 1998, section 6.9 ("twice is enough").
    """
    flat, unravel = tree.ravel(v)
    if steps < 1:
        raise ValueError(f"lanczos(steps=...) must be >= 1, got {steps}")
    if flat.size < 1:
        raise ValueError("lanczos(v=...) must hold at least one number, got none")
    rows = min(steps, flat.size)
    tiny = 10 * jnp.finfo(flat.dtype).eps

    def step(carry: tuple, j: Array) -> tuple[tuple, tuple]:
        basis, row, size = carry
        basis = basis.at[j].set(row)
        w, _ = tree.ravel(operator(unravel(row)))
        w = w.astype(flat.dtype)
        alpha = jnp.dot(row, w, precision=HIGHEST)
        size = jnp.maximum(size, jnp.linalg.norm(w))
        w = _orthogonal(w, basis)
        beta = jnp.linalg.norm(w)
        broken = beta <= tiny * size
        fresh = jax.random.normal(jax.random.fold_in(jax.random.key(0), j), w.shape, w.dtype)
        new = _orthogonal(_unit(_orthogonal(jnp.where(broken, fresh, w), basis)), basis)
        return (basis, _unit(new), size), (alpha, jnp.where(broken, 0, beta))

    start = (jnp.zeros((rows, flat.size), flat.dtype), _unit(flat), jnp.zeros((), flat.dtype))
    (basis, _, _), (alphas, betas) = lax.scan(step, start, jnp.arange(rows))
    return Lanczos(alphas, betas, basis)


def _orthogonal(w: Array, basis: Array) -> Array:
    for _ in range(2):
        w = w - jnp.dot(jnp.dot(basis, w, precision=HIGHEST), basis, precision=HIGHEST)
    return w


def _unit(w: Array) -> Array:
    length = jnp.linalg.norm(w)
    return w / jnp.where(length > 0, length, 1)


def tridiagonal(found: Lanczos) -> Array:
    """Return T = V A V', the operator on the subspace.

    Args:
      found: what `lanczos` returned.

    Returns:
      A symmetric tridiagonal matrix [k, k].

    Example:
      >>> two = Lanczos(jnp.array([1.0, 2.0]), jnp.array([3.0, 0.0]), jnp.eye(2))
      >>> tridiagonal(two).tolist()
      [[1.0, 3.0], [3.0, 2.0]]
    """
    inner = found.betas[:-1]
    return jnp.diag(found.alphas) + jnp.diag(inner, 1) + jnp.diag(inner, -1)
