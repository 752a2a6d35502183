"""The three ways to feed one and the same step: full batch, mini-batches, online (DLB 8.1.3)."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import count as count_from
from itertools import islice, repeat

import numpy as np
from numpy.typing import ArrayLike

from fdl.data.batches import batch, batch_indices
from fdl.data.splits import Arrays, count
from fdl.errors import InputError


def full(arrays: Arrays) -> Iterator[Arrays]:
    """Yield the whole set at every step: deterministic (batch) gradient methods.

    Raises:
      InputError: the set is empty.
      ValueError: the arrays differ in length.

    Example:
      >>> next(full({"x": np.arange(3)}))["x"].tolist()
      [0, 1, 2]

    Source: DLB 8.1.3.
    """
    if count(arrays, "full") == 0:
        raise InputError("the training set is empty")
    return repeat(arrays)


def minibatches(
    arrays: Arrays,
    batch_size: int,
    *,
    seed: int,
    start: int = 0,
    stop: int | None = None,
    process: tuple[int, int] = (0, 1),
) -> Iterator[Arrays]:
    """Yield `batch(arrays, batch_size, seed=seed, step=s)` for s = start, ..., stop - 1.

    To go on with a run after k steps, start at k. E epochs end at `stop = E * steps_per_epoch(N,
    B)`.

    Args:
      arrays: arrays of equal length.
      batch_size: global batch size.
      seed: of the order.
      start: the first step, >= 0.
      stop: the step before which to end; None: never.
      process: (rank, count).

    Raises:
      InputError, ValueError: as `batch`, at the call and not at the first batch.

    Example:
      >>> [b["x"].tolist() for b in minibatches({"x": np.arange(6)}, 2, seed=0, start=1, stop=3)]
      [[1, 5], [4, 3]]

    Source: DLB 8.1.3.
    """
    batch_indices(count(arrays, "minibatches"), batch_size, seed=seed, step=start)
    steps = count_from(start) if stop is None else range(start, stop)
    return (batch(arrays, batch_size, seed=seed, step=s, process=process) for s in steps)


def online(examples: Iterable[Mapping[str, ArrayLike]], batch_size: int = 1) -> Iterator[Arrays]:
    """Stack single examples of a stream into batches; each example is seen once and then forgotten.

    As no example comes twice, the gradient is one of the generalisation error itself, without bias.

    Args:
      examples: mappings of one example's arrays; may never end.
      batch_size: B >= 1. A stream that ends leaves its last, incomplete batch out.

    Yields:
      Arrays of shape (B, ...).

    Raises:
      InputError: B < 1.

    Example:
      >>> [b["x"].tolist() for b in online(({"x": i} for i in range(5)), 2)]
      [[0, 1], [2, 3]]

    Source: DLB 8.1.3, eq. 8.7-8.9.
    """
    if batch_size < 1:
        raise InputError(f"batch size must be >= 1, got {batch_size}")
    return _stacked(iter(examples), batch_size)


def _stacked(stream: Iterator[Mapping[str, ArrayLike]], batch_size: int) -> Iterator[Arrays]:
    while len(group := list(islice(stream, batch_size))) == batch_size:
        yield {name: np.stack([np.asarray(e[name]) for e in group]) for name in group[0]}
