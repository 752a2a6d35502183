"""Eigenvalues of a symmetric operator that is never written out: the ends, and their density."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fdl import tree
from fdl.curvature.lanczos import HIGHEST, lanczos, tridiagonal
from fdl.curvature.products import Operator
from fdl.types import Array, PyTree


class Eigenpairs(NamedTuple):
    """Approximate eigenvalues, ascending, and their vectors.

    Attributes:
      values: [m].
      vectors: a tree of unit vectors along a leading axis of m.
      residuals: |A u - value u|, [m]; some eigenvalue is no further away than that.
    """

    values: Array
    vectors: PyTree
    residuals: Array


def extreme_eigenpairs(operator: Operator, v: PyTree, *, k: int = 1, steps: int = 50) -> Eigenpairs:
    """Return the k smallest and the k largest eigenvalues with their vectors, by Lanczos' method.

    Args:
      operator: symmetric linear function of a tree like v.
      v: arrays of any shape, n real numbers in all; where to start, a random direction as a rule:
        eigenvectors to which v is orthogonal are not found before n steps.
      k: how many at each end, >= 1.
      steps: products to make, at most n of them; 2 k at least, several times k for accuracy.

    Returns:
      `Eigenpairs` with min(2 k, n) members.

    Raises:
      ValueError: for k below 1, or steps below 2 k where n is no smaller.

    Example:
      >>> a = jnp.diag(jnp.array([-3.0, 1.0, 2.0, 5.0]))
      >>> pairs = extreme_eigenpairs(lambda v: a @ v, jnp.ones(4))
      >>> [round(float(x), 3) for x in pairs.values]
      [-3.0, 5.0]

    Source: Golub and Van Loan 2013, sections 10.1 and 10.3.
    """
    flat, unravel = tree.ravel(v)
    if k < 1:
        raise ValueError(f"extreme_eigenpairs(k=...) must be >= 1, got {k}")
    if steps < min(2 * k, flat.size):
        raise ValueError(f"extreme_eigenpairs(steps=...) must be >= 2 k = {2 * k}, got {steps}")
    found = lanczos(operator, v, steps)
    values, vectors = jnp.linalg.eigh(tridiagonal(found))
    rows = len(values)
    ends = jnp.arange(rows) if rows <= 2 * k else jnp.r_[0:k, rows - k : rows]
    inside = vectors[:, ends]
    along = jnp.dot(inside.T, found.basis, precision=HIGHEST)
    residuals = jnp.abs(found.betas[-1] * inside[-1])
    return Eigenpairs(values[ends], jax.vmap(unravel)(along), residuals)


class Dominant(NamedTuple):
    """Where the power iteration ended.

    Attributes:
      value: the eigenvalue of the largest absolute value, scalar.
      vector: a tree of norm 1.
      residual: |A u - value u|, scalar; some eigenvalue is no further away than that.
      steps: products made, int32 scalar.
    """

    value: Array
    vector: PyTree
    residual: Array
    steps: Array


def power_iteration(
    operator: Operator, v: PyTree, *, rtol: float = 1e-4, max_steps: int = 100
) -> Dominant:
    """Return the eigenvalue of the largest absolute value: u <- A u / |A u|, value = u' A u.

    It needs the memory of two vectors. The error falls by |second / first| a step, for which
    `extreme_eigenpairs` is better where the basis fits into memory; of two eigenvalues +a and -a it
    finds neither.

    Args:
      operator: symmetric linear function of a tree like v.
      v: arrays of any shape; where to start. Not 0.
      rtol: stop when |A u - value u| <= rtol |value|.
      max_steps: products at most, >= 1.

    Returns:
      A `Dominant`.

    Raises:
      ValueError: for max_steps below 1.

    Example:
      >>> a = jnp.diag(jnp.array([1.0, -4.0]))
      >>> found = power_iteration(lambda v: a @ v, jnp.ones(2))
      >>> round(float(found.value), 3)
      -4.0

    Source: Golub and Van Loan 2013, section 8.2.1.
    """
    if max_steps < 1:
        raise ValueError(f"power_iteration(max_steps=...) must be >= 1, got {max_steps}")
    flat, unravel = tree.ravel(v)

    def look(u: Array, steps: Array) -> tuple:
        image = tree.ravel(operator(unravel(u)))[0].astype(flat.dtype)
        value = jnp.dot(u, image, precision=HIGHEST)
        return u, image, value, jnp.linalg.norm(image - value * u), steps

    def unfinished(carry: tuple) -> Array:
        _, _, value, residual, steps = carry
        return (residual > rtol * jnp.abs(value)) & (steps < max_steps)

    def step(carry: tuple) -> tuple:
        _, image, _, _, steps = carry
        return look(image / jnp.linalg.norm(image), steps + 1)

    first = look(flat / jnp.linalg.norm(flat), jnp.ones((), jnp.int32))
    u, _, value, residual, steps = lax.while_loop(unfinished, step, first)
    return Dominant(value, unravel(u), residual, steps)


class SpectrumDensity(NamedTuple):
    """A density whose integral over an interval is the share of the eigenvalues there.

    Attributes:
      grid: equally spaced points, [points].
      density: [points]; the sum times the spacing is 1 up to the tails.
    """

    grid: Array
    density: Array


def lanczos_spectrum_density(
    operator: Operator,
    like: PyTree,
    key: Array,
    *,
    steps: int = 80,
    samples: int = 10,
    points: int = 1000,
    width: float = 0.01,
) -> SpectrumDensity:
    """Estimate the density of all eigenvalues by stochastic Lanczos quadrature.

    p(t) = (1/n) sum_i N(t; e_i, s^2) is the mean over random unit v of sum_j w_j N(t; r_j, s^2)
    with the eigenvalues r_j of Lanczos' T started at v, and w_j the squared first components of its
    eigenvectors.

    Args:
      operator: symmetric linear function of a tree like `like`.
      like: arrays of any shape, n real numbers in all; only shapes and types are used.
      key: PRNG key of the starting vectors.
      steps: products per start; never more than n are made.
      samples: starts, one after another; the error falls as 1 / sqrt(samples n).
      points: of the grid.
      width: s as a share of the range of the eigenvalues found; > 0.

    Returns:
      A `SpectrumDensity`; the grid reaches 5 s beyond the outermost eigenvalues found.

    Raises:
      ValueError: for samples or points below 1 or 2.

    Example:
      >>> a = jnp.diag(jnp.array([0.0, 0.0, 0.0, 1.0]))
      >>> key, like = jax.random.key(0), jnp.ones(4)
      >>> found = lanczos_spectrum_density(lambda v: a @ v, like, key, samples=400)
      >>> spacing = found.grid[1] - found.grid[0]
      >>> share = spacing * found.density[found.grid < 0.5].sum()
      >>> bool(0.7 < share < 0.8)  # three in four are 0
      True

    Source: Lin, Saad and Yang 2016; Ghorbani et al. 2019, arXiv 1901.10159, algorithm 1.
    """
    if samples < 1:
        raise ValueError(f"lanczos_spectrum_density(samples=...) must be >= 1, got {samples}")
    if points < 2:
        raise ValueError(f"lanczos_spectrum_density(points=...) must be >= 2, got {points}")
    flat, unravel = tree.ravel(like)

    def quadrature(key: Array) -> tuple[Array, Array]:
        start = jax.random.normal(key, flat.shape, flat.dtype)
        flat_operator = lambda x: tree.ravel(operator(unravel(x)))[0]  # noqa: E731
        values, vectors = jnp.linalg.eigh(tridiagonal(lanczos(flat_operator, start, steps)))
        return values, jnp.square(vectors[0])

    nodes, weights = lax.map(quadrature, jax.random.split(key, samples))
    low, high = nodes.min(), nodes.max()
    scale = jnp.maximum(jnp.abs(low), jnp.abs(high))
    # where all eigenvalues are equal there is no range to take a share of
    sigma = width * jnp.maximum(high - low, 1e-3 * jnp.where(scale > 0, scale, 1))
    grid = jnp.linspace(low - 5 * sigma, high + 5 * sigma, points)

    def at(t: Array) -> Array:
        return (weights * jax.scipy.stats.norm.pdf((t - nodes) / sigma)).sum() / (sigma * samples)

    return SpectrumDensity(grid, lax.map(at, grid))
