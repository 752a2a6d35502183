"""Gaussian outputs with independent dimensions: of variance 1, or with a variance of each input."""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.outputs.raw import (
    against,
    check_options,
    positive,
    raw_of,
    sample_of,
    split,
)
from fdl.outputs.unit import OutputUnit
from fdl.types import Array

LOG_2PI = math.log(2 * math.pi)


class Gaussian(NamedTuple):
    """A normal distribution with independent dimensions.

    -log p(y) = sum_i (beta_i (y_i - mu_i)^2 - log beta_i + log 2 pi) / 2

    Made from the precision, whose likelihood only multiplies, where the variance's divides. Its
    logarithm goes beside it since each unit knows it better than it could be worked out again.

    Attributes:
      loc: mu, shape (..., d), floating point.
      precision: beta, the same shape, > 0; one over the variance, in the target's unit to the -2.
      log_precision: log beta, the same shape.

    Example:
      >>> standard = Gaussian(jnp.zeros(2), jnp.ones(2), jnp.zeros(2))
      >>> round(float(standard.nll(jnp.array([1.0, 1.0]))), 4)
      2.8379

    Source: DLB 6.2.2.4.
    """

    loc: Array
    precision: Array
    log_precision: Array

    def nll(self, y: ArrayLike) -> Array:
        """Return -log p(y) in nats, shape (...,), for y of shape (..., d)."""
        y, loc, precision, log_precision = against("Gaussian.nll", y, *self)
        return 0.5 * (precision * jnp.square(y - loc) - log_precision + LOG_2PI).sum(-1)

    def mean(self) -> Array:
        """Return mu."""
        return self.loc

    def mode(self) -> Array:
        """Return mu."""
        return self.loc

    def variance(self) -> Array:
        """Return 1 / beta."""
        return jnp.exp(-self.log_precision)

    def entropy(self) -> Array:
        """Return the expected -log p(y) in nats, shape (...,)."""
        return 0.5 * (1 + LOG_2PI - self.log_precision).sum(-1)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        """Draw mu + e / sqrt(beta), shape (*shape, ..., d)."""
        shape = (*shape, *self.loc.shape)
        noise = jax.random.normal(key, shape, self.loc.dtype)
        scale = jnp.exp(-0.5 * self.log_precision)
        return jnp.broadcast_to(self.loc, shape) + jnp.broadcast_to(scale, shape) * noise


def linear_gaussian(dimensions: int) -> OutputUnit:
    """Make linear units: raw = mu of a Gaussian of variance 1.

    Its loss is half the squared error and a constant, with the same gradient mu - y. `fit` gives
    the mean.

    Args:
      dimensions: d of the target, >= 1.

    Returns:
      A unit of d raw outputs.

    Raises:
      ValueError: when d is below 1.

    Example:
      >>> unit = linear_gaussian(2)
      >>> jax.grad(lambda raw: unit.distribution(raw).nll(jnp.array([1.0, 5.0])))(jnp.zeros(2))
      Array([-1., -5.], dtype=float32)

    Source: DLB 6.2.2.1.
    """
    check_options("linear_gaussian", dimensions=dimensions)

    def distribution(raw: ArrayLike) -> Gaussian:
        (loc,) = split("linear_gaussian", raw, dimensions)
        return Gaussian(loc, jnp.ones_like(loc), jnp.zeros_like(loc))

    def fit(y: ArrayLike) -> Array:
        return sample_of("linear_gaussian", y, dimensions).mean(0)

    return OutputUnit(dimensions, distribution, fit)


By = Literal["precision", "variance", "log_variance"]


def heteroscedastic(dimensions: int, *, by: By = "precision", floor: float = 1e-6) -> OutputUnit:
    """Make Gaussian units whose spread depends on the input, too: raw = (mu, r), d numbers each.

    "precision":     beta = softplus(r) + floor
    "variance":      1 / beta = softplus(r) + floor
    "log_variance":  1 / beta = exp(r) + floor

    The precision is the book's choice: its likelihood multiplies, and takes the logarithm of what
    grows no faster than r. Divisions by a small variance make steep gradients, and so do the
    exponentials. `fit` gives the mean and the mean squared residual of each dimension.

    Args:
      dimensions: d of the target, >= 1.
      by: what the network's outputs r mean.
      floor: the smallest precision, or the smallest variance, >= 0, in the target's unit to the -2
        or 2: without one the likelihood has no upper bound where an example can be learned by
        heart. With 0 the loss reaches infinity at r < -100.

    Returns:
      A unit of 2 d raw outputs.

    Raises:
      ValueError: when an argument is out of range.

    Example:
      >>> y = jnp.array([[1.0], [3.0], [5.0]])
      >>> unit = heteroscedastic(1, by="variance", floor=0.0)
      >>> plain = unit.distribution(unit.fit(y))
      >>> [round(float(a[0]), 4) for a in (plain.mean(), plain.variance())]
      [3.0, 2.6667]

    Source: DLB 6.2.2.4; Nix and Weigend 1994, Estimating the mean and variance of the target
    probability distribution.
    """
    check_options("heteroscedastic", dimensions=dimensions, floor=floor)
    if by not in ("precision", "variance", "log_variance"):
        raise ValueError(
            f'heteroscedastic(by=...) must be "precision", "variance" or "log_variance", got {by!r}'
        )

    def distribution(raw: ArrayLike) -> Gaussian:
        loc, r = split("heteroscedastic", raw, dimensions, dimensions)
        if by == "log_variance":
            log_variance = jnp.logaddexp(r, math.log(floor)) if floor else r
            return Gaussian(loc, jnp.exp(-log_variance), -log_variance)
        value = positive(r, floor)
        if by == "variance":
            return Gaussian(loc, 1 / value, -jnp.log(value))
        return Gaussian(loc, value, jnp.log(value))

    def fit(y: ArrayLike) -> Array:
        y = sample_of("heteroscedastic", y, dimensions)
        variance = jnp.maximum(y.var(0), jnp.finfo(y.dtype).tiny)
        r = {
            "precision": lambda: raw_of(1 / variance, floor),
            "variance": lambda: raw_of(variance, floor),
            "log_variance": lambda: jnp.log(jnp.maximum(variance - floor, jnp.finfo(y.dtype).tiny)),
        }[by]()
        return jnp.concatenate([y.mean(0), r])

    return OutputUnit(2 * dimensions, distribution, fit)
