"""Curves of a run, and graphs of functions of one variable."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fdl.plots.figure import COLOURS, PANEL, headline, layout, legend, save, style

Series = tuple[np.ndarray, np.ndarray]

PARTS = ("train", "valid", "test")
COLUMNS = 3
POINTS = 1000  # of one curve; more cannot be seen on a panel of 600 dots
DECADES = 100.0  # a quantity whose largest value is this often its smallest is drawn on a log axis


def curves(records: Iterable[Mapping[str, Any]], path: str | Path, *, title: str = "") -> None:
    """Draw each quantity of a run over the steps, training and validation in one panel.

    A name such as "valid_loss" or "valid/loss" is the quantity "loss" of the part "valid"; without
    a part it is of "train". Loss comes first, accuracy second. A curve of more than 1000 points is
    drawn as the means of 1000 blocks. Equal records give equal bytes.

    Args:
      records: the lines of metrics.jsonl, `{"step": n, name: value, ...}`; what is not a number
          (null, text) is left out and NaN leaves a gap.
      path: PNG to write, whole or not at all.
      title: written above.
    """
    save(_draw(records, title), path)


def functions(
    xs: np.ndarray,
    ys: Mapping[str, np.ndarray],
    path: str | Path,
    *,
    points: Series | None = None,
    title: str = "",
) -> None:
    """Draw functions of one variable into one panel; the first is drawn as the truth, in grey.

    Args:
      xs: arguments, shape (n,), in any order.
      ys: name -> values at `xs`, shape (n,).
      path: PNG to write, whole or not at all.
      points: x and y, each of shape (m,), of examples to mark.
      title: written above.

    Raises:
      ValueError: a function has another shape than `xs`.
    """
    save(_graphs(np.asarray(xs), ys, points, title), path)


def _draw(records: Iterable[Mapping[str, Any]], title: str) -> Figure:
    panels = _panels(records)
    columns = 2 if len(panels) == 4 else min(COLUMNS, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows), layout=layout())
    for index, (quantity, parts) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        style(axes, xlabel="step", title=quantity)
        for part, (steps, values) in parts.items():
            _curve(axes, part, steps, values)
        if _spans_decades([values for _, values in parts.values()]):
            axes.set_yscale("log")
        legend(axes)
    if not panels:
        figure.text(0.5, 0.5, "no figures were recorded", ha="center")
    headline(figure, title)
    return figure


def _graphs(
    xs: np.ndarray, ys: Mapping[str, np.ndarray], points: Series | None, title: str
) -> Figure:
    order = np.argsort(xs, kind="stable")
    figure = Figure(figsize=(1.4 * PANEL[0], 1.2 * PANEL[1]), layout=layout())
    axes = figure.add_subplot()
    style(axes, xlabel="x", title="")
    for index, (name, values) in enumerate(ys.items()):
        values = np.asarray(values)
        if values.shape != xs.shape or xs.ndim != 1:
            raise ValueError(
                f"functions(ys=...) must be of shape {xs.shape} as xs, got {name} {values.shape}"
            )
        look: dict[str, Any] = {"color": COLOURS[(index - 1) % len(COLOURS)], "lw": 1.6}
        if index == 0:
            look = {"color": "0.75", "lw": 5, "solid_capstyle": "round"}
        axes.plot(xs[order], values[order], label=name, **look)
    if points is not None:
        axes.plot(*points, "o", color="0.2", ms=3, alpha=0.6, label="examples")
    legend(axes)
    headline(figure, title)
    return figure


def _panels(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Series]]:
    """Sort the numbers of the records by quantity, then by part of the data."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for record in records:
        for name, value in record.items():
            if name != "step" and isinstance(value, (int, float)):
                part, quantity = _split(name)
                points = found.setdefault(quantity, {}).setdefault(part, [])
                points.append((record["step"], float(value)))
    order = {"loss": 0, "accuracy": 1}
    panels = {}
    for quantity in sorted(found, key=lambda name: (order.get(name, 2), name)):
        parts = sorted(found[quantity], key=lambda part: PARTS.index(part))
        panels[quantity] = {part: _thin(np.array(found[quantity][part])) for part in parts}
    return panels


def _split(name: str) -> tuple[str, str]:
    for part in PARTS:
        for mark in "_/":
            if name.startswith(part + mark):
                return part, name[len(part) + 1 :]
    return "train", name


def _thin(points: np.ndarray) -> Series:
    """Replace many points, shape (n, 2), by the means of blocks of neighbours."""
    if len(points) > POINTS:
        points = np.stack([block.mean(axis=0) for block in np.array_split(points, POINTS)])
    return points[:, 0], points[:, 1]


def _spans_decades(curves: Sequence[np.ndarray]) -> bool:
    values = np.concatenate(curves)
    values = values[np.isfinite(values)]
    return len(values) > 0 and values.min() > 0 and values.max() >= DECADES * values.min()


def _curve(axes: Axes, part: str, steps: np.ndarray, values: np.ndarray) -> None:
    """Draw one curve with its last value in the legend."""
    finite = values[np.isfinite(values)]
    label = f"{part}  {finite[-1]:.4g}" if len(finite) else part
    marker = "o" if len(steps) <= 40 else ""  # few points: show where they are
    colour = COLOURS[PARTS.index(part)]
    axes.plot(steps, values, marker=marker, ms=3, lw=1.4, color=colour, label=label)
