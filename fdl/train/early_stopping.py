"""Stop when the validation score has not improved for a while, and keep the best parameters."""

from typing import NamedTuple

import jax
import numpy as np

from fdl.types import Params


class EarlyStopping(NamedTuple):
    """What algorithm 7.1 carries from one evaluation to the next; part of a run's checkpoint.

    Attributes:
      best_value: lowest validation score so far, float32 scalar (infinity before the first); all
        scores are rounded to it first, so that an equal one is never an improvement.
      best_step: the step it was reached at, int32 scalar.
      bad: evaluations since then, int32 scalar.
      best_params: the parameters at that step.
    """

    best_value: np.ndarray
    best_step: np.ndarray
    bad: np.ndarray
    best_params: Params


def init_early_stopping(params: Params) -> EarlyStopping:
    """Start with nothing evaluated yet.

    Args:
      params: parameters to keep should no evaluation ever be finite.

    Returns:
      An `EarlyStopping` whose best value is infinite; its arrays live on the host.

    Example:
      >>> float(init_early_stopping({"w": 0.0}).best_value)
      inf
    """
    return EarlyStopping(_score(np.inf), _count(0), _count(0), jax.tree.map(np.array, params))


def update_early_stopping(
    state: EarlyStopping, value: float, *, step: int, params: Params, min_delta: float = 0.0
) -> EarlyStopping:
    """Record one evaluation (DLB algorithm 7.1, the inside of its loop).

    value < best_value - min_delta: keep step and params, bad <- 0; otherwise bad <- bad + 1.
    NaN is never an improvement.

    Args:
      state: the state before.
      value: the validation score, lower is better.
      step: the number of updates made so far.
      params: the parameters that reached it.
      min_delta: how much lower counts as better, >= 0.

    Returns:
      The state after.

    Raises:
      ValueError: for a negative `min_delta`.

    Example:
      >>> state = init_early_stopping({"w": np.float32(0)})
      >>> for step, value in enumerate([3.0, 2.0, 2.5, float("nan")]):
      ...     state = update_early_stopping(state, value, step=step, params={"w": np.float32(step)})
      >>> int(state.best_step), int(state.bad), float(state.best_params["w"])
      (1, 2, 1.0)

    Source: DLB section 7.8, algorithm 7.1.
    """
    if min_delta < 0:
        raise ValueError(f"update_early_stopping(min_delta=...) must be >= 0, got {min_delta}")
    score = _score(value)
    if float(score) < float(state.best_value) - min_delta:
        return EarlyStopping(score, _count(step), _count(0), jax.tree.map(np.array, params))
    return state._replace(bad=_count(int(state.bad) + 1))


def should_stop(state: EarlyStopping, patience: int) -> bool:
    """Tell whether `patience` evaluations in a row brought no improvement.

    Args:
      state: after the latest evaluation.
      patience: how many are allowed; 0: any number, so that it is never time.

    Returns:
      True when it is time to stop.

    Raises:
      ValueError: for a negative patience.

    Example:
      >>> should_stop(init_early_stopping({})._replace(bad=np.int32(3)), 3)
      True
    """
    if patience < 0:
        raise ValueError(f"should_stop(patience=...) must be >= 0, got {patience}")
    return patience > 0 and int(state.bad) >= patience


def _score(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def _count(value: int) -> np.ndarray:
    return np.array(value, np.int32)
