"""Time things against one another in interleaved rounds, so that a load touches all alike.

    spent = rounds({"a": turn_a, "b": turn_b}, 9)      seconds per repetition, round by round
    ratio(spent, "a", "b")                             median over rounds of a / b inside a round

A turn takes a number of repetitions and returns the seconds they took, until the last result is
there. Inside a round each contender has two turns, in an order that is mirrored, and rotated from
round to round.
"""

import statistics
import time
from collections.abc import Callable, Mapping

import jax

Turn = Callable[[int], float]
Spent = dict[str, list[float]]
SLICE_SECONDS = 0.15  # one turn


def order(names: list[str], number: int) -> list[str]:
    """Return who runs when in a round: everyone twice, forth and back."""
    turned = names[number % len(names) :] + names[: number % len(names)]
    return [*turned, *reversed(turned)]


def rounds(turns: Mapping[str, Turn], number: int, seconds: float = SLICE_SECONDS) -> Spent:
    """Return the seconds per repetition of each contender in each round.

    The contenders must be warm. A first turn decides how many repetitions fill `seconds`.
    """
    repetitions = {name: max(1, round(seconds / turn(1))) for name, turn in turns.items()}
    spent: Spent = {name: [] for name in turns}
    for i in range(number):
        total = dict.fromkeys(turns, 0.0)
        for name in order(list(turns), i):
            total[name] += turns[name](repetitions[name])
        for name in turns:
            spent[name].append(total[name] / (2 * repetitions[name]))
    return spent


def ratio(spent: Spent, a: str, b: str) -> float:
    return statistics.median(x / y for x, y in zip(spent[a], spent[b], strict=True))


def spread(spent: Spent, a: str, b: str) -> tuple[float, float]:
    """Return the quartiles of the ratios that `ratio` takes the median of."""
    values = [x / y for x, y in zip(spent[a], spent[b], strict=True)]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def calls(run: Callable[[], object]) -> Turn:
    """Return the turn that calls a function so often and waits for each result."""

    def turn(repetitions: int) -> float:
        start = time.perf_counter()
        for _ in range(repetitions):
            jax.block_until_ready(run())
        return time.perf_counter() - start

    return turn
