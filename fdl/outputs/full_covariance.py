"""Gaussian outputs with any covariance, by a triangular factor of it or of its inverse."""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike

from fdl.outputs.raw import check_options, check_target, positive, raw_of, sample_of, split
from fdl.outputs.unit import OutputUnit
from fdl.types import Array

LOG_2PI = math.log(2 * math.pi)


class FullGaussian(NamedTuple):
    """A normal distribution of covariance L L'.

    -log p(y) = |L^-1 (y - mu)|^2 / 2 + sum_i log L_ii + d/2 log 2 pi

    L^-1 (y - mu) is solved for, nothing is inverted.

    Attributes:
      loc: mu, shape (..., d), floating point.
      scale_tril: L, shape (..., d, d), lower triangular with a positive diagonal.

    Example:
      >>> tall = FullGaussian(jnp.zeros(2), jnp.array([[1.0, 0.0], [2.0, 0.5]]))
      >>> tall.covariance()
      Array([[1.  , 2.  ],
             [2.  , 4.25]], dtype=float32)

    Source: DLB 3.9.3, 6.2.2.4.
    """

    loc: Array
    scale_tril: Array

    def nll(self, y: ArrayLike) -> Array:
        """Return -log p(y) in nats, shape (...,), for y of shape (..., d)."""
        residual, factor = _residual("FullGaussian.nll", y, *self)
        white = solve_triangular(factor, residual[..., None], lower=True)[..., 0]
        return 0.5 * (jnp.square(white) + LOG_2PI).sum(-1) + _log_diagonal(factor)

    def mean(self) -> Array:
        """Return mu."""
        return self.loc

    def mode(self) -> Array:
        """Return mu."""
        return self.loc

    def covariance(self) -> Array:
        """Return L L', shape (..., d, d)."""
        return self.scale_tril @ self.scale_tril.mT

    def variance(self) -> Array:
        """Return the diagonal of the covariance, shape (..., d)."""
        return jnp.square(self.scale_tril).sum(-1)

    def entropy(self) -> Array:
        """Return the expected -log p(y) in nats, shape (...,)."""
        return 0.5 * self.loc.shape[-1] * (1 + LOG_2PI) + _log_diagonal(self.scale_tril)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        """Draw mu + L e, shape (*shape, ..., d)."""
        shape = (*shape, *self.loc.shape)
        noise = jax.random.normal(key, shape, self.loc.dtype)
        factor = jnp.broadcast_to(self.scale_tril, (*shape, shape[-1]))
        return jnp.broadcast_to(self.loc, shape) + (factor @ noise[..., None])[..., 0]


class FullPrecisionGaussian(NamedTuple):
    """A normal distribution of precision (inverse covariance) W' W.

    -log p(y) = |W (y - mu)|^2 / 2 - sum_i log W_ii + d/2 log 2 pi

    Attributes:
      loc: mu, shape (..., d), floating point.
      precision_tril: W, shape (..., d, d), lower triangular with a positive diagonal.

    Example:
      >>> narrow = FullPrecisionGaussian(jnp.zeros(2), jnp.array([[1.0, 0.0], [0.0, 2.0]]))
      >>> narrow.variance()
      Array([1.  , 0.25], dtype=float32)

    Source: DLB 3.9.3, 6.2.2.4; Williams 1996, Using neural networks to model conditional
    multivariate densities.
    """

    loc: Array
    precision_tril: Array

    def nll(self, y: ArrayLike) -> Array:
        """Return -log p(y) in nats, shape (...,), for y of shape (..., d)."""
        residual, factor = _residual("FullPrecisionGaussian.nll", y, *self)
        white = (factor @ residual[..., None])[..., 0]
        return 0.5 * (jnp.square(white) + LOG_2PI).sum(-1) - _log_diagonal(factor)

    def mean(self) -> Array:
        """Return mu."""
        return self.loc

    def mode(self) -> Array:
        """Return mu."""
        return self.loc

    def covariance(self) -> Array:
        """Return W^-1 W^-T, shape (..., d, d)."""
        inverse = _inverse(self.precision_tril)
        return inverse @ inverse.mT

    def variance(self) -> Array:
        """Return the diagonal of the covariance, shape (..., d)."""
        return jnp.square(_inverse(self.precision_tril)).sum(-1)

    def entropy(self) -> Array:
        """Return the expected -log p(y) in nats, shape (...,)."""
        return 0.5 * self.loc.shape[-1] * (1 + LOG_2PI) - _log_diagonal(self.precision_tril)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        """Draw mu + W^-1 e, shape (*shape, ..., d)."""
        shape = (*shape, *self.loc.shape)
        noise = jax.random.normal(key, shape, self.loc.dtype)
        factor = jnp.broadcast_to(self.precision_tril, (*shape, shape[-1]))
        spread = solve_triangular(factor, noise[..., None], lower=True)[..., 0]
        return jnp.broadcast_to(self.loc, shape) + spread


