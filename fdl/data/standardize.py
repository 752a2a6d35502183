"""Mean 0 and deviation 1, learned on the training part and used on all."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Standard(NamedTuple):
    """What `fit_standard` learned; the methods accept any array whose trailing axes match."""

    mean: NDArray[np.float64]  # shape of one example
    std: NDArray[np.float64]  # the same; 1 where the feature was constant

    def apply(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Return (x - mean) / std as float32, worked out in float64: a large mean does no harm."""
        return ((x - self.mean) / self.std).astype(np.float32)

    def invert(self, z: NDArray[Any]) -> NDArray[np.float64]:
        """Return mean + std * z: predictions in the units of the data."""
        rank = (1,) * (z.ndim - self.std.ndim)  # JAX may be told to refuse an implicit one
        return (
            self.mean.reshape(rank + self.mean.shape) + self.std.reshape(rank + self.std.shape) * z
        )


def fit_standard(x: NDArray[Any], *, axis: int | tuple[int, ...] = 0) -> Standard:
    """Learn each feature's mean and standard deviation over the training part.

    z = (x - mean) / std,  std^2 = mean((x - mean)^2)

    A constant feature gets std = 1, so that it becomes 0 and not 0/0; "constant" allows for
    rounding.

    Args:
      x: training part, shape (N, ...), N >= 1; finite numbers.
      axis: the axes to average over: 0 for tables, (0, 1, 2) for one mean a channel of NHWC images.

    Returns:
      Standard(mean, std), float64, of the shape of `x` without `axis` (ones stay in between).

    Raises:
      ValueError: `x` is empty, or `axis` leaves the examples apart.

    Example:
      >>> learned = fit_standard(np.array([[1.0, 5.0], [3.0, 5.0]]))
      >>> learned.apply(np.array([[5.0, 6.0]])).tolist()
      [[3.0, 1.0]]
    """
    if len(x) == 0:
        raise ValueError("fit_standard(x) must hold at least one example, got 0")
    if 0 not in (axes := (axis,) if isinstance(axis, int) else axis):
        raise ValueError(f"fit_standard(axis=...) must hold axis 0, the examples, got {axes}")
    mean = x.mean(axis=axis, dtype=np.float64, keepdims=True)
    std = x.std(axis=axis, dtype=np.float64, keepdims=True)
    rounding = 8 * np.finfo(np.float64).eps * np.abs(mean) * np.sqrt(len(x))
    std = np.where(std <= rounding, 1.0, std)
    return Standard(mean[0], std[0])
