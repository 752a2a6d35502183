"""Contour maps of functions of two variables, with paths on them."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from fdl.plots.figure import COLOURS, headline, layout, legend, save

LEVELS = 20  # between the lowest and the highest value
RANGE = 1e-4  # of the values: what lies lower is one colour
ACROSS = 5  # panels side by side at most
MAP = (3.4, 3.1)  # inches
APART = 0.01  # of the map: points that are closer to the one before are not marked
SHADES = LinearSegmentedColormap.from_list("depths", ["#9db3c4", "#fafbfc"])  # low is darker


class Landscape(NamedTuple):
    """A function on a grid, and paths on it.

    Attributes:
      xs: first arguments, shape (n,), increasing.
      ys: second arguments, shape (m,), increasing.
      values: of the function, shape (m, n); what is not finite is left white.
      paths: name -> points (x, y), shape (k, 2), in order; they may leave the map.
    """

    xs: np.ndarray
    ys: np.ndarray
    values: np.ndarray
    paths: Mapping[str, np.ndarray]


def landscapes(panels: Mapping[str, Landscape], path: str | Path, *, title: str = "") -> None:
    """Draw contour maps of functions f(x, y) with paths on them, a panel each.

    The levels are spaced evenly in log(f - min f), from min f to max f on the grid, so that the
    floor of a valley shows as well as its walls. A path begins at a circle and ends at a star.
    Equal arguments give equal bytes.

    Args:
      panels: title -> what is drawn; of one path or several, which a legend then names. A path has
        the colour of its place among all of the picture.
      path: PNG to write, whole or not at all.
      title: written above.

    Raises:
      ValueError: values or a path have another shape than `Landscape` tells, no value is finite, or
        there is no panel.

    Example:
      >>> import tempfile
      >>> xs, ys = np.linspace(-2, 2, 41), np.linspace(-1, 1, 21)
      >>> bowl = Landscape(xs, ys, xs**2 + 4 * ys[:, None] ** 2, {"straight": np.eye(2)})
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     landscapes({"a bowl": bowl}, f"{folder}/bowl.png")
      ...     (Path(folder) / "bowl.png").stat().st_size > 1000
      True
    """
    save(_maps(panels, title), path)


def _maps(panels: Mapping[str, Landscape], title: str) -> Figure:
    if not panels:
        raise ValueError("landscapes(panels=...) must hold one at least, got none")
    rows = math.ceil(len(panels) / ACROSS)
    columns = math.ceil(len(panels) / rows)
    figure = Figure(figsize=(MAP[0] * columns, MAP[1] * rows), layout=layout())
    drawn = 0  # paths
    for index, (name, panel) in enumerate(panels.items()):
        _check_landscape(name, panel)
        axes = figure.add_subplot(rows, columns, index + 1)
        _contours(axes, panel)
        for who, points in panel.paths.items():
            _path(axes, who, np.asarray(points), COLOURS[drawn % len(COLOURS)])
            drawn += 1
        _finish(axes, name, panel)
    headline(figure, title)
    return figure


def _check_landscape(name: str, panel: Landscape) -> None:
    shape = (len(panel.ys), len(panel.xs))
    if np.shape(panel.values) != shape:
        raise ValueError(
            f"landscapes(panels=...) must have values of shape {shape}, as ys and xs,"
            f" got {np.shape(panel.values)} in {name}"
        )
    if not np.isfinite(panel.values).any():
        raise ValueError(f"landscapes(panels=...) must have finite values, got none in {name}")
    for who, points in panel.paths.items():
        if np.ndim(points) != 2 or np.shape(points)[1] != 2 or not len(points):
            raise ValueError(
                f"landscapes(panels=...) must have paths of shape (k, 2), k >= 1,"
                f" got {np.shape(points)} for {who} in {name}"
            )


def _contours(axes: Axes, panel: Landscape) -> None:
    """Fill the map with levels that are even in the logarithm of the height above the lowest."""
    height = np.ma.masked_invalid(panel.values)
    height = height - height.min()
    top = float(height.max()) or 1.0  # of a plain
    depth = np.ma.log(np.ma.maximum(height, RANGE * top))
    levels = np.linspace(math.log(RANGE * top), math.log(top), LEVELS + 1)
    axes.set_xlim(panel.xs[0], panel.xs[-1])
    axes.set_ylim(panel.ys[0], panel.ys[-1])
    axes.contourf(panel.xs, panel.ys, depth, levels, cmap=SHADES, extend="both")
    lines: dict[str, Any] = {"colors": "0.55", "linewidths": 0.4, "linestyles": "solid"}
    axes.contour(panel.xs, panel.ys, depth, levels[1:], **lines)


def _path(axes: Axes, name: str, points: np.ndarray, colour: str) -> None:
    axes.plot(*points.T, color=colour, lw=1.2, label=name)
    moves = np.hypot(*(np.diff(points, axis=0) / axes.viewLim.size).T)
    axes.plot(*points[1:][moves > APART].T, color=colour, marker=".", ms=4, ls="")
    ends: dict[str, Any] = {"color": colour, "mec": "white", "mew": 0.8, "ls": "", "zorder": 3}
    axes.plot(*points[0], marker="o", ms=7, **ends)
    axes.plot(*points[-1], marker="*", ms=12, **ends)


def _finish(axes: Axes, name: str, panel: Landscape) -> None:
    axes.set_title(name, loc="left", fontsize=9, parse_math=False)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if len(panel.paths) > 1:
        legend(axes)
