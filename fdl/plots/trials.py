"""Trials of a search: the score against each setting."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fdl.plots.figure import COLOURS, headline, layout, save, style

PANEL = (3.2, 3.0)  # inches
COLUMNS = 4  # panels side by side
DECADE = 10.0  # ratio of the highest to the lowest score from which their axis is logarithmic


def trials(
    settings: Sequence[Mapping[str, Any]],
    scores: Sequence[float],
    path: str | Path,
    *,
    quantity: str,
    logarithmic: Collection[str] = (),
    best: int | None = None,
    title: str = "",
) -> None:
    """Draw the score of all trials against each of their settings, a panel for each.

    Words are drawn side by side. A trial without a finite score is a cross on the upper edge.
    Scores are on a logarithmic axis where they are positive and span more than a decade.

    Args:
      settings: of each trial, name -> number or word; the same names in all of them.
      scores: shape (trials,).
      path: PNG to write, whole or not at all.
      quantity: name of the score.
      logarithmic: names of the settings whose axis is logarithmic.
      best: the trial to mark.
      title: written above.

    Raises:
      ValueError: there is no trial or no setting, or not as many scores as trials.

    Example:
      >>> import tempfile
      >>> tried = [{"lr": 10.0**-i, "unit": "tanh"} for i in range(4)]
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     trials(tried, [np.nan, 0.1, 0.2, 0.9], f"{folder}/a.png", quantity="loss", best=1)
    """
    save(_draw(settings, scores, quantity, logarithmic, best, title), path)


def _draw(
    settings: Sequence[Mapping[str, Any]],
    scores: Sequence[float],
    quantity: str,
    logarithmic: Collection[str] = (),
    best: int | None = None,
    title: str = "",
) -> Figure:
    if not settings or not settings[0]:
        raise ValueError("trials(settings=...) must hold a trial with a setting, got none")
    if len(scores) != len(settings):
        raise ValueError(f"trials(scores=...) must be {len(settings)} numbers, got {len(scores)}")
    names = list(settings[0])
    columns = min(len(names), COLUMNS)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows), layout=layout())
    y = np.asarray(scores, float)
    first: Axes | None = None
    for place, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, place + 1, sharey=first)
        first = first or axes
        begins_row = place % columns == 0
        style(axes, xlabel=name, title=quantity if begins_row else "")
        axes.tick_params(labelleft=begins_row)
        axes.set_xscale("log" if name in logarithmic else "linear")
        _points(axes, _places(axes, [trial[name] for trial in settings]), y, best)
    good = y[np.isfinite(y)]
    if first is not None and good.size and 0 < good.min() * DECADE < good.max():
        first.set_yscale("log")
    headline(figure, title)
    return figure


def _places(axes: Axes, values: Sequence[Any]) -> np.ndarray:
    """Return where the values lie on the x axis; words become its ticks."""
    if all(isinstance(value, int | float) for value in values):
        return np.asarray(values, float)
    words = list(dict.fromkeys(map(str, values)))
    axes.set_xticks(range(len(words)), words, parse_math=False)
    axes.set_xlim(-0.5, len(words) - 0.5)
    return np.array([words.index(str(value)) for value in values], float)


def _points(axes: Axes, x: np.ndarray, y: np.ndarray, best: int | None) -> None:
    good = np.isfinite(y)
    axes.plot(x[good], y[good], "o", color=COLOURS[0], ms=4.5, alpha=0.7, mew=0, label="trial")
    if not good.all():
        edge = axes.get_xaxis_transform()  # y in heights of the panel
        cross = axes.plot(x[~good], np.ones((~good).sum()), "x", color="0.35", transform=edge)
        cross[0].set(clip_on=False, label="failed")
    if best is not None:
        axes.plot(x[best], y[best], "o", color=COLOURS[1], ms=8, mec="white", label="best")
