"""Mini-batches as a pure function of (seed, step): the data position of a run is one integer.

Epoch e = step // (N // B) visits the examples in the order `permutation(N, seed, stream=e)`, in N
// B batches of B; the N mod B examples left over by an epoch are not visited in it (another epoch
leaves others out).
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdl.data.permutation import permutation
from fdl.data.splits import Arrays, count
from fdl.errors import InputError


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Return the number of whole batches in a set: N // B.

    Raises:
      InputError: the set is smaller than one batch, so that an epoch would be empty.

    Example:
      >>> steps_per_epoch(1437, 128)
      11
    """
    if batch_size < 1:
        raise InputError(f"batch size must be >= 1, got {batch_size}")
    if n < batch_size:
        raise InputError(f"batch size {batch_size} is larger than the set of {n} examples")
    return n // batch_size


def batch_indices(n: int, batch_size: int, *, seed: int, step: int) -> NDArray[np.int64]:
    """Return which examples step `step` of a run visits.

    Within an epoch no example comes twice. The result does not depend on earlier calls.

    Args:
      n: number of examples N.
      batch_size: B, 1 <= B <= N.
      seed: 0 <= seed < 2**64.
      step: >= 0; step 0 is the first.

    Returns:
      int64 of shape (B,), read-only.

    Raises:
      InputError: B < 1 or B > N.
      ValueError: `step` or `seed` is out of range.

    Example:
      >>> [batch_indices(6, 2, seed=0, step=s).tolist() for s in range(4)]
      [[0, 2], [1, 5], [4, 3], [5, 3]]
    """
    per_epoch = steps_per_epoch(n, batch_size)
    if step < 0:
        raise ValueError(f"batch_indices(step=...) must be >= 0, got {step}")
    epoch, position = divmod(step, per_epoch)
    return _order(n, seed, epoch)[position * batch_size : (position + 1) * batch_size]


def batch(
    arrays: Arrays, batch_size: int, *, seed: int, step: int, process: tuple[int, int] = (0, 1)
) -> Arrays:
    """Return the examples of step `step`, or one process's share of them.

    All processes agree on the global batch of `batch_size` examples; process r of c gets its r-th
    c-th. Joined in rank order the shares are the global batch, whatever c is.

    Args:
      arrays: arrays of equal length N; memory-mapped ones are read here, B rows of them.
      batch_size: global B, divisible by the number of processes.
      seed: of the order.
      step: >= 0.
      process: (rank, count).

    Returns:
      The same names; each array a copy of shape (B // count, ...).

    Raises:
      InputError: B > N, or B is not divisible by the number of processes.
      ValueError: the arrays differ in length, or `step`, `seed` or `process` is out of range.

    Example:
      >>> arrays = {"x": np.arange(6.0), "y": np.arange(6)}
      >>> batch(arrays, 4, seed=0, step=0)["y"].tolist()
      [0, 2, 1, 5]
      >>> batch(arrays, 4, seed=0, step=0, process=(1, 2))["y"].tolist()
      [1, 5]
    """
    n = count(arrays, "batch")
    rows = batch_indices(n, batch_size, seed=seed, step=step)[process_share(batch_size, process)]
    return {name: array[rows] for name, array in arrays.items()}


def pad_batches(
    arrays: Arrays, batch_size: int, *, process: tuple[int, int] = (0, 1)
) -> Iterator[Arrays]:
    """Yield every example once, in order, in batches of one size, for evaluation.

    The last batch is filled up with copies of the first example, whose "mask" is 0: a mean over the
    set is sum(mask * value) / sum(mask), and one compiled function serves all batches.

    Args:
      arrays: arrays of equal length N; no array may be named "mask".
      batch_size: global B >= 1; may exceed N.
      process: (rank, count): each process yields its share of every batch.

    Yields:
      The arrays with leading size B // count, and "mask": float32 of that size, 1 for real
      examples.

    Raises:
      InputError: an empty set, B < 1, or B not divisible by the number of processes.
      ValueError: the arrays differ in length or one is named "mask".

    Example:
      >>> [b["mask"].tolist() for b in pad_batches({"x": np.arange(3)}, 2)]
      [[1.0, 1.0], [1.0, 0.0]]
    """
    n = count(arrays, "pad_batches")
    if "mask" in arrays:
        raise ValueError("pad_batches(arrays) must not hold an array named 'mask'")
    if n == 0:
        raise InputError("the set to evaluate on is empty")
    if batch_size < 1:
        raise InputError(f"batch size must be >= 1, got {batch_size}")
    return _padded(arrays, n, batch_size, process_share(batch_size, process))


def _padded(arrays: Arrays, n: int, batch_size: int, share: slice) -> Iterator[Arrays]:
    for start in range(0, n, batch_size):
        rows = np.arange(start, start + batch_size)[share]
        real = rows < n
        rows = np.where(real, rows, 0)
        padded: dict[str, Any] = {name: array[rows] for name, array in arrays.items()}
        yield padded | {"mask": real.astype(np.float32)}


# Training and validation may alternate; more than a few orders of a large set would waste memory.
@lru_cache(maxsize=4)
def _order(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    order = permutation(n, seed=seed, stream=epoch)
    order.setflags(write=False)
    return order


def process_share(batch_size: int, process: tuple[int, int]) -> slice:
    """Return the rows of a global batch that one process gets; process is (rank, count)."""
    rank, number = process
    if not 0 <= rank < number:
        raise ValueError(
            f"batch(process=...) must be (rank, count) with 0 <= rank < count, got {process}"
        )
    if batch_size % number:
        raise InputError(f"batch size {batch_size} is not divisible by {number} processes")
    size = batch_size // number
    return slice(rank * size, (rank + 1) * size)
