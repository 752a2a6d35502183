"""How fast methods converge: a quantity, on a logarithmic axis, against what it cost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from fdl.plots.curves import Series
from fdl.plots.figure import COLOURS, PANEL, headline, layout, save, style

Scale = Literal["log", "linear"]
DASHES = ("-", "--", ":")
NAMES = 1.9  # inches of the legend


def convergence(
    panels: Mapping[str, Mapping[str, Series]],
    path: str | Path,
    *,
    quantity: str,
    xscale: Scale = "log",
    title: str = "",
) -> None:
    """Draw a quantity of several methods against their cost, a panel for each way to count it.

    On logarithmic axes what is not positive is left out. A method has one colour and one
    kind of line in all panels. Equal arguments give equal bytes.

    Args:
      panels: label of the x axis -> name of a method -> costs and values, each of shape (n,).
      path: PNG to write, whole or not at all.
      quantity: label of the y axis, which is logarithmic.
      xscale: of all x axes; "linear" for whole numbers, such as those of layers.
      title: written above.

    Raises:
      ValueError: costs and values of a method differ in shape, or there is no panel.

    Example:
      >>> import tempfile
      >>> steps = np.arange(1, 50)
      >>> panels = {"steps": {"linear": (steps, 0.9**steps), "quadratic": (steps, 0.9**steps**2)}}
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     convergence(panels, f"{folder}/falls.png", quantity="error")
      ...     (Path(folder) / "falls.png").stat().st_size > 1000
      True
    """
    save(_draw(panels, quantity, title, xscale), path)


def _draw(
    panels: Mapping[str, Mapping[str, Series]], quantity: str, title: str, xscale: Scale = "log"
) -> Figure:
    if not panels:
        raise ValueError("convergence(panels=...) must hold one at least, got none")
    names = list(dict.fromkeys(name for methods in panels.values() for name in methods))
    figure = Figure(figsize=(PANEL[0] * len(panels) + NAMES, 1.3 * PANEL[1]), layout=layout())
    lines = {}
    for index, (cost, methods) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), index + 1, xscale=xscale, yscale="log")
        if xscale == "linear":
            axes.locator_params(axis="x", integer=True)
        style(axes, xlabel=cost, title=quantity)
        for name, series in methods.items():
            x, y = _drawable(name, *series, xscale)
            place = names.index(name)
            colour, dash = (
                COLOURS[place % len(COLOURS)],
                DASHES[place // len(COLOURS) % len(DASHES)],
            )
            (lines[name],) = axes.plot(x, y, color=colour, ls=dash, lw=1.4, label=name)
    key = figure.legend([lines[n] for n in names], names, loc="outside right upper", frameon=False)
    for text in key.get_texts():
        text.set_parse_math(False)
        text.set_fontsize(9)
    headline(figure, title)
    return figure


def _drawable(name: str, costs: np.ndarray, values: np.ndarray, xscale: Scale) -> Series:
    costs, values = np.asarray(costs, float), np.asarray(values, float)
    if costs.shape != values.shape or costs.ndim != 1:
        raise ValueError(
            "convergence(panels=...) must have costs and values of one shape (n,),"
            f" got {costs.shape} and {values.shape} for {name}"
        )
    has_place = (values > 0) & ((costs > 0) | (xscale == "linear"))
    return costs, np.where(has_place, values, np.nan)
