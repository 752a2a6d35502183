"""Pictures: curves of a run, graphs and maps of functions. Matplotlib without its global state."""

from fdl.plots.convergence import convergence as convergence
from fdl.plots.curves import curves as curves
from fdl.plots.curves import functions as functions
from fdl.plots.graph import graph as graph
from fdl.plots.images import ImageRow as ImageRow
from fdl.plots.images import image_rows as image_rows
from fdl.plots.landscape import Landscape as Landscape
from fdl.plots.landscape import landscapes as landscapes
from fdl.plots.predictive import bands as bands
from fdl.plots.predictive import densities as densities
from fdl.plots.regions import regions as regions
from fdl.plots.trials import trials as trials

__all__ = [
    "ImageRow",
    "Landscape",
    "bands",
    "convergence",
    "curves",
    "densities",
    "functions",
    "graph",
    "image_rows",
    "landscapes",
    "regions",
    "trials",
]
