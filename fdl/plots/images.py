"""Rows of small images, with a caption under each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fdl.plots.figure import COLOURS, headline, layout, save

CELL = (0.85, 1.0)  # inches
MARK = COLOURS[1]


class ImageRow(NamedTuple):
    """Images of one kind.

    Attributes:
      images: shape (n, H, W).
      captions: a text under each, or none at all.
      marked: whether to set off each image and its caption by colour, or none at all.
      signed: red above 0 and blue below, on a scale of the row's largest size; else 0 is white and
        the row's largest value black.
    """

    images: np.ndarray
    captions: Sequence[str] = ()
    marked: Sequence[bool] = ()
    signed: bool = False


def image_rows(rows: Mapping[str, ImageRow], path: str | Path, *, title: str = "") -> None:
    """Draw rows of images, such as digits and what was done to them, one below the other.

    Args:
      rows: name, written on the left -> images; rows may differ in length.
      path: PNG to write, whole or not at all; equal arguments give equal bytes.
      title: written above.

    Raises:
      ValueError: no row, images of another form, or captions or marks for another number of images.

    Example:
      >>> import tempfile
      >>> rows = {"even": ImageRow(np.eye(4)[None], ["1"]), "odd": ImageRow(-np.eye(4)[None])}
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     image_rows(rows, Path(folder) / "eyes.png")
      ...     (Path(folder) / "eyes.png").exists()
      True
    """
    save(_draw(rows, title), path)


def _draw(rows: Mapping[str, ImageRow], title: str) -> Figure:
    if not rows:
        raise ValueError("image_rows(rows) must hold a row, got none")
    for name, row in rows.items():
        _check(name, row)
    across = max(len(row.images) for row in rows.values())
    size = (CELL[0] * across + 1.2, CELL[1] * len(rows) + 0.4 * bool(title))
    figure = Figure(figsize=size, layout=layout())
    grid = figure.subplots(len(rows), across, squeeze=False)
    for line, (name, row) in zip(grid, rows.items(), strict=True):
        limit = float(np.abs(row.images).max()) or 1.0
        for i, axes in enumerate(line):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if i < len(row.images):
                _image(axes, row, i, limit)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9, parse_math=False)
    headline(figure, title)
    return figure


def _image(axes: Axes, row: ImageRow, i: int, limit: float) -> None:
    low, colours = (-limit, "RdBu_r") if row.signed else (0.0, "Greys")
    axes.imshow(row.images[i], cmap=colours, vmin=low, vmax=limit, interpolation="nearest")
    marked = len(row.marked) > 0 and bool(row.marked[i])
    axes.spines[:].set(
        visible=True, color=MARK if marked else "0.8", linewidth=2 if marked else 0.6
    )
    if len(row.captions):
        colour, weight = (MARK, "bold") if marked else ("0.2", "normal")
        text = axes.set_xlabel(row.captions[i], fontsize=8, color=colour, fontweight=weight)
        text.set_parse_math(False)


def _check(name: str, row: ImageRow) -> None:
    if np.ndim(row.images) != 3 or not np.size(row.images):
        raise ValueError(
            f"image_rows(rows[{name!r}].images) must be (n, H, W), got {np.shape(row.images)}"
        )
    for what in ("captions", "marked"):
        count = len(getattr(row, what))
        if count not in (0, len(row.images)):
            raise ValueError(
                f"image_rows(rows[{name!r}].{what}) must be one for each of {len(row.images)} "
                f"images, got {count}"
            )
