"""Losses of several tasks as one: weighted sums, missing labels, learned weights."""

import functools
from collections.abc import Mapping

import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl import axes
from fdl.types import Array, Params


def multitask_losses(
    each: Mapping[str, ArrayLike],
    labelled: Mapping[str, ArrayLike] | None = None,
    *,
    axis: str | None = axes.DATA,
) -> dict[str, Array]:
    """Average the losses of each task over the examples that have a label for it.

    L_t = sum_i m_ti l_ti / sum_i m_ti over the whole batch, 0 where it has no label for t

    A task with few labels counts as much as one with many; weigh it where that is not wanted.
    Spread over devices the counts are those of all of them: the mean of the results over devices,
    which the step takes, is the L_t above. The parts of an accumulated batch each have their own.

    Args:
      each: task -> losses of the examples, (b,); may be anything, NaN included, where unlabelled.
      labelled: task -> 0/1 or bool, (b,); a task that is left out is labelled everywhere.
      axis: the axis name over which the examples are spread.

    Returns:
      task -> scalar; `multitask_loss` adds them up.

    Raises:
      ValueError: losses or masks that are not (b,), or a mask of an unknown task.

    Example:
      >>> each = {"digit": jnp.array([2.0, 9.0]), "slant": jnp.array([1.0, 3.0])}
      >>> found = multitask_losses(each, {"digit": jnp.array([1, 0])})
      >>> {task: float(loss) for task, loss in found.items()}
      {'digit': 2.0, 'slant': 2.0}

    Source: DLB 7.7.
    """
    masks = {} if labelled is None else dict(labelled)
    _known("multitask_losses(labelled=...)", masks, each)
    return {
        task: _mean(task, jnp.asarray(values), masks.get(task), axis)
        for task, values in each.items()
    }


def multitask_loss(
    losses: Mapping[str, ArrayLike], weights: Mapping[str, float | Array] | None = None
) -> Array:
    """Add up the losses of several tasks: sum_t w_t L_t.

    Args:
      losses: task -> scalar, of one unit each: nats and squared pixels do not add up by themselves.
      weights: task -> w_t >= 0; 1 for a task that is left out.

    Returns:
      A scalar.

    Raises:
      ValueError: no task, a negative weight, or a weight of an unknown task.

    Example:
      >>> float(multitask_loss({"digit": 2.0, "slant": 4.0}, {"slant": 0.5}))
      4.0

    Source: DLB 7.7.
    """
    weights = {} if weights is None else dict(weights)
    _known("multitask_loss(weights=...)", weights, losses)
    for task, weight in weights.items():
        if isinstance(weight, float | int) and not weight >= 0:
            raise ValueError(f"multitask_loss(weights=...) must be >= 0, got {weight} for {task!r}")
    return _sum([weights.get(task, 1.0) * jnp.asarray(loss) for task, loss in losses.items()])


def uncertainty_weighted_loss(losses: Mapping[str, ArrayLike], log_variances: Params) -> Array:
    """Add up the losses of several tasks with weights that are learned.

    sum_t (exp(-s_t) L_t + s_t) / 2,  s_t being trained with the rest

    exp(s_t) is the variance of the noise of task t: with L_t a squared error it is a Gaussian's
    negative log-likelihood. Given the losses the best s_t is log L_t, where the sum is that of
    (1 + log L_t) / 2: the loss of each task counts by its logarithm, so that no unit matters. A
    loss that can become 0 drags its s_t to minus infinity: stop early, or bound it.

    Args:
      losses: task -> scalar L_t > 0.
      log_variances: task -> scalar s_t, a part of the trained parameters; begin with 0.

    Returns:
      A scalar.

    Raises:
      ValueError: no task, or when the two do not name the same tasks.

    Example:
      >>> s = {"digit": jnp.array(0.0), "slant": jnp.array(0.0)}
      >>> float(uncertainty_weighted_loss({"digit": 2.0, "slant": 4.0}, s))
      3.0

    Source: Kendall, Gal, Cipolla 2018, arXiv 1705.07115, equation 7; for a cross-entropy they
    have exp(-s) L + s / 2, which is this with 2 L.
    """
    if set(losses) != set(log_variances):
        raise ValueError(
            f"uncertainty_weighted_loss(log_variances) must have the tasks {sorted(losses)}, "
            f"got {sorted(log_variances)}"
        )
    return _sum(
        [
            (jnp.exp(-log_variances[task]) * jnp.asarray(loss) + log_variances[task]) / 2
            for task, loss in losses.items()
        ]
    )


def _mean(task: str, values: Array, mask: ArrayLike | None, axis: str | None) -> Array:
    mask = jnp.ones(values.shape, bool) if mask is None else jnp.asarray(mask) != 0
    if values.ndim != 1 or mask.shape != values.shape:
        raise ValueError(
            f"multitask_losses: losses and mask of {task!r} must both be (b,), "
            f"got {values.shape} and {mask.shape}"
        )
    # the mean over devices, so that the mean over devices of the quotients is right
    count = axes.total(mask.sum(dtype=values.dtype), axis) / axes.size(axis)
    total = jnp.where(mask, values, 0).sum()
    return total / jnp.where(count > 0, count, 1)


def _known(what: str, given: Mapping[str, object], tasks: Mapping[str, object]) -> None:
    if unknown := sorted(set(given) - set(tasks)):
        raise ValueError(f"{what} must be of the tasks {sorted(tasks)}, got {unknown[0]!r}")


def _sum(terms: list[Array]) -> Array:
    if not terms:
        raise ValueError("the loss of several tasks needs one at least, got none")
    return functools.reduce(jnp.add, terms)
