"""What an ensemble's errors have in common, and its error on examples that trained no member."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from fdl.averaging.predictions import arithmetic_mean
from fdl.types import Array


class ErrorMoments(NamedTuple):
    """Second moments of the errors of k members.

    Attributes:
      variance: v, the mean of e_j^2 over members and examples, scalar.
      covariance: c, the mean of e_j e_l over pairs of different members and examples, scalar.
      ensemble: v / k + (k - 1) c / k, the mean squared error of the members' mean, scalar.
    """

    variance: Array
    covariance: Array
    ensemble: Array


def error_moments(errors: Array) -> ErrorMoments:
    """Measure how large the members' errors are, and how alike.

    E[(1/k sum_j e_j)^2] = v / k + (k - 1) c / k,   v = E[e_j^2],  c = E[e_j e_l], j != l

    Members that err alike (c = v) gain nothing by being averaged; with independent errors (c = 0)
    the squared error falls to 1/k.

    Args:
      errors: e_j = prediction - truth, shape (k, ...), k >= 2, floating point.

    Returns:
      `ErrorMoments`, not centred: a bias that members share counts as covariance.

    Raises:
      ValueError: for fewer than two members.

    Example:
      >>> moments = error_moments(jnp.array([[1.0, -1.0], [1.0, 1.0]]))
      >>> [float(m) for m in moments]
      [1.0, 0.0, 0.5]

    Source: DLB equations 7.50 and 7.51.
    """
    k = len(errors)
    if k < 2:
        raise ValueError(f"error_moments(errors) must be of at least 2 members, got {k}")
    variance = jnp.square(errors).mean()
    ensemble = jnp.square(errors.mean(0)).mean()
    return ErrorMoments(variance, (k * ensemble - variance) / (k - 1), ensemble)


def out_of_bag_mean(log_probs: Array, out: np.ndarray | Array) -> tuple[Array, Array]:
    """Average for each training example the members that were not trained on it.

    log p_i = log (sum_j o_ji p_ji / sum_j o_ji),   o_ji = 1 where example i is not in bag j

    Its error estimates that of the ensemble, without a validation part, although each mean is over
    a third of the members only.

    Args:
      log_probs: log p_j of each training example, shape (k, n, ...).
      out: o, shape (k, n), bool, as `fdl.data.out_of_bag` gives it.

    Returns:
      log p, shape (n, ...), and which examples are out of at least one bag, shape (n,), bool; the
      others have minus infinity everywhere and must not be counted.

    Raises:
      ValueError: when `out` has another shape.

    Example:
      >>> log_probs = jnp.log(jnp.array([[[0.8, 0.2]], [[0.6, 0.4]]]))
      >>> mean, known = out_of_bag_mean(log_probs, jnp.array([[False], [True]]))
      >>> [round(float(p), 3) for p in jnp.exp(mean[0])], known.tolist()
      ([0.6, 0.4], [True])

    Source: Breiman 1996, Out-of-bag estimation.
    """
    if np.shape(out) != log_probs.shape[:2]:
        raise ValueError(
            f"out_of_bag_mean(out) must be of shape {log_probs.shape[:2]}, got {np.shape(out)}"
        )
    out = jnp.asarray(out)
    mask = out.reshape(*out.shape, *(1,) * (log_probs.ndim - 2))
    members = jnp.maximum(out.sum(0), 1).astype(log_probs.dtype)
    share = members.reshape(-1, *(1,) * (log_probs.ndim - 2)) / len(out)
    return arithmetic_mean(jnp.where(mask, log_probs, -jnp.inf)) - jnp.log(share), out.any(0)