By = Literal["covariance", "precision"]


def full_covariance(dimensions: int, *, by: By = "covariance", floor: float = 1e-6) -> OutputUnit:
    """Make Gaussian units whose covariance depends on the input: raw = (mu, diagonal, below it).

    The diagonal of the factor is softplus(r) + sqrt(floor); the d (d - 1) / 2 numbers below it come
    row by row. `fit` gives the mean and the scatter / n. Where that is singular (examples no more
    than dimensions, or one dimension a linear function of others) the likelihood has no upper
    bound; machine precision or the floor then stands for a deviation of 0.

    Args:
      dimensions: d of the target, >= 1.
      by: what the factor is of: "covariance" = L L', "precision" = W' W. The second's likelihood
        only multiplies, the first's solves a triangular system.
      floor: the square of the factor's smallest diagonal, >= 0.

    Returns:
      A unit of 2 d + d (d - 1) / 2 raw outputs.

    Raises:
      ValueError: when an argument is out of range.

    Example:
      >>> unit = full_covariance(2)
      >>> y = jnp.array([[0.0, 0.0], [2.0, 2.0], [0.0, 2.0], [2.0, 4.0]])
      >>> unit.size, unit.distribution(unit.fit(y)).covariance().round(3)
      (5, Array([[1., 1.],
             [1., 2.]], dtype=float32))

    Source: DLB 6.2.2.4.
    """
    check_options("full_covariance", dimensions=dimensions, floor=floor)
    if by not in ("covariance", "precision"):
        raise ValueError(f'full_covariance(by=...) must be "covariance" or "precision", got {by!r}')
    least, below = math.sqrt(floor), dimensions * (dimensions - 1) // 2
    family = FullGaussian if by == "covariance" else FullPrecisionGaussian
    diagonal, lower = jnp.diag_indices(dimensions), jnp.tril_indices(dimensions, -1)

    def distribution(raw: ArrayLike) -> FullGaussian | FullPrecisionGaussian:
        loc, r, low = split("full_covariance", raw, dimensions, dimensions, below)
        factor = jnp.zeros((*loc.shape, dimensions), loc.dtype)
        factor = factor.at[..., *lower].set(low).at[..., *diagonal].set(positive(r, least))
        return family(loc, factor)

    def fit(y: ArrayLike) -> Array:
        y = sample_of("full_covariance", y, dimensions)
        factor = _scatter_factor(y)
        if by == "precision":
            factor = _inverse(factor)
        parts = [y.mean(0), raw_of(factor[diagonal], least), factor[lower]]
        return jnp.concatenate(parts)

    return OutputUnit(2 * dimensions + below, distribution, fit)


def _scatter_factor(y: Array) -> Array:
    """Return L of scatter / n = L L' by QR, which a singular scatter does not break."""
    n, d = y.shape
    centred = (y - y.mean(0, keepdims=True)) / math.sqrt(n)
    centred = jnp.concatenate([centred, jnp.zeros((max(d - n, 0), d), y.dtype)])
    factor = jnp.linalg.qr(centred, mode="r").T
    factor = factor * jnp.where(jnp.diagonal(factor) < 0, -1, 1)[None]
    smallest = jnp.finfo(y.dtype).eps * jnp.maximum(jnp.abs(factor).max(), jnp.finfo(y.dtype).tiny)
    return factor + jnp.diag(jnp.maximum(smallest - jnp.diagonal(factor), 0))


def _residual(method: str, y: ArrayLike, loc: Array, factor: Array) -> tuple[Array, Array]:
    """Return y - mu, and the factor for each target."""
    y = jnp.asarray(y, loc.dtype)
    check_target(method, y, loc.shape)
    residual = y - jnp.broadcast_to(loc, y.shape)
    return residual, jnp.broadcast_to(factor, (*y.shape, y.shape[-1]))


def _log_diagonal(factor: Array) -> Array:
    return jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)


def _inverse(factor: Array) -> Array:
    identity = jnp.broadcast_to(jnp.eye(factor.shape[-1], dtype=factor.dtype), factor.shape)
    return solve_triangular(factor, identity, lower=True)
