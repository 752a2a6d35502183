"""Laplace outputs: the median of the target and the mean distance from it."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.losses.regression import absolute_error
from fdl.outputs.raw import against, check_options, positive, raw_of, sample_of, split
from fdl.outputs.unit import OutputUnit
from fdl.types import Array


class Laplace(NamedTuple):
    """A Laplace (double exponential) distribution with independent dimensions.

    -log p(y) = sum_i |y_i - mu_i| / b_i + log(2 b_i)

    Attributes:
      loc: mu, shape (..., d), floating point.
      scale: b, the same shape, > 0, in the target's unit.

    Example:
      >>> round(float(Laplace(jnp.zeros(1), jnp.ones(1)).nll(jnp.array([2.0]))), 4)
      2.6931

    Source: DLB 3.9.4.
    """

    loc: Array
    scale: Array

    def nll(self, y: ArrayLike) -> Array:
        """Return -log p(y) in nats, shape (...,), for y of shape (..., d); slope 0 at y = mu."""
        y, loc, scale = against("Laplace.nll", y, *self)
        return (absolute_error(loc, y) / scale + jnp.log(2 * scale)).sum(-1)

    def mean(self) -> Array:
        """Return mu."""
        return self.loc

    def mode(self) -> Array:
        """Return mu."""
        return self.loc

    def variance(self) -> Array:
        """Return 2 b^2."""
        return 2 * jnp.square(self.scale)

    def entropy(self) -> Array:
        """Return the expected -log p(y) in nats, shape (...,)."""
        return (1 + jnp.log(2 * self.scale)).sum(-1)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        """Draw targets of shape (*shape, ..., d)."""
        shape = (*shape, *self.loc.shape)
        noise = jax.random.laplace(key, shape, self.loc.dtype)
        return jnp.broadcast_to(self.loc, shape) + jnp.broadcast_to(self.scale, shape) * noise


def laplace(dimensions: int, *, floor: float = 1e-6) -> OutputUnit:
    """Make Laplace units: raw = (mu, r), d numbers each, b = softplus(r) + sqrt(floor).

    The loss of mu is the absolute error over b, so outliers pull no harder than others. `fit` gives
    the median and the mean distance from it.

    Args:
      dimensions: d of the target, >= 1.
      floor: the smallest b^2, >= 0, in the target's unit squared.

    Returns:
      A unit of 2 d raw outputs.

    Raises:
      ValueError: when an argument is out of range.

    Example:
      >>> unit = laplace(1)
      >>> plain = unit.distribution(unit.fit(jnp.array([[0.0], [1.0], [50.0]])))
      >>> [round(float(a[0]), 2) for a in plain]
      [1.0, 16.67]

    Source: DLB 6.2.2, 3.9.4.
    """
    check_options("laplace", dimensions=dimensions, floor=floor)
    least = math.sqrt(floor)

    def distribution(raw: ArrayLike) -> Laplace:
        loc, r = split("laplace", raw, dimensions, dimensions)
        return Laplace(loc, positive(r, least))

    def fit(y: ArrayLike) -> Array:
        y = sample_of("laplace", y, dimensions)
        middle = jnp.median(y, axis=0)
        return jnp.concatenate([middle, raw_of(jnp.abs(y - middle[None]).mean(0), least)])

    return OutputUnit(2 * dimensions, distribution, fit)
