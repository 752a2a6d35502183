"""What all pictures share: colours, axes, legends, and files that are written whole."""

import io
import os
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

# Okabe and Ito's colours: distinct in print and to colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
PANEL = (5.2, 3.4)  # inches
DPI = 120


def layout() -> ConstrainedLayoutEngine:
    """Return the engine that keeps texts apart from panels."""
    return ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)  # inches


def style(axes: Axes, *, xlabel: str, title: str) -> None:
    """Give a panel its texts, a light grid and no frame above and on the right."""
    axes.set_xlabel(xlabel)
    # Names come from the user: "$" is a dollar, not the start of a formula.
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", parse_math=False)
    axes.grid(True, which="major", color="0.9", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend(axes: Axes) -> None:
    """Name the lines of a panel, if it has any."""
    if axes.lines:
        for text in axes.legend(frameon=False, fontsize=9).get_texts():
            text.set_parse_math(False)


def headline(figure: Figure, title: str) -> None:
    """Write a title above all panels."""
    if title:
        figure.suptitle(title, fontsize=12, parse_math=False)


def save(figure: Figure, path: str | Path) -> None:
    """Write the picture as PNG; equal figures give equal bytes."""
    picture = io.BytesIO()
    FigureCanvasAgg(figure)
    # Matplotlib would write its version into the file: equal figures shall give equal bytes.
    figure.savefig(picture, format="png", dpi=DPI, metadata={"Software": None})
    write(picture.getvalue(), path)


def write(content: bytes, path: str | Path) -> None:
    """Write the file whole or not at all."""
    path = Path(path)
    draft = path.with_name(path.name + ".tmp")
    draft.write_bytes(content)
    os.replace(draft, path)
