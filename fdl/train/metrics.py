"""Numbers reported beside the loss, combined rightly over devices, micro-batches and batches."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fdl import axes
from fdl.types import Array, Metrics, PyTree


class Ratio(NamedTuple):
    """A mean that still knows what it was taken over: total / count.

    Means over parts of unequal weight cannot be averaged; their totals and counts can be added.

    Attributes:
      total: sum of the quantity, scalar.
      count: how much was summed (examples, pixels, tokens), scalar; the value is 0 where it is 0.
    """

    total: Array | float
    count: Array | float  # type: ignore[assignment]  # hides tuple.count, which nobody misses

    @property
    def value(self) -> Array:
        """total / count."""
        return self.total / jnp.maximum(self.count, 1e-30)


def mean(values: Array, where: Array | None = None) -> Ratio:
    """Average per-example values as a `Ratio`: sum_i m_i v_i / sum_i m_i.

    Args:
      values: one value for each example, any shape.
      where: weights broadcastable to `values`, such as the 0/1 mask of a padded batch; all 1 if
        None.

    Returns:
      A `Ratio` of float32 scalars (float64 for float64 values).

    Example:
      >>> float(mean(jnp.array([1.0, 2.0, 9.0]), where=jnp.array([1.0, 1.0, 0.0])).value)
      1.5
    """
    values = jnp.asarray(values)
    values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    weights = jnp.ones_like(values) if where is None else jnp.broadcast_to(where, values.shape)
    # a masked value may be NaN or infinite, and 0 * inf would let it through
    total = jnp.where(weights == 0, 0, values * weights.astype(values.dtype)).sum()
    return Ratio(total, weights.astype(values.dtype).sum())


def _is_ratio(x: Any) -> bool:
    return isinstance(x, Ratio)


def over_devices(metrics: Metrics, axis: str | None = axes.DATA) -> Metrics:
    """Combine the metrics of all devices: ratios by adding, scalars by their mean."""
    return {
        name: axes.total(m, axis) if _is_ratio(m) else axes.mean(m, axis)
        for name, m in metrics.items()
    }


def over_steps(stacked: Metrics) -> Metrics:
    """Combine metrics stacked along axis 0: ratios by adding, scalars by their mean."""
    return {
        name: jax.tree.map(lambda a: a.sum(0), m) if _is_ratio(m) else jnp.mean(m, 0)
        for name, m in stacked.items()
    }


def add(first: Metrics | None, second: Metrics) -> Metrics:
    """Add the ratios of two batches; None is no batch yet.

    Raises:
      ValueError: naming a metric that is a bare number, whose sum would mean nothing.

    Example:
      >>> float(add({"a": Ratio(1.0, 2.0)}, {"a": Ratio(5.0, 1.0)})["a"].value)
      2.0
    """
    for name, m in second.items():
        if not _is_ratio(m):
            raise ValueError(f"add: the metric {name} must be a Ratio, got {type(m).__name__}")
    return second if first is None else jax.tree.map(lambda a, b: a + b, first, second)


def floats(metrics: PyTree) -> dict[str, float]:
    """Turn host metrics into plain floats, each ratio into its value.

    Example:
      >>> floats({"loss": np.float32(0.5), "accuracy": Ratio(np.float32(3), np.float32(4))})
      {'loss': 0.5, 'accuracy': 0.75}
    """
    return {
        name: float(np.asarray(m.total)) / max(float(np.asarray(m.count)), 1e-30)
        if _is_ratio(m)
        else float(np.asarray(m))
        for name, m in metrics.items()
    }
