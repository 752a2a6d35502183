"""Curricula: which examples a step may see, the easy ones first.

An order from easy to hard, a pacing function c(t) that says which share of it step t draws from,
and batches that are, like those of `fdl.data.batches`, a pure function of (seed, step).
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdl.data.batches import batch_indices, process_share, steps_per_epoch
from fdl.data.permutation import permutation
from fdl.data.splits import Arrays, count

Pacing: TypeAlias = Callable[[int], float]  # step >= 0 -> share in [0, 1]

# From here on are streams of the seed that no epoch (from 0) and no bootstrap (from 2^62) reaches.
_STREAM = 2**61


def easy_to_hard(difficulty: ArrayLike, *, labels: ArrayLike | None = None) -> NDArray[np.int64]:
    """Sort examples by their difficulty, the easiest first.

    The control with the hard ones first is this order reversed, `[::-1]`; the control without
    difficulty is `permutation(n, seed=...)`. A curriculum is worth its name if it beats both.

    Args:
      difficulty: one number for each example, (N,): the loss of a trained model, a length, an
        amount of noise. Ties keep their order.
      labels: classes, (N,): rank within each class and take the classes by turns in proportion to
        their sizes, so that the easy part is not one class alone. None: one rank for all.

    Returns:
      int64 of shape (N,): the positions of the examples.

    Raises:
      ValueError: difficulties that are not (N,) or not finite, or labels of another shape.

    Example:
      >>> easy_to_hard([0.3, 0.1, 0.2]).tolist()
      [1, 2, 0]
      >>> easy_to_hard([0.1, 0.2, 0.3, 0.4], labels=[0, 0, 1, 1]).tolist()
      [0, 2, 1, 3]

    Source: Bengio et al. 2009, "Curriculum learning"; Hacohen and Weinshall 2019, arXiv
    1904.03626, algorithm 1 (balanced classes).
    """
    score = np.asarray(difficulty)
    if score.ndim != 1 or not np.isfinite(score).all():
        raise ValueError(f"easy_to_hard(difficulty) must be finite, (N,), got shape {score.shape}")
    order = np.argsort(score, kind="stable")
    if labels is None:
        return order
    classes = np.asarray(labels)
    if classes.shape != score.shape:
        raise ValueError(
            f"easy_to_hard(labels=...) must be {score.shape} as difficulty, got {classes.shape}"
        )
    rank = np.empty(len(score))  # (place within the class + 1/2) / size of the class
    for label in np.unique(classes):
        own = order[classes[order] == label]
        rank[own] = (np.arange(len(own)) + 0.5) / len(own)
    return np.lexsort((score, rank))


def linear_pacing(start: float, steps: int) -> Pacing:
    """Grow the share evenly: c(t) = min(1, c0 + (1 - c0) t / T).

    Args:
      start: c0 in [0, 1].
      steps: T >= 1, from which step on c = 1.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> [linear_pacing(0.5, 4)(t) for t in (0, 2, 4, 9)]
      [0.5, 0.75, 1.0, 1.0]

    Source: Platanios et al. 2019, arXiv 1903.09848, equation 6.
    """
    _check("linear_pacing", start, steps)
    return lambda t: 1.0 if t >= steps else start + (1 - start) * t / steps


def root_pacing(start: float, steps: int, *, power: float = 2.0) -> Pacing:
    """Grow the share fast, then slowly: c(t) = min(1, (t (1 - c0^p) / T + c0^p)^(1/p)).

    With p = 2 new examples come in inverse proportion to those that are in already, so that each
    gets its time; p = 1 is `linear_pacing`.

    Args:
      start: c0 in [0, 1].
      steps: T >= 1, from which step on c = 1.
      power: p > 0.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> [root_pacing(0.0, 4)(t) for t in (0, 1, 4)]
      [0.0, 0.5, 1.0]

    Source: Platanios et al. 2019, arXiv 1903.09848, equations 7 and 8.
    """
    _check("root_pacing", start, steps)
    if not power > 0:
        raise ValueError(f"root_pacing(power=...) must be > 0, got {power}")
    first = start**power
    return lambda t: 1.0 if t >= steps else (t * (1 - first) / steps + first) ** (1 / power)


def step_pacing(start: float, steps: int, *, stages: int) -> Pacing:
    """Grow the share in equal jumps: c(t) = min(1, c0 + (1 - c0) floor(k t / T) / k).

    Args:
      start: c0 in [0, 1].
      steps: T >= 1, from which step on c = 1.
      stages: k >= 1, the number of jumps, the last one at T.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> [step_pacing(0.5, 10, stages=1)(t) for t in (0, 9, 10)]
      [0.5, 0.5, 1.0]

    Source: Bengio et al. 2009, section 5 (one jump); Hacohen and Weinshall 2019.
    """
    _check("step_pacing", start, steps)
    if stages < 1:
        raise ValueError(f"step_pacing(stages=...) must be >= 1, got {stages}")
    return lambda t: 1.0 if t >= steps else start + (1 - start) * (stages * t // steps) / stages


def exponential_pacing(start: float, steps: int) -> Pacing:
    """Grow the share by equal factors: c(t) = min(1, c0^(1 - t / T)).

    Args:
      start: c0 in (0, 1].
      steps: T >= 1, from which step on c = 1.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> [round(exponential_pacing(0.01, 4)(t), 3) for t in (0, 2, 4)]
      [0.01, 0.1, 1.0]

    Source: Hacohen and Weinshall 2019, arXiv 1904.03626, section 2.2, without its stairs.
    """
    _check("exponential_pacing", start, steps)
    if start == 0:
        raise ValueError("exponential_pacing(start=...) must be > 0, got 0")
    return lambda t: 1.0 if t >= steps else start ** (1 - t / steps)


def curriculum_indices(
    order: NDArray[Any],
    batch_size: int,
    *,
    share: float,
    seed: int,
    step: int,
    mixed: float = 0.0,
) -> NDArray[np.int64]:
    """Return which examples step `step` of a curriculum visits.

    B - m of them are drawn uniformly, without repetition, from the first max(B, ceil(c N)) of
    `order`, and m = round(mixed B) from all examples: the stochastic curriculum, in which hard
    examples come along from the start and grow more frequent. At c = 1 the result is
    `batch_indices(N, B, seed=seed, step=step)`, plain training, whatever the order is.

    Args:
      order: of the examples, easy to hard, (N,).
      batch_size: B, 1 <= B <= N.
      share: c in [0, 1]: the pacing function at this step.
      seed: 0 <= seed < 2**64.
      step: >= 0.
      mixed: share of the batch that is drawn from all examples, in [0, 1].

    Returns:
      int64 of shape (B,).

    Raises:
      InputError: B < 1 or B > N.
      ValueError: another argument is out of range.

    Example:
      >>> easy_first = np.arange(100)
      >>> sorted(curriculum_indices(easy_first, 4, share=0.05, seed=0, step=0).tolist())
      [1, 2, 3, 4]

    Source: DLB 8.7.6; Zaremba and Sutskever 2014, arXiv 1410.4615, section 4.3 (mixed).
    """
    n = len(order)
    steps_per_epoch(n, batch_size)
    for name, value in (("share", share), ("mixed", mixed)):
        if not 0 <= value <= 1:
            raise ValueError(f"curriculum_indices({name}=...) must lie in [0, 1], got {value}")
    if share == 1:
        return batch_indices(n, batch_size, seed=seed, step=step)
    if not 0 <= step < _STREAM:
        raise ValueError(f"curriculum_indices(step=...) must be in [0, 2**61), got {step}")
    drawn = permutation(n, seed=seed, stream=_STREAM + step)
    anywhere = math.floor(mixed * batch_size + 0.5)
    allowed = np.zeros(n, bool)
    allowed[order[: max(batch_size, math.ceil(share * n))]] = True
    rest = drawn[anywhere:]
    return np.concatenate([drawn[:anywhere], rest[allowed[rest]][: batch_size - anywhere]])


def curriculum_batch(
    arrays: Arrays,
    batch_size: int,
    *,
    order: NDArray[Any],
    share: float,
    seed: int,
    step: int,
    mixed: float = 0.0,
    process: tuple[int, int] = (0, 1),
) -> Arrays:
    """Return the examples of step `step` of a curriculum, or one process's share of them.

    `curriculum_indices` says which; the other arguments and results are those of `batch`.

    Raises:
      InputError: B > N, or B is not divisible by the number of processes.
      ValueError: `order` has another length than the arrays, or as `curriculum_indices`.

    Example:
      >>> arrays = {"x": np.arange(6.0), "y": np.arange(6)}
      >>> order, pacing = easy_to_hard(arrays["x"]), linear_pacing(0.5, 100)
      >>> first = curriculum_batch(arrays, 2, order=order, share=pacing(0), seed=0, step=0)
      >>> bool((first["y"] < 3).all())
      True
    """
    n = count(arrays, "curriculum_batch")
    if np.shape(order) != (n,):
        raise ValueError(f"curriculum_batch(order=...) must be ({n},), got {np.shape(order)}")
    part = process_share(batch_size, process)
    rows = curriculum_indices(order, batch_size, share=share, seed=seed, step=step, mixed=mixed)[
        part
    ]
    return {name: array[rows] for name, array in arrays.items()}


def _check(function: str, start: float, steps: int) -> None:
    if not 0 <= start <= 1:
        raise ValueError(f"{function}(start=...) must lie in [0, 1], got {start}")
    if steps < 1:
        raise ValueError(f"{function}(steps=...) must be >= 1, got {steps}")
