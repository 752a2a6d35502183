"""Pictures of predicted distributions of one variable given another: bands and densities."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from fdl.plots.figure import COLOURS, headline, layout, legend, save, style

Series = tuple[np.ndarray, np.ndarray]

PANEL = (4.2, 3.4)  # inches
HALF_WIDTHS = (2, 1)  # of the bands, in deviations, the lighter first
SHADES = LinearSegmentedColormap.from_list("densities", ["#ffffff", COLOURS[5], COLOURS[0]])


def bands(
    xs: np.ndarray,
    predictions: Mapping[str, Series],
    path: str | Path,
    *,
    truth: Series | None = None,
    points: Series | None = None,
    title: str = "",
) -> None:
    """Draw means with bands of one and two deviations, a panel for each model on the same axes.

    Args:
      xs: where the models predict, shape (n,), increasing.
      predictions: name -> mean and deviation at `xs`, each of shape (n,).
      path: PNG to write, whole or not at all.
      truth: the mean and the deviation that one would like to find, drawn dashed.
      points: x and y, each of shape (m,), of examples to mark.
      title: written above.

    Raises:
      ValueError: a mean or deviation has another shape than `xs`, or there is no model.

    Example:
      >>> import tempfile
      >>> xs = np.linspace(0, 1, 11)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     bands(xs, {"a line": (xs, 0.1 + xs)}, Path(folder) / "bands.png")
    """
    xs = np.asarray(xs)
    for name, curves in {**predictions, **({"truth": truth} if truth else {})}.items():
        for values in curves:
            if np.shape(values) != xs.shape or xs.ndim != 1:
                raise ValueError(
                    f"bands(predictions=...) must be of shape {xs.shape} as xs, "
                    f"got {name} {np.shape(values)}"
                )
    figure, row = _row("bands(predictions)", predictions, title)
    for axes, (mean, deviation) in zip(row, predictions.values(), strict=True):
        if points is not None:
            axes.plot(*points, "o", color="0.45", ms=2.5, alpha=0.6, mew=0, label="examples")
        for k in HALF_WIDTHS:
            low, high = mean - k * deviation, mean + k * deviation
            label = f"within {k} deviation{'s' if k > 1 else ''}"
            axes.fill_between(xs, low, high, color=COLOURS[0], alpha=0.2, lw=0, label=label)
        axes.plot(xs, mean, color=COLOURS[0], lw=1.8, label="mean")
        if truth is not None:
            for k in (0, -2, 2):  # a name that begins with "_" is not in the legend
                label = "_" if k else "truth"
                axes.plot(xs, truth[0] + k * truth[1], "--", color="0.1", lw=1, label=label)
    legend(row[0])
    save(figure, path)


def densities(
    xs: np.ndarray,
    ys: np.ndarray,
    panels: Mapping[str, np.ndarray],
    path: str | Path,
    *,
    points: Mapping[str, Series] | None = None,
    title: str = "",
) -> None:
    """Draw densities p(y | x) as shades, darker where y is likelier, a panel for each model.

    The square root of the density is what the shade shows, in all panels on one scale, which ends
    at the 99th percentile of what is not 0: a narrow peak does not make the rest white.

    Args:
      xs: conditions, shape (n,), increasing evenly.
      ys: values of the variable, shape (m,), increasing evenly.
      panels: name -> p(ys | xs), shape (m, n), >= 0.
      path: PNG to write, whole or not at all.
      points: name of a panel -> x and y, each of shape (k,), of points to mark there.
      title: written above.

    Raises:
      ValueError: a density has another shape, or there is none.

    Example:
      >>> import tempfile
      >>> xs, ys = np.linspace(0, 1, 11), np.linspace(-1, 1, 21)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     bump = np.exp(-((ys[:, None] - xs) ** 2))
      ...     densities(xs, ys, {"a ridge": bump}, Path(folder) / "densities.png")
    """
    for name, values in panels.items():
        if np.shape(values) != (len(ys), len(xs)):
            raise ValueError(
                f"densities(panels=...) must be of shape {(len(ys), len(xs))}, "
                f"got {name} {np.shape(values)}"
            )
    figure, row = _row("densities(panels)", panels, title)
    everything = np.concatenate([np.ravel(values) for values in panels.values()])
    top = np.sqrt(np.percentile(everything[everything > 0], 99)) if everything.any() else 1.0
    for axes, (name, values) in zip(row, panels.items(), strict=True):
        axes.grid(False)
        axes.pcolormesh(
            xs,
            ys,
            np.sqrt(values),
            cmap=SHADES,
            vmin=0,
            vmax=top,
            shading="nearest",
            rasterized=True,
        )
        if points and name in points:
            axes.plot(*points[name], "o", color="0.1", ms=1.8, alpha=0.5, mew=0)
        axes.set_xlim(xs[0], xs[-1])
        axes.set_ylim(ys[0], ys[-1])
    save(figure, path)


def _row(what: str, panels: Mapping[str, object], title: str) -> tuple[Figure, list[Axes]]:
    """Return panels side by side that share their axes."""
    if not panels:
        raise ValueError(f"{what} must hold at least one panel, got none")
    figure = Figure(figsize=(PANEL[0] * len(panels), PANEL[1]), layout=layout())
    row: list[Axes] = []
    for i, name in enumerate(panels):
        shared = row[0] if row else None
        axes = figure.add_subplot(1, len(panels), i + 1, sharex=shared, sharey=shared)
        style(axes, xlabel="x", title=name)
        row.append(axes)
    row[0].set_ylabel("y")
    headline(figure, title)
    return figure, row
