"""What a search may try: ranges and choices of settings, and the trials drawn from them.

A trial is a function of (space, seed, index) only, and each of its settings of (seed, index, name):
a search that goes on draws what it drew before, and neither more trials nor more settings change
those that are there.
"""

import hashlib
import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from fdl.errors import InputError

Value: TypeAlias = str | int | float

# a stream of the seed that neither data nor noise of a run with the same seed draws from
_STREAM = 2**61
_DIGITS = 6  # of a value: a table and a command line can hold it without rounding it once more
_KINDS = {"log": (True, False), "int": (False, True), "logint": (True, True)}


class Range(NamedTuple):
    """Numbers between two bounds, both included.

    Attributes:
      low: lower bound.
      high: upper bound.
      log: uniform in the logarithm of the value; the bounds are then > 0.
      whole: whole numbers only.

    Example:
      >>> Range(1e-4, 1.0, log=True).quantile(0.5)
      0.01
      >>> Range(1, 4, whole=True).grid(9)
      (1, 2, 3, 4)
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def quantile(self, u: float) -> Value:
        """Return the value that a share u in [0, 1) of all draws does not exceed."""
        # an interval of length 1 for each whole number: so all of them are equally likely
        high = self.high + 1 if self.whole else self.high
        if self.log:
            value = math.exp((1 - u) * math.log(self.low) + u * math.log(high))
        else:
            value = (1 - u) * self.low + u * high
        return self._rounded(math.floor(value) if self.whole else value)

    def grid(self, points: int) -> tuple[Value, ...]:
        """Return values at equal distances, or ratios, from bound to bound, each one once."""
        space = np.geomspace if self.log else np.linspace
        values = space(self.low, self.high, points).tolist()
        return tuple(dict.fromkeys(self._rounded(round(v) if self.whole else v) for v in values))

    def _rounded(self, value: float) -> Value:
        number = int(value) if self.whole else float(f"{value:.{_DIGITS}g}")
        return min(max(number, self.low), self.high)


class Choice(NamedTuple):
    """Some values, as they are written on a command line.

    Example:
      >>> Choice(("relu", "tanh")).quantile(0.7)
      'tanh'
    """

    values: tuple[str, ...]

    def quantile(self, u: float) -> Value:
        """Return the value at a share u in [0, 1) of the list."""
        return self.values[int(u * len(self.values))]

    def grid(self, points: int) -> tuple[Value, ...]:
        """Return all values, however many points are asked for."""
        return self.values


Space: TypeAlias = dict[str, Range | Choice]


def parse(text: str) -> Space:
    """Read a space from text: `lr=log:1e-3:1,width=int:8:64,unit=relu|tanh,steps=500`.

    | values | what is drawn |
    |---|---|
    | `0:0.5` | a number, uniformly |
    | `log:1e-3:1` | a number, uniformly in its logarithm |
    | `int:2:8`, `logint:16:1024` | a whole number, likewise; both bounds may come |
    | `relu|tanh` | one of these words |
    | `500` | this word: a setting of all trials |

    Args:
      text: settings separated by commas; a hyphen in a name is an underscore.

    Returns:
      name -> `Range` or `Choice`, in the order of the text.

    Raises:
      InputError: a setting that is not NAME=VALUES or comes twice, bounds that are no finite
        numbers or in the wrong order, a logarithm of what is not > 0, an empty choice.

    Example:
      >>> parse("lr=log:1e-3:1,unit=relu|tanh")["lr"]
      Range(low=0.001, high=1.0, log=True, whole=False)
    """
    space: Space = {}
    for item in text.split(","):
        name, equals, values = (part.strip() for part in item.partition("="))
        if not (equals and name and values):
            raise InputError(f"--space must be NAME=VALUES,NAME=VALUES,..., got {item.strip()!r}")
        name = name.replace("-", "_")
        if name in space:
            raise InputError(f"--space must name a setting once, got {name!r} again")
        space[name] = _values(name, values)
    return space


def _values(name: str, text: str) -> Range | Choice:
    if "|" in text or ":" not in text:
        words = tuple(word.strip() for word in text.split("|"))
        if "" in words or len(set(words)) < len(words):
            raise InputError(f"--space {name}=... must choose among different words, got {text!r}")
        return Choice(words)
    kind, _, bounds = text.partition(":")
    log, whole = _KINDS.get(kind, (False, False))
    try:
        low, high = map(int if whole else float, (bounds if kind in _KINDS else text).split(":"))
    except ValueError:
        numbers = "whole numbers" if whole else "numbers"
        raise InputError(
            f"--space {name}=... must be LOW:HIGH in {numbers}, with log:, int: or logint: before"
            f" it or not, got {text!r}"
        ) from None
    if not (low < high and math.isfinite(low) and math.isfinite(high)):
        raise InputError(f"--space {name}=LOW:HIGH must have finite LOW < HIGH, got {text!r}")
    if log and low <= 0:
        raise InputError(f"--space {name}={kind}:LOW:HIGH must have LOW > 0, got {text!r}")
    return Range(low, high, log, whole)


def draw(space: Mapping[str, Range | Choice], index: int, *, seed: int) -> dict[str, Value]:
    """Draw the settings of a trial of random search.

    Args:
      space: as `parse` gives it.
      index: number of the trial, 0 <= index < 2**64.
      seed: 0 <= seed < 2**64.

    Returns:
      name -> value, numbers with six significant digits.

    Raises:
      ValueError: index or seed is out of range.

    Example:
      >>> space = parse("lr=log:1e-3:1,unit=relu|tanh")
      >>> [draw(space, index, seed=0) for index in range(2)]
      [{'lr': 0.00421882, 'unit': 'relu'}, {'lr': 0.00366016, 'unit': 'relu'}]

    Source: Bergstra and Bengio 2012, Random search for hyper-parameter optimization; DLB 11.4.4.
    """
    for name, number in (("index", index), ("seed", seed)):
        if not 0 <= number < 2**64:
            raise ValueError(f"draw({name}=...) must be in [0, 2**64), got {number}")
    return {name: kind.quantile(_uniform(seed, index, name)) for name, kind in space.items()}


def _uniform(seed: int, index: int, name: str) -> float:
    """Return a number in [0, 1) that depends on the three arguments only."""
    word = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    key = np.array([seed, _STREAM], dtype=np.uint64)
    counter = np.array([0, index, word, 0], dtype=np.uint64)
    return (int(np.random.Philox(key=key, counter=counter).random_raw()) >> 11) * 2.0**-53


def grid(space: Mapping[str, Range | Choice], *, points: int) -> list[dict[str, Value]]:
    """List the trials of grid search: the product of the values of all settings.

    Args:
      space: as `parse` gives it.
      points: values of each range, >= 2; a range of fewer whole numbers has fewer.

    Returns:
      The trials; the last setting changes first.

    Raises:
      InputError: for less than 2 points.

    Example:
      >>> grid(parse("lr=log:0.01:1,unit=relu|tanh"), points=3)[:3]
      [{'lr': 0.01, 'unit': 'relu'}, {'lr': 0.01, 'unit': 'tanh'}, {'lr': 0.1, 'unit': 'relu'}]

    Source: DLB 11.4.3.
    """
    if points < 2:
        raise InputError(f"grid(points=...) must be >= 2, got {points}")
    each = [kind.grid(points) for kind in space.values()]
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*each)]


def varied(space: Mapping[str, Range | Choice]) -> list[str]:
    """Name the settings that differ between trials.

    Example:
      >>> varied(parse("lr=log:0.01:1,steps=500"))
      ['lr']
    """
    return [n for n, kind in space.items() if isinstance(kind, Range) or len(kind.values) > 1]


def logarithmic(space: Mapping[str, Range | Choice]) -> list[str]:
    """Name the settings that are drawn uniformly in their logarithm.

    Example:
      >>> logarithmic(parse("lr=log:0.01:1,dropout=0:0.5"))
      ['lr']
    """
    return [name for name, kind in space.items() if isinstance(kind, Range) and kind.log]
