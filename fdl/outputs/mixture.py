"""Mixtures of Gaussians: distributions with several peaks."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.outputs.raw import check_target
from fdl.types import Array

LOG_2PI = math.log(2 * math.pi)


class Mixture(NamedTuple):
    """A mixture of k normal distributions with independent dimensions.

    p(y) = sum_k pi_k prod_i N(y_i; mu_ki, sigma_ki^2)

    The sum is taken in log space, so a target far from every component has a finite loss.

    Attributes:
      log_weights: log pi, shape (..., k), floating point; exp of it sums to 1.
      loc: mu, shape (..., k, d).
      scale: sigma, shape (..., k, d), > 0, in the target's unit.

    Example:
      >>> half = jnp.log(jnp.full(2, 0.5))
      >>> both = Mixture(half, jnp.array([[-3.0], [3.0]]), jnp.ones((2, 1)))
      >>> float(both.mean()[0]), float(both.variance()[0])
      (0.0, 10.0)

    Source: DLB 6.2.2.4, equation 6.35; Bishop 1994, Mixture density networks.
    """

    log_weights: Array
    loc: Array
    scale: Array

    def nll(self, y: ArrayLike) -> Array:
        """Return -log p(y) in nats, shape (...,), for y of shape (..., d)."""
        return -jax.nn.logsumexp(self._log_joint("nll", y), axis=-1)

    def responsibilities(self, y: ArrayLike) -> Array:
        """Return p(component | y), shape (..., k), for y of shape (..., d)."""
        return jax.nn.softmax(self._log_joint("responsibilities", y))

    def mean(self) -> Array:
        """Return sum_k pi_k mu_k, which may lie where no target ever is: shape (..., d)."""
        return (jnp.exp(self.log_weights)[..., None] * self.loc).sum(-2)

    def mode(self) -> Array:
        """Return the centre of a component at which the mixture is densest: shape (..., d).

        The mode itself lies near it where the components keep apart.
        """
        centres = jnp.moveaxis(self.loc, -2, 0)
        best = self.nll(centres).argmin(0)
        return jnp.take_along_axis(self.loc, best[..., None, None], axis=-2)[..., 0, :]

    def variance(self) -> Array:
        """Return sum_k pi_k (sigma_k^2 + (mu_k - mean)^2), shape (..., d)."""
        off = jnp.square(self.loc - self.mean()[..., None, :])
        return (jnp.exp(self.log_weights)[..., None] * (jnp.square(self.scale) + off)).sum(-2)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        """Draw a component, then the target from it: shape (*shape, ..., d)."""
        shape = (*shape, *self.log_weights.shape[:-1])
        which, noise = jax.random.split(key)
        chosen = jax.random.categorical(which, self.log_weights, shape=shape)[..., None, None]

        def of_chosen(a: Array) -> Array:
            a = jnp.broadcast_to(a, (*shape, *a.shape[-2:]))
            return jnp.take_along_axis(a, chosen, axis=-2)[..., 0, :]

        loc, scale = of_chosen(self.loc), of_chosen(self.scale)
        return loc + scale * jax.random.normal(noise, loc.shape, loc.dtype)

    def _log_joint(self, method: str, y: ArrayLike) -> Array:
        """Return log pi_k + log N(y; mu_k, sigma_k) of each component."""
        *batch, _, dimensions = self.loc.shape
        y = jnp.asarray(y, self.loc.dtype)
        check_target(f"Mixture.{method}", y, (*batch, dimensions))
        y = y[..., None, :]

        def for_each(a: Array) -> Array:
            return jnp.broadcast_to(a, (*y.shape[:-2], *a.shape[len(batch) :]))

        loc, scale = for_each(self.loc), for_each(self.scale)
        each = 0.5 * jnp.square((y - loc) / scale) + jnp.log(scale) + 0.5 * LOG_2PI
        return for_each(self.log_weights) - each.sum(-1)
