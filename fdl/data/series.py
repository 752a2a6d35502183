"""Embedded time series, and the windows that make one a supervised set."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdl.data.embedded import embedded
from fdl.data.splits import Arrays, Splits

_TRAIN = 250


def sunspots() -> Splits:
    """Return the yearly mean sunspot numbers of 1700-2008: cycles of about 11 years.

    The training part is 1700-1949, the test part 1950-2008. One-step root mean squared errors on
    the test part: repeat the last value 33.2, linear on the last 2 values 22.2, on the last 9
    18.75.

    Returns:
      Splits(train, test) of {"year", "x"}: year int32, x float32 (mean daily sunspot number, >=
      0), of shapes (250,) and (59,).

    Example:
      >>> train, test = sunspots()
      >>> train["x"].shape, test["x"].shape, train["x"][:3].tolist()
      ((250,), (59,), [5.0, 11.0, 16.0])
      >>> train["year"][[0, -1]].tolist()
      [1700, 1949]

    Source: National Geophysical Data Center (USA), as copied by statsmodels. Public domain.
    """
    stored = embedded("sunspots")
    year, x = stored["year"].astype(np.int32), stored["number"].astype(np.float32)
    return Splits(
        {"year": year[:_TRAIN], "x": x[:_TRAIN]}, {"year": year[_TRAIN:], "x": x[_TRAIN:]}
    )


def windows(series: NDArray[Any], width: int) -> Arrays:
    """Pair each value of a series with the `width` values before it.

    x_i = (s_i, ..., s_{i+width-1}),  y_i = s_{i+width}

    To predict all of a test part, put the last `width` training values in front of it.

    Args:
      series: shape (T, ...), oldest first.
      width: number of past values, 1 <= width < T.

    Returns:
      {"x": (T - width, width, ...), "y": (T - width, ...)}, copies.

    Raises:
      ValueError: `width` is out of range.

    Example:
      >>> pairs = windows(np.array([1, 2, 3, 4]), 2)
      >>> pairs["x"].tolist(), pairs["y"].tolist()
      ([[1, 2], [2, 3]], [3, 4])
    """
    if not 1 <= width < len(series):
        raise ValueError(f"windows(width=...) must be in [1, {len(series) - 1}], got {width}")
    past = np.stack([series[i : len(series) - width + i] for i in range(width)], axis=1)
    return {"x": past, "y": series[width:].copy()}
