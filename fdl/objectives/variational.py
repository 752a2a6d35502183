"""Lower bounds of log p(x) for models with latent variables: the ELBO, importance-weighted."""

import math
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from fdl.losses.gaussian import gaussian_kl
from fdl.types import Array

Nll: TypeAlias = Callable[[Array], Array]  # codes (b, d) -> -log p(x | z) in nats, (b,)
TOGETHER = 64  # samples that are decoded at a time


def elbo(posterior: tuple[Array, Array], nll: Nll, *, key: Array, samples: int = 1) -> Array:
    """Estimate the evidence lower bound of log p(x), the negative free energy.

    mean_k log p(x | z_k) - KL(q(z | x) || N(0, I)),  z_k = mean + exp(log_variance / 2) e_k

    Its expectation is log p(x) - KL(q || p(z | x)): maximising it fits the model, and q to the
    model. The draw is a function of e_k ~ N(0, I), through which gradients pass.

    Args:
      posterior: mean and log-variance of q(z | x), both (b, d).
      nll: codes (b, d) -> -log p(x | z) of the batch, (b,), example by example; with a decoder and
        an output unit, `lambda z: unit.distribution(decode(z)).nll(x)`.
      key: one typed PRNG key for each example, (b,).
      samples: k of each example, >= 1; they make the estimate less noisy, not the bound tighter.

    Returns:
      Nats of each example, (b,); an objective minimises minus their mean.

    Raises:
      ValueError: for samples below 1, shapes that do not fit, another number of keys.

    Example:
      >>> mean, log_variance = jnp.zeros((2, 1)), jnp.zeros((2, 1))
      >>> keys = jax.random.split(jax.random.key(0), 2)
      >>> elbo((mean, log_variance), lambda z: jnp.array([3.0, 4.0]), key=keys).tolist()
      [-3.0, -4.0]

    Source: Kingma and Welling 2014, arXiv 1312.6114, equation 7; DLB 19.1, 20.10.3.
    """
    mean, log_variance = posterior
    noise = _noise("elbo", mean, log_variance, key, samples)
    errors = _each(nll, mean[None] + jnp.exp(log_variance / 2)[None] * noise)
    return -errors.mean(0) - gaussian_kl(mean, log_variance)


def iwae(posterior: tuple[Array, Array], nll: Nll, *, key: Array, samples: int = 50) -> Array:
    """Estimate the importance-weighted bound of log p(x), tighter with every sample.

    log mean_k w_k,  w_k = p(x | z_k) p(z_k) / q(z_k | x)

    In expectation: ELBO = bound of 1 sample <= bound of k <= bound of k + 1 <= log p(x), which it
    reaches as k grows. Gradients pass through the draws. With many samples that of the encoder is
    lost in noise (Rainforth et al. 2018): train with few, evaluate with many.

    Args:
      posterior: mean and log-variance of q(z | x), both (b, d).
      nll: codes (b, d) -> -log p(x | z) of the batch, (b,), example by example, as of `elbo`.
      key: one typed PRNG key for each example, (b,).
      samples: k of each example, >= 1; 64 are decoded at a time.

    Returns:
      Nats of each example, (b,).

    Raises:
      ValueError: for samples below 1, shapes that do not fit, another number of keys.

    Example:
      >>> posterior = (jnp.zeros((2, 1)), jnp.zeros((2, 1)))  # the prior itself: w_k = p(x | z_k)
      >>> keys = jax.random.split(jax.random.key(0), 2)
      >>> iwae(posterior, lambda z: jnp.array([3.0, 4.0]), key=keys).tolist()
      [-3.0, -4.0]

    Source: Burda et al. 2016, arXiv 1509.00519, equation 8.
    """
    mean, log_variance = posterior
    noise = _noise("iwae", mean, log_variance, key, samples)
    z = mean[None] + jnp.exp(log_variance / 2)[None] * noise
    # log p(z) - log q(z | x); the constants of the two densities cancel
    prior = 0.5 * (jnp.square(noise) + log_variance[None] - jnp.square(z)).sum(-1)
    return jax.nn.logsumexp(prior - _each(nll, z), axis=0) - math.log(samples)


def _noise(function: str, mean: Array, log_variance: Array, key: Array, samples: int) -> Array:
    """Draw standard normal numbers, (samples, b, d), for each example from its own key."""
    if samples < 1:
        raise ValueError(f"{function}(samples=...) must be >= 1, got {samples}")
    if mean.ndim != 2 or log_variance.shape != mean.shape:
        raise ValueError(
            f"{function}(posterior) must be two arrays (b, d), got {mean.shape} and "
            f"{log_variance.shape}"
        )
    if key.shape != mean.shape[:1]:
        raise ValueError(
            f"{function}(key) must hold a key for each of {mean.shape[:1]} examples, "
            f"got {key.shape}"
        )
    shape = (samples, mean.shape[1])
    return jax.vmap(lambda k: jax.random.normal(k, shape, mean.dtype), out_axes=1)(key)


def _each(nll: Nll, z: Array) -> Array:
    if len(z) <= TOGETHER:
        return jax.vmap(nll)(z)
    return jax.lax.map(nll, z, batch_size=TOGETHER)
