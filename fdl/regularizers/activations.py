"""Penalties on hidden units, which make a representation sparse instead of the parameters."""

import jax.numpy as jnp
from jax.scipy.special import xlogy
from jax.typing import ArrayLike

from fdl import axes
from fdl.types import Array


def activation_l1(h: ArrayLike) -> Array:
    """Penalise the sum of absolute activations: |h|_1 = sum_j |h_j|.

    Rectified units reach zero exactly. Its gradient is sign(h), 0 at 0.

    Args:
      h: activations of a batch, (b, ...).

    Returns:
      A value for each example, (b,); write its mean, times a strength, into the objective.

    Raises:
      ValueError: when h has no axis of units.

    Example:
      >>> activation_l1(jnp.array([[1.0, -2.0], [0.0, 0.5]])).tolist()
      [3.0, 0.5]

    Source: DLB 7.10, equation 7.48.
    """
    units = _batch(h, "activation_l1")
    return _sum(units * jnp.sign(units))  # the derivative of jnp.abs at 0 is 1


def activation_student_t(h: ArrayLike) -> Array:
    """Penalise activations by a Student-t prior: sum_j log(1 + h_j^2).

    Near 0 it is quadratic, far away it grows as slowly as a logarithm: few large activations cost
    less than many small ones of the same norm.

    Args:
      h: activations of a batch, (b, ...).

    Returns:
      A value for each example, (b,); write its mean, times a strength, into the objective.

    Raises:
      ValueError: when h has no axis of units.

    Example:
      >>> round(float(activation_student_t(jnp.array([[0.0, 1.0]]))[0]), 4)
      0.6931

    Source: Olshausen and Field 1996; DLB 7.10.
    """
    return _sum(jnp.log1p(jnp.square(_batch(h, "activation_student_t"))))


def activation_kl(
    h: ArrayLike, *, target: float | Array, axis_name: str | None = axes.DATA
) -> Array:
    """Penalise units whose mean activation over the batch is not a target rate.

    sum_j KL(rho || m_j) = sum_j rho log(rho / m_j) + (1 - rho) log((1 - rho) / (1 - m_j))

    with m_j the mean of h_j over all examples of the batch, on all devices of `axis_name`. The
    divergence of a mean is no mean of divergences: the mean crosses devices first, as in
    `fdl.models.BatchNorm`, so that the value and, in the objective of a step, the gradient are
    those of the whole batch. With `accumulate` the means are those of the parts.

    Args:
      h: activations in [0, 1], such as those of sigmoid units, (b, ...).
      target: rho, in (0, 1); 0.05 is usual.
      axis_name: the named axis over which examples are spread; no matter where it is not bound.

    Returns:
      A scalar, equal on all devices; write it, times a strength, into the objective. Finite for
      units that are never or always on: rates stay a rounding error away from 0 and 1.

    Raises:
      ValueError: for a target outside (0, 1), or when h has no axis of units.

    Example:
      >>> h = jnp.array([[0.1, 0.5], [0.3, 0.9]])  # mean activations 0.2 and 0.7
      >>> round(float(activation_kl(h, target=0.2)), 4)
      0.5341

    Source: Lee et al. 2008; Ng 2011, Sparse autoencoder, section 3; DLB 7.10.
    """
    if isinstance(target, float | int) and not 0 < target < 1:
        raise ValueError(f"activation_kl(target=...) must lie in (0, 1), got {target}")
    rate: Array = axes.mean(_batch(h, "activation_kl").mean(0), axis_name)
    eps = jnp.finfo(rate.dtype).eps
    rate = eps + (1 - 2 * eps) * rate
    rho = jnp.asarray(target, rate.dtype)
    return (xlogy(rho, rho / rate) + xlogy(1 - rho, (1 - rho) / (1 - rate))).sum()


def _batch(values: ArrayLike, function: str) -> Array:
    h = jnp.asarray(values)
    if h.ndim < 2:
        raise ValueError(f"{function}(h) must be (b, ...) with axes of units, got {h.shape}")
    return h.astype(jnp.promote_types(h.dtype, jnp.float32))


def _sum(each: Array) -> Array:
    return each.sum(tuple(range(1, each.ndim)))
