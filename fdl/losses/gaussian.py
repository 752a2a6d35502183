"""Divergences between normal distributions."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array


def gaussian_kl(
    mean: ArrayLike,
    log_variance: ArrayLike,
    *,
    prior_mean: ArrayLike | None = None,
    prior_log_variance: ArrayLike | None = None,
) -> Array:
    """Compute KL(q || p) of normal distributions with independent dimensions.

    sum_j ((mu_j - m_j)^2 / v_j + s_j / v_j - 1 - log(s_j / v_j)) / 2,  q = N(mu, s), p = N(m, v)

    Against the standard normal: sum_j (mu_j^2 + s_j - 1 - log s_j) / 2. It is not symmetric: q must
    not reach where p does not.

    Args:
      mean: mu, (..., d).
      log_variance: log s, the same shape.
      prior_mean: m, the same shape; 0 if None.
      prior_log_variance: log v, the same shape; 0 if None.

    Returns:
      Nats of each example, (...,), at least float32.

    Raises:
      ValueError: when shapes differ.

    Example:
      >>> round(float(gaussian_kl(jnp.array([1.0]), jnp.log(jnp.array([4.0])))), 4)
      1.3069

    Source: Kingma and Welling 2014, arXiv 1312.6114, appendix B; DLB 20.10.3.
    """
    mu = _at_least_float32(mean)
    others = {
        "log_variance": log_variance,
        "prior_mean": jnp.zeros_like(mu) if prior_mean is None else prior_mean,
        "prior_log_variance": jnp.zeros_like(mu)
        if prior_log_variance is None
        else prior_log_variance,
    }
    if mu.ndim == 0:
        raise ValueError("gaussian_kl(mean) must be (..., d), got ()")
    for name, value in others.items():
        if jnp.shape(value) != mu.shape:
            raise ValueError(
                f"gaussian_kl({name}) must have the shape of mean, {mu.shape}, "
                f"got {jnp.shape(value)}"
            )
    log_s, m, log_v = (_at_least_float32(value) for value in others.values())
    ratio = log_s - log_v
    return 0.5 * (jnp.square(mu - m) * jnp.exp(-log_v) + jnp.expm1(ratio) - ratio).sum(-1)


def _at_least_float32(x: ArrayLike) -> Array:
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
