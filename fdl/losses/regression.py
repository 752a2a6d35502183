"""Losses of predicted numbers, elementwise, each with the statistic of the target that it predicts.

None of them reduces: over output dimensions one sums, over examples one takes the mean, and where
that happens is written in the objective. None of them broadcasts: a target of another shape is an
error, since (b, 1) against (b,) would silently train on all b^2 pairs.
"""

import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array


def squared_error(prediction: ArrayLike, target: ArrayLike) -> Array:
    """Compute (prediction - target)^2, without a 1/2. The best constant prediction is the mean.

    `half_squared_error` has the 1/2. The same as `optax.squared_error`.

    Args:
      prediction: any shape, floating point.
      target: the same shape, in the same unit.

    Returns:
      The loss of each element, in the squared unit.

    Raises:
      ValueError: when the shapes differ.

    Example:
      >>> squared_error(jnp.array([1.0, 2.0]), jnp.array([1.0, 5.0]))
      Array([0., 9.], dtype=float32)

    Source: DLB 6.2.1.2, equation 6.14.
    """
    return jnp.square(_residual("squared_error", prediction, target))


def half_squared_error(prediction: ArrayLike, target: ArrayLike) -> Array:
    """Compute (prediction - target)^2 / 2. The best constant prediction is the mean.

    The negative log-likelihood of a Gaussian of variance 1 less its constant log(2 pi) / 2; the
    gradient is the residual itself. The same as `optax.l2_loss`.

    Args:
      prediction: any shape, floating point.
      target: the same shape, in the same unit.

    Returns:
      The loss of each element, in the squared unit.

    Raises:
      ValueError: when the shapes differ.

    Example:
      >>> half_squared_error(jnp.array([1.0, 2.0]), jnp.array([1.0, 5.0]))
      Array([0. , 4.5], dtype=float32)

    Source: DLB 5.5.1, equation 5.65, and 6.2.2.1.
    """
    return 0.5 * jnp.square(_residual("half_squared_error", prediction, target))


def absolute_error(prediction: ArrayLike, target: ArrayLike) -> Array:
    """Compute |prediction - target|. The best constant prediction is the median.

    The negative log-likelihood of a Laplace distribution of scale 1 less its constant log 2. The
    derivative at a residual of 0 is 0.

    Args:
      prediction: any shape, floating point.
      target: the same shape, in the same unit.

    Returns:
      The loss of each element, in the same unit.

    Raises:
      ValueError: when the shapes differ.

    Example:
      >>> absolute_error(jnp.array([1.0, 2.0]), jnp.array([1.0, 5.0]))
      Array([0., 3.], dtype=float32)

    Source: DLB 6.2.1.2, equation 6.16.
    """
    return _absolute(_residual("absolute_error", prediction, target))


def huber(prediction: ArrayLike, target: ArrayLike, *, delta: float = 1.0) -> Array:
    """Compute the squared error near 0, the absolute error away from it.

    r^2 / 2 if |r| <= delta else delta * (|r| - delta / 2),  r = prediction - target

    The best constant prediction lies between the mean (delta -> infinity) and the median (delta ->
    0): it is the mean of the targets after those beyond delta from it were moved to delta. The same
    as `optax.huber_loss`.

    Args:
      prediction: any shape, floating point.
      target: the same shape, in the same unit.
      delta: where the two branches meet, > 0, in the same unit.

    Returns:
      The loss of each element, in the squared unit.

    Raises:
      ValueError: when the shapes differ or delta is not positive.

    Example:
      >>> huber(jnp.array([1.5, 5.0]), jnp.array([1.0, 1.0]))
      Array([0.125, 3.5  ], dtype=float32)

    Source: Huber 1964, Robust Estimation of a Location Parameter.
    """
    if not delta > 0:
        raise ValueError(f"huber(delta=...) must be > 0, got {delta}")
    r = _absolute(_residual("huber", prediction, target))
    return jnp.where(r <= delta, 0.5 * jnp.square(r), delta * (r - 0.5 * delta))


def quantile(prediction: ArrayLike, target: ArrayLike, *, tau: float) -> Array:
    """Compute the pinball loss. The best constant prediction is the tau-quantile.

    max(tau * r, (tau - 1) * r),  r = target - prediction

    tau = 0.5 is half the absolute error. The derivative at a residual of 0 is 1/2 - tau, the middle
    of the one-sided ones.

    Args:
      prediction: any shape, floating point.
      target: the same shape, in the same unit.
      tau: the probability that a target lies below the quantile, 0 < tau < 1.

    Returns:
      The loss of each element, in the same unit.

    Raises:
      ValueError: when the shapes differ or tau is outside (0, 1).

    Example:
      >>> quantile(jnp.array([0.0, 0.0]), jnp.array([1.0, -1.0]), tau=0.75)
      Array([0.75, 0.25], dtype=float32)

    Source: Koenker and Bassett 1978, Regression Quantiles.
    """
    if not 0 < tau < 1:
        raise ValueError(f"quantile(tau=...) must lie in (0, 1), got {tau}")
    r = -_residual("quantile", prediction, target)
    return jnp.maximum(tau * r, (tau - 1) * r)


def _residual(function: str, prediction: ArrayLike, target: ArrayLike) -> Array:
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    if prediction.shape != target.shape:
        raise ValueError(
            f"{function}(prediction, target) must have equal shapes, "
            f"got {prediction.shape} and {target.shape}"
        )
    return prediction - target


def _absolute(x: Array) -> Array:
    return x * jnp.sign(x)  # the derivative of jnp.abs at 0 is 1, and a fitted residual is often 0
