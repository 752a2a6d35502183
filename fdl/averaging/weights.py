"""Weights of an ensemble, chosen on data that trained none of its members."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fdl.types import Array


class MixtureWeights(NamedTuple):
    """What `mixture_weights` found.

    Attributes:
      weights: shape (k,), >= 0, with sum 1.
      gap: the negative log-likelihood is at most so many nats above the lowest, scalar >= 0.
      steps: iterations made, int32 scalar.
    """

    weights: Array
    gap: Array
    steps: Array


def mixture_weights(
    log_likelihoods: Array, *, tolerance: float = 1e-4, max_steps: int = 10_000
) -> MixtureWeights:
    """Weigh the members so that their mixture predicts held-out data best.

    minimise  J(w) = -1/n sum_i log sum_j w_j p_j(y_i | x_i)   over w_j >= 0, sum_j w_j = 1

    which is convex. With r_j = 1/n sum_i p_j(y_i | x_i) / sum_l w_l p_l(y_i | x_i), the negative
    gradient, each iteration sets w_j <- w_j r_j: a step of expectation-maximisation, which keeps w
    on the simplex and never raises J. As J is convex, J(w) - min J <= max_j r_j - 1: that is the
    gap at which it ends. At the minimum r_j = 1 for members with a weight, and r_j <= 1 for others.

    Args:
      log_likelihoods: log p_j(y_i | x_i) of validation examples, shape (k, n), floating point; each
        example must be possible for at least one member.
      tolerance: largest gap in nats, > 0.
      max_steps: iterations after which to give up, >= 1; compare `gap` with the tolerance.

    Returns:
      `MixtureWeights`.

    Raises:
      ValueError: for another shape, a tolerance or a number of steps out of range.

    Example:
      >>> p = jnp.array([[0.9, 0.8, 0.1], [0.2, 0.3, 0.9], [0.1, 0.2, 0.1]])
      >>> [round(float(w), 2) for w in mixture_weights(jnp.log(p)).weights]
      [0.61, 0.39, 0.0]

    Source: DLB 7.11, which averages with equal weights; the conditions of Karush, Kuhn and Tucker
    are those of 4.4.
    """
    if log_likelihoods.ndim != 2:
        raise ValueError(
            f"mixture_weights(log_likelihoods) must be of shape (k, n), got {log_likelihoods.shape}"
        )
    if not tolerance > 0:
        raise ValueError(f"mixture_weights(tolerance=...) must be > 0, got {tolerance}")
    if max_steps < 1:
        raise ValueError(f"mixture_weights(max_steps=...) must be >= 1, got {max_steps}")
    # r does not change when all members' likelihoods of an example are scaled
    p = jnp.exp(log_likelihoods - log_likelihoods.max(0, keepdims=True))
    k = len(p)

    def ratios(w: Array) -> Array:
        return (p / (w @ p)[None]).mean(1)

    def going(carry: tuple[Array, Array, Array]) -> Array:
        _, r, step = carry
        return (r.max() - 1 > tolerance) & (step < max_steps)

    def improve(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        w, r, step = carry
        w = w * r
        w = w / w.sum()  # 1 but for rounding
        return w, ratios(w), step + 1

    w = jnp.full(k, 1 / k, p.dtype)
    w, r, step = jax.lax.while_loop(going, improve, (w, ratios(w), jnp.zeros((), jnp.int32)))
    return MixtureWeights(w, jnp.maximum(r.max() - 1, 0), step)
