"""Hyper-parameters as a transformation may be given them: numbers, schedules, traced arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np
import optax

from fdl.types import Array


def at(value: optax.ScalarOrSchedule, count: Array) -> Any:
    """Return what a number or a schedule is at a step.

    Example:
      >>> at(0.5, 3), at(lambda step: 0.1 * step, 3) > 0.2
      (0.5, True)
    """
    return value(count) if callable(value) else value


def known(value: Any, otherwise: float) -> Any:
    """Return a number as it is, and a stand-in for what is known only when it runs.

    Example:
      >>> known(0.5, 0.0), known(np.ones(()), 0.0)
      (0.5, 0.0)
    """
    return value if isinstance(value, (int, float, np.number)) else otherwise


def require(where: str, value: Any, rule: str, holds: Callable[[Any], bool]) -> None:
    """Raise unless a number keeps its rule; schedules and traced values are not looked at.

    Args:
      where: such as "momentum(learning_rate=...)".
      value: the argument.
      rule: in words, what follows "must be".
      holds: the same as a function.

    Raises:
      ValueError: naming the argument, its rule and what was given.

    Example:
      >>> require("sgd(learning_rate=...)", -1, ">= 0", lambda x: x >= 0)
      Traceback (most recent call last):
      ...
      ValueError: sgd(learning_rate=...) must be >= 0, got -1
    """
    if isinstance(value, (int, float, np.number)) and not holds(value):
        raise ValueError(f"{where} must be {rule}, got {value}")
