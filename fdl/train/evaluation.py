"""Metrics of a model over a whole data set, each example counted once."""

from collections.abc import Callable, Iterable

import jax

from fdl.train import metrics as metric
from fdl.types import Batch, Extra, Metrics, Params


def evaluate(
    score: Callable[[Params, Extra, Batch], Metrics],
    params: Params,
    extra: Extra,
    batches: Iterable[Batch],
    *,
    prefix: str = "",
) -> dict[str, float]:
    """Average per-example metrics over batches: sum of totals / sum of counts.

    Args:
      score: `(params, extra, batch) -> {name: Ratio}`, compiled by the caller (`jax.jit`); it
        weighs its examples by the mask of a padded batch, so that the padding does not count.
      params: one replica of the parameters.
      extra: one replica of the model's other state.
      batches: of one size, such as `fdl.data.pad_batches` gives.
      prefix: put before each name, such as "valid_".

    Returns:
      Plain floats by name.

    Raises:
      ValueError: when there is no batch.

    Example:
      >>> import jax.numpy as jnp
      >>> def score(params, extra, batch):
      ...     return {"error": metric.mean(abs(batch["x"] - params), where=batch["mask"])}
      >>> batches = [{"x": jnp.array([1.0, 3.0]), "mask": jnp.array([1.0, 1.0])},
      ...            {"x": jnp.array([5.0, 9.0]), "mask": jnp.array([1.0, 0.0])}]
      >>> evaluate(score, 2.0, {}, batches, prefix="test_")
      {'test_error': 1.6666666666666667}
    """
    total: Metrics | None = None
    for batch in batches:
        total = metric.add(total, score(params, extra, batch))
    if total is None:
        raise ValueError("evaluate(batches) must yield at least one batch")
    values = metric.floats(jax.device_get(total))
    return {f"{prefix}{name}": value for name, value in values.items()}
