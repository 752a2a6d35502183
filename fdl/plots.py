"""Pictures: curves of a run, graphs of functions. Matplotlib without its global state."""

import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

Series = tuple[np.ndarray, np.ndarray]

PARTS = ("train", "valid", "test")
# Okabe and Ito's colours: distinct in print and to colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
PANEL = (5.2, 3.4)  # inches
DPI = 120
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
    _save(_draw(records, title), path)


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
    _save(_graphs(np.asarray(xs), ys, points, title), path)


def _draw(records: Iterable[Mapping[str, Any]], title: str) -> Figure:
    panels = _panels(records)
    columns = 2 if len(panels) == 4 else min(COLUMNS, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows), layout=_layout())
    for index, (quantity, parts) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        _style(axes, xlabel="step", title=quantity)
        for part, (steps, values) in parts.items():
            _curve(axes, part, steps, values)
        if _spans_decades([values for _, values in parts.values()]):
            axes.set_yscale("log")
        _legend(axes)
    if not panels:
        figure.text(0.5, 0.5, "no figures were recorded", ha="center")
    _headline(figure, title)
    return figure


def _graphs(
    xs: np.ndarray, ys: Mapping[str, np.ndarray], points: Series | None, title: str
) -> Figure:
    order = np.argsort(xs, kind="stable")
    figure = Figure(figsize=(1.4 * PANEL[0], 1.2 * PANEL[1]), layout=_layout())
    axes = figure.add_subplot()
    _style(axes, xlabel="x", title="")
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
    _legend(axes)
    _headline(figure, title)
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


def _layout() -> ConstrainedLayoutEngine:
    return ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)  # inches


def _style(axes: Axes, *, xlabel: str, title: str) -> None:
    axes.set_xlabel(xlabel)
    # Names come from the user: "$" is a dollar, not the start of a formula.
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", parse_math=False)
    axes.grid(True, which="major", color="0.9", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(axes: Axes) -> None:
    if axes.lines:
        for text in axes.legend(frameon=False, fontsize=9).get_texts():
            text.set_parse_math(False)


def _headline(figure: Figure, title: str) -> None:
    if title:
        figure.suptitle(title, fontsize=12, parse_math=False)


def _save(figure: Figure, path: str | Path) -> None:
    picture = io.BytesIO()
    FigureCanvasAgg(figure)
    # Matplotlib would write its version into the file: equal figures shall give equal bytes.
    figure.savefig(picture, format="png", dpi=DPI, metadata={"Software": None})
    path = Path(path)
    draft = path.with_name(path.name + ".tmp")
    draft.write_bytes(picture.getvalue())
    os.replace(draft, path)
