"""The trials of a search: kept in a file, ranked by a score of validation data, shown as a table.

What test data say about a trial is not kept here: it must not choose. It is read once, of the trial
that was chosen.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fdl.errors import InputError
from fdl.run.folder import plain, write_text

TEST = "test_"  # how the names of figures of test data begin


class Trial(NamedTuple):
    """What one trial tried, and what came of it.

    Attributes:
      number: from 0.
      settings: name -> value.
      figures: name -> number, none of test data.
      rung: how often it was chosen to be trained longer (`halving`).
      failed: why it does not count; empty if it does.
    """

    number: int
    settings: dict[str, Any]
    figures: dict[str, float]
    rung: int = 0
    failed: str = ""


def choosing(figures: Mapping[str, float]) -> dict[str, float]:
    """Leave out the figures of test data.

    Example:
      >>> choosing({"valid_loss": 0.5, "test_loss": 0.6})
      {'valid_loss': 0.5}
    """
    return {name: float(v) for name, v in figures.items() if not name.startswith(TEST)}


class Trials:
    """Trials in a file, one JSON object a line; whoever is killed loses at most the one at work.

    The file is replaced as a whole with each trial. A last line that is damaged all the same is
    dropped, so that its trial is run again.

    Args:
      path: the file; absent is no trial yet.

    Raises:
      InputError: a line that is there, but for the last one, is no trial.
      DiskError: from `add`, when the file cannot be written.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     trials = Trials(f"{folder}/trials.jsonl")
      ...     trials.add(Trial(0, {"lr": 0.1}, {"valid_loss": 0.5}))
      ...     Trials(f"{folder}/trials.jsonl").found[0, 0].figures
      {'valid_loss': 0.5}
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.found: dict[tuple[int, int], Trial] = {}  # by number and rung
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            lines = []
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        for number, line in enumerate(lines, start=1):
            try:
                trial = _parse(line)
            except (AttributeError, TypeError, ValueError, KeyError) as error:
                if number == len(lines):
                    break
                raise InputError(f"{path} line {number} is not a trial") from error
            self.found[trial.number, trial.rung] = trial

    def add(self, trial: Trial) -> None:
        """Keep a trial, in place of one of the same number and rung."""
        self.found[trial.number, trial.rung] = trial
        lines = (json.dumps(plain(t._asdict()), ensure_ascii=False) for t in self.found.values())
        write_text(self.path, "".join(f"{line}\n" for line in lines))


def _parse(line: bytes) -> Trial:
    raw = json.loads(line)
    # JSON has no NaN: what is not finite was written as text
    figures = {str(name): float(value) for name, value in raw["figures"].items()}
    return Trial(
        int(raw["number"]), dict(raw["settings"]), figures, int(raw["rung"]), str(raw["failed"])
    )


def ranked(trials: Iterable[Trial], by: str, *, highest: bool = False) -> list[Trial]:
    """Order trials, the best first: those trained longest, then by score, then by number.

    Args:
      trials: in any order.
      by: the figure that is the score, not of test data.
      highest: the best is the highest, not the lowest.

    Returns:
      All trials; those that failed or have no finite score come last.

    Raises:
      InputError: the score is of test data, or a trial that did not fail has no figure of this
        name.

    Example:
      >>> trials = [Trial(i, {}, {"loss": loss}) for i, loss in enumerate([0.3, math.nan, 0.2])]
      >>> [trial.number for trial in ranked(trials, "loss")]
      [2, 0, 1]
    """

    def place(trial: Trial) -> tuple[bool, int, float, int]:
        value = score(trial, by)
        missing = not math.isfinite(value)
        order = 0.0 if missing else -value if highest else value
        return missing, -trial.rung, order, trial.number

    return sorted(trials, key=place)


def score(trial: Trial, by: str) -> float:
    """Return a figure of a trial, NaN where it failed.

    Raises:
      InputError: as `ranked`.
    """
    if by.startswith(TEST):
        raise InputError(f"--by must not be of test data, which do not choose, got {by!r}")
    if trial.failed:
        return math.nan
    if by not in trial.figures:
        raise InputError(f"--by must be one of {', '.join(trial.figures)}, got {by!r}")
    return trial.figures[by]


def halving(trials: int, steps: int, rungs: int, *, factor: int = 3) -> list[tuple[int, int]]:
    """Plan successive halving: many trials for few steps, the best of them for more.

    Rung r of R trains n / f^r trials for s / f^(R - 1 - r) steps, each rung at about the same cost.

    Args:
      trials: n of the first rung, >= f^(R - 1).
      steps: s of the last rung, >= f^(R - 1).
      rungs: R >= 1; 1 is plain search.
      factor: f >= 2.

    Returns:
      (trials, steps) of each rung.

    Raises:
      InputError: there are too few trials or steps for so many rungs.

    Example:
      >>> halving(27, 900, 3)
      [(27, 100), (9, 300), (3, 900)]

    Source: Jamieson and Talwalkar 2016, Non-stochastic best arm identification, arXiv 1502.07943.
    """
    least = factor ** (rungs - 1)
    for name, value in (("trials", trials), ("steps", steps)):
        if value < least:
            raise InputError(f"--rungs {rungs} needs at least {least} {name}, got {value}")
    return [(trials // factor**r, steps // factor ** (rungs - 1 - r)) for r in range(rungs)]


def markdown(trials: Sequence[Trial], names: Sequence[str]) -> str:
    """Write trials as a Markdown table, in the order given.

    Args:
      trials: such as `ranked` gives them.
      names: the settings to show.

    Returns:
      The lines of the table; a trial that failed says why.

    Example:
      >>> print(markdown([Trial(7, {"lr": 0.1234}, {"valid_loss": 0.5})], ["lr"]))
      | trial | lr    | valid_loss |
      | ----- | ----- | ---------- |
      | 7     | 0.123 | 0.5        |
    """
    figures = list(dict.fromkeys(name for trial in trials for name in trial.figures))
    rungs = any(trial.rung for trial in trials)
    failed = any(trial.failed for trial in trials)
    head = [
        "trial",
        *(["rung"] if rungs else []),
        *names,
        *figures,
        *(["failed"] if failed else []),
    ]
    rows = [head, ["-" * len(name) for name in head]]
    for trial in trials:
        row: list[Any] = [trial.number, *([trial.rung] if rungs else [])]
        row += [trial.settings.get(name, "") for name in names]
        row += [trial.figures.get(name, "") for name in figures]
        rows.append([_cell(value) for value in row + ([trial.failed] if failed else [])])
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    rows[1] = ["-" * width for width in widths]
    lines = (" | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: Any) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|")
