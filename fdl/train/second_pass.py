"""Train once more on all data when early stopping has found when to stop."""

from typing import NamedTuple

import numpy as np

from fdl.train.early_stopping import EarlyStopping


class SecondPass(NamedTuple):
    """Where a second pass begins and when it ends; part of a run's checkpoint.

    Attributes:
      began: updates made before it, int32 scalar; -1 while the search for the best step goes on.
      length: most updates it makes, int32 scalar.
      goal: validation loss below which it ends, float32 scalar; minus infinity: none.
      ended: updates made when it reached the goal, int32 scalar; -1 before.
    """

    began: np.ndarray
    length: np.ndarray
    goal: np.ndarray
    ended: np.ndarray


def init_second_pass() -> SecondPass:
    """Return the state while algorithm 7.1 still searches.

    Example:
      >>> in_second_pass(init_second_pass())
      False
    """
    return SecondPass(_count(-1), _count(0), _score(-np.inf), _count(-1))


def retrain(early: EarlyStopping, *, step: int, times: float = 1.0) -> SecondPass:
    """Begin algorithm 7.2: from the initial parameters, on all data, for as long as was best.

    length = times * best_step, rounded. The caller puts back the state of step 0, optimizer and
    all, and takes batches of training and validation part together.

    Args:
      early: the state that algorithm 7.1 ended with.
      step: updates made so far.
      times: 1 for as many updates as were best; N_all / N_train for as many passes over the data,
        in batches of the same size. The book knows no reason to prefer either. > 0.

    Returns:
      The state of a pass that begins now.

    Raises:
      ValueError: for `times` that are not > 0.

    Example:
      >>> from fdl.train.early_stopping import init_early_stopping
      >>> early = init_early_stopping({})._replace(best_step=np.int32(40))
      >>> int(retrain(early, step=100, times=1.25).length)
      50

    Source: DLB 7.8, algorithm 7.2.
    """
    if not times > 0:
        raise ValueError(f"retrain(times=...) must be > 0, got {times}")
    length = max(round(times * int(early.best_step)), 0)
    return SecondPass(_count(step), _count(length), _score(-np.inf), _count(-1))


def go_on(*, goal: float, step: int, cap: int) -> SecondPass:
    """Begin algorithm 7.3: from the best parameters, on all data, until validation is learned too.

    It ends when the loss on the validation part, which is now trained on, falls below the goal,
    the loss on the training part that the best parameters had. That may never happen: hence the
    cap. The caller puts back `early.best_params`.

    Args:
      goal: the training loss of the best parameters, without penalties, dropout or whatever else
        the validation loss does not have.
      step: updates made so far.
      cap: most updates of the pass, >= 0.

    Returns:
      The state of a pass that begins now.

    Raises:
      ValueError: for a goal that is NaN or a negative cap.

    Example:
      >>> again = go_on(goal=0.1, step=100, cap=50)
      >>> second_pass_over(again, step=149), second_pass_over(again, step=150)
      (False, True)

    Source: DLB 7.8, algorithm 7.3, and the cap.
    """
    if np.isnan(goal):
        raise ValueError(f"go_on(goal=...) must be a number, got {goal}")
    if cap < 0:
        raise ValueError(f"go_on(cap=...) must be >= 0, got {cap}")
    return SecondPass(_count(step), _count(cap), _score(goal), _count(-1))


def update_second_pass(state: SecondPass, value: float, *, step: int) -> SecondPass:
    """Record an evaluation during the pass: it is over once value < goal.

    Args:
      state: before.
      value: the loss on the validation part; NaN is not below anything.
      step: updates made so far.

    Returns:
      The state after; the first step below the goal stays.

    Example:
      >>> state = go_on(goal=0.1, step=100, cap=50)
      >>> for step, value in ((110, 0.2), (120, 0.05), (130, 0.01)):
      ...     state = update_second_pass(state, value, step=step)
      >>> int(state.ended)
      120
    """
    if in_second_pass(state) and int(state.ended) < 0 and float(_score(value)) < float(state.goal):
        return state._replace(ended=_count(step))
    return state


def in_second_pass(state: SecondPass) -> bool:
    """Tell whether the search is over and a pass over all data has begun.

    Example:
      >>> in_second_pass(go_on(goal=0.1, step=0, cap=10))
      True
    """
    return int(state.began) >= 0


def second_pass_over(state: SecondPass, *, step: int) -> bool:
    """Tell whether the pass has reached its goal or its length; never during the search.

    Args:
      state: of the pass.
      step: updates made so far.

    Returns:
      True when it is time to end.

    Example:
      >>> second_pass_over(init_second_pass(), step=10**6)
      False
    """
    if not in_second_pass(state):
        return False
    return int(state.ended) >= 0 or step - int(state.began) >= int(state.length)


def _score(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def _count(value: int) -> np.ndarray:
    return np.array(value, np.int32)
