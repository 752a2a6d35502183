"""Where in the plane a classifier decides for which class, and how surely."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from fdl.plots.figure import COLOURS, headline, layout, save, style

PANEL = (3.2, 3.0)  # inches


def regions(
    xs: np.ndarray,
    ys: np.ndarray,
    panels: Mapping[str, np.ndarray],
    path: str | Path,
    *,
    points: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    title: str = "",
) -> None:
    """Colour the plane by predicted probabilities, a panel for each classifier.

    A point has the mixture of the classes' colours in proportion to their probabilities, on white;
    a line marks where the likeliest class changes.

    Args:
      xs: first coordinates of the grid, shape (n,), increasing evenly.
      ys: second coordinates, shape (m,), likewise.
      panels: name -> probabilities of the classes on the grid, shape (m, n, classes).
      path: PNG to write, whole or not at all.
      points: examples to mark, shape (k, 2).
      labels: their classes, integers of shape (k,).
      title: written above.

    Raises:
      ValueError: probabilities have another shape, there is no panel, more classes than colours,
        or points without labels.

    Example:
      >>> import tempfile
      >>> xs = np.linspace(-1, 1, 5)
      >>> p = np.broadcast_to(1 / (1 + np.exp(-4 * xs)), (5, 5))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     regions(xs, xs, {"logistic": np.stack([p, 1 - p], 2)}, Path(folder) / "regions.png")
    """
    if not panels:
        raise ValueError("regions(panels) must hold at least one panel, got none")
    if (points is None) != (labels is None):
        raise ValueError("regions(points=..., labels=...) must be given together, got one of them")
    for name, p in panels.items():
        shape = np.shape(p)
        if shape[:-1] != (len(ys), len(xs)) or shape[-1] > len(COLOURS):
            raise ValueError(
                f"regions(panels=...) must be of shape ({len(ys)}, {len(xs)}, classes) with at most"
                f" {len(COLOURS)} classes, got {name} {shape}"
            )
    figure = Figure(figsize=(PANEL[0] * len(panels), PANEL[1]), layout=layout())
    for i, (name, p) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), i + 1)
        style(axes, xlabel="", title=name)
        axes.grid(False)
        axes.set_aspect("equal")
        axes.pcolormesh(xs, ys, mixed_colours(p), shading="nearest", rasterized=True)
        for c in range(np.shape(p)[-1] - 1):  # the last border is that of the others
            other = np.delete(p, c, -1).max(-1)
            axes.contour(xs, ys, p[..., c] - other, levels=[0], colors="0.15", linewidths=1)
        if points is not None and labels is not None:
            for c in np.unique(labels):
                mine = points[labels == c]
                axes.plot(*mine.T, "o", color=COLOURS[c], ms=3, mec="white", mew=0.4)
        axes.set_xlim(xs[0], xs[-1])
        axes.set_ylim(ys[0], ys[-1])
    headline(figure, title)
    save(figure, path)


def mixed_colours(probabilities: np.ndarray) -> np.ndarray:
    """Mix the classes' colours, made light: sum_c p_c (1 + colour_c) / 2.

    Args:
      probabilities: shape (..., classes), of sum 1.

    Returns:
      Red, green and blue in [0, 1], shape (..., 3).

    Example:
      >>> mixed_colours(np.array([1.0, 0.0])).shape
      (3,)
    """
    p = np.asarray(probabilities)
    light = np.array([to_rgb(COLOURS[c]) for c in range(p.shape[-1])]) * 0.5 + 0.5
    return np.clip(p @ light, 0, 1)
