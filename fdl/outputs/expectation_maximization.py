"""Plain mixtures of Gaussians, fitted to a sample by expectation maximisation."""

import functools
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.outputs.mixture import Mixture
from fdl.outputs.raw import check_options, sample_of
from fdl.types import Array


def fit_mixture(y: ArrayLike, components: int, *, starts: int = 8, steps: int = 200) -> Mixture:
    """Fit a plain mixture to a sample by expectation maximisation.

    E:  r_nk = p(component k | y_n)
    M:  pi_k = mean_n r_nk,  mu_k = sum_n r_nk y_n / sum_n r_nk,  sigma_k^2 likewise

    No step lowers the likelihood. From several starts, each with centres spread out by k-means++,
    the likeliest end is returned; equal data give equal fits. Deviations stay above 1/100 of the
    sample's, since the likelihood itself has no upper bound: a component on one example alone.

    Args:
      y: targets, shape (n, d), n >= 1.
      components: k >= 1.
      starts: fits to choose from, >= 1.
      steps: of each fit, >= 0.

    Returns:
      Mixture with shapes (k,), (k, d), (k, d).

    Raises:
      ValueError: when an argument is out of range.

    Example:
      >>> y = jnp.array([[0.0], [0.2], [10.0], [10.2], [9.8], [10.0]])
      >>> found = fit_mixture(y, 2)
      >>> sorted(round(float(p), 3) for p in jnp.exp(found.log_weights))
      [0.333, 0.667]

    Source: Dempster, Laird, Rubin 1977; DLB 19.2; the starts: Arthur and Vassilvitskii 2007,
    k-means++.
    """
    y = jnp.asarray(y)
    if y.ndim != 2:
        raise ValueError(f"fit_mixture(y) must be of shape (n, d), got {y.shape}")
    if starts < 1 or steps < 0:
        raise ValueError(
            f"fit_mixture(starts=..., steps=...) must be >= 1 and >= 0, got {starts} and {steps}"
        )
    check_options("fit_mixture", components=components)
    return _fit(sample_of("fit_mixture", y, y.shape[1]), components, starts, steps)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _fit(y: Array, components: int, starts: int, steps: Array | int) -> Mixture:
    centre, spread = y.mean(0), jnp.maximum(y.std(0), jnp.finfo(y.dtype).tiny)
    z = (y - centre[None]) / spread[None]

    def one(key: Array) -> tuple[Array, Mixture]:
        found = _start(key, z, components)
        found = jax.lax.fori_loop(0, steps, lambda _, m: _step(m, z), found)
        return found.nll(z).sum(), found

    nll, found = jax.lax.map(one, jax.random.split(jax.random.key(0), starts))
    best: Mixture = jax.tree.map(lambda a: a[nll.argmin()], found)
    return Mixture(
        best.log_weights, centre[None] + spread[None] * best.loc, spread[None] * best.scale
    )


def _start(key: Array, z: Array, components: int) -> Mixture:
    """Take centres among the examples, each with the chance of its squared distance to the rest."""
    keys = jax.random.split(key, components)
    first = z[jax.random.randint(keys[0], (), 0, len(z))]
    loc = jnp.broadcast_to(first, (components, z.shape[1]))

    def add(k: Array, loc: Array) -> Array:
        # places not filled yet hold the first centre: they change no distance
        far = jnp.square(z[:, None] - loc[None]).sum(-1).min(-1)
        chance = jnp.log(far + jnp.finfo(z.dtype).tiny)
        return loc.at[k].set(z[jax.random.categorical(keys[k], chance)])

    loc = jax.lax.fori_loop(1, components, add, loc)
    weights = jnp.full((components,), -math.log(components), z.dtype)
    return Mixture(weights, loc, jnp.full_like(loc, 1 / components))


def _step(mixture: Mixture, z: Array) -> Mixture:
    r = mixture.responsibilities(z)
    total = jnp.maximum(r.sum(0), jnp.finfo(z.dtype).tiny)
    loc = (r.T @ z) / total[:, None]
    off = jnp.square(z[:, None] - loc[None])
    variance = (r[:, :, None] * off).sum(0) / total[:, None]
    weights = jnp.log(total) - jnp.log(total.sum())
    return Mixture(weights, loc, jnp.sqrt(jnp.maximum(variance, 1e-4)))
