"""Reading the data sets that travel inside the package (written by scripts/embed_data.py)."""

from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdl.data.splits import Arrays, Splits


def embedded(name: str) -> Arrays:
    """Return the arrays of fdl/data/sets/NAME.npz as they are stored.

    Example:
      >>> sorted(embedded("karate"))
      ['clubs', 'edges', 'weights']
    """
    with resources.files("fdl").joinpath("data", "sets", f"{name}.npz").open("rb") as file:
        with np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}


def embedded_table(name: str, label_dtype: type[np.generic]) -> Splits:
    """Return a stored table cut at its test rows: x float32 (N, d), y of `label_dtype` (N,)."""
    arrays = embedded(name)
    held = np.zeros(len(arrays["y"]), dtype=bool)
    held[arrays["test"]] = True
    x: NDArray[Any] = arrays["x"].astype(np.float32)
    y: NDArray[Any] = arrays["y"].astype(label_dtype)
    return Splits({"x": x[~held], "y": y[~held]}, {"x": x[held], "y": y[held]})
