"""Bootstrap sets: as many examples as there are, drawn with replacement, one set for each member.

A set is a function of (n, seed, member) only: a run that goes on draws what it drew before, and to
add members changes none of the others.
"""

import numpy as np
from numpy.typing import NDArray

from fdl.data.batches import batch_indices
from fdl.data.splits import Arrays, count

# streams of the seed that neither an epoch (from 0) nor a holdout (from 2^63) reaches
_STREAM = 2**62


def bootstrap_indices(n: int, members: int, *, seed: int, first: int = 0) -> NDArray[np.int64]:
    """Draw n of n examples with replacement, for each member anew.

    P(an example is in a set) = 1 - (1 - 1/n)^n, which is 1 - 1/e = 0.632 for large n.

    Args:
      n: number of examples N, 1 <= N < 2**32.
      members: k >= 1.
      seed: 0 <= seed < 2**64.
      first: number of the first member, >= 0: members m, ..., m + k - 1 of a larger ensemble.

    Returns:
      int64 of shape (k, N), in [0, N).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> bootstrap_indices(5, 2, seed=0).tolist()
      [[1, 4, 0, 1, 1], [3, 2, 4, 0, 4]]

    Source: DLB 7.11; Efron 1979, Bootstrap methods.
    """
    rules = [
        ("n", n, 1 <= n < 2**32, "in [1, 2**32)"),
        ("members", members, members >= 1, ">= 1"),
        ("seed", seed, 0 <= seed < 2**64, "in [0, 2**64)"),
        ("first", first, first >= 0, ">= 0"),
    ]
    for name, value, kept, rule in rules:
        if not kept:
            raise ValueError(f"bootstrap_indices({name}=...) must be {rule}, got {value}")
    return np.stack([_draw(n, seed, m) for m in range(first, first + members)])


def _draw(n: int, seed: int, member: int) -> NDArray[np.int64]:
    key = np.array([seed, _STREAM + member], dtype=np.uint64)
    words = np.random.Philox(key=key).random_raw(n)
    # floor(n u) of a 32-bit u: NumPy promises raw words for ever, not the results of `choice`
    return ((words >> np.uint64(32)) * np.uint64(n) >> np.uint64(32)).astype(np.int64)


def out_of_bag(sets: NDArray[np.int64], n: int | None = None) -> NDArray[np.bool_]:
    """Tell which examples each bootstrap set leaves out.

    Args:
      sets: as `bootstrap_indices` gives them, shape (k, m).
      n: number of examples; None: m.

    Returns:
      bool of shape (k, n): True where the example is not in the set.

    Example:
      >>> out_of_bag(np.array([[0, 0, 2], [1, 2, 0]])).tolist()
      [[False, True, False], [False, False, False]]
    """
    out = np.ones((len(sets), sets.shape[1] if n is None else n), bool)
    out[np.arange(len(sets))[:, None], sets] = False
    return out


def members_batch(
    arrays: Arrays,
    sets: NDArray[np.int64],
    batch_size: int,
    *,
    seed: int,
    step: int,
    process: tuple[int, int] = (0, 1),
) -> Arrays:
    """Return the examples that each member sees in step `step`: a batch for each.

    Within an epoch a member visits its set without replacement, as `batch` does. Along the first
    axis are members, not examples: where `fdl.train.lift` spreads the batch over devices, each gets
    some of the members.

    Args:
      arrays: arrays of equal length N.
      sets: the rows that each member is trained on, shape (k, m).
      batch_size: B of each member, B <= m.
      seed: of the order.
      step: >= 0.
      process: (rank, count): the r-th c-th of the members; k is divisible by the count.

    Returns:
      The same names; each array of shape (k // count, B, ...).

    Raises:
      InputError: B > m.
      ValueError: the arrays differ in length, k is not divisible, or `step`, `seed` or `process`
        is out of range.

    Example:
      >>> sets = np.array([[0, 1, 2], [3, 3, 3]])
      >>> members_batch({"x": np.arange(4.0)}, sets, 2, seed=0, step=0)["x"].tolist()
      [[0.0, 2.0], [3.0, 3.0]]
    """
    count(arrays, "members_batch")
    rank, number = process
    if not 0 <= rank < number or len(sets) % number:
        raise ValueError(
            f"members_batch(process=...) must be (rank, count) that shares {len(sets)} members"
            f" equally, got {process}"
        )
    size = len(sets) // number
    places = batch_indices(sets.shape[1], batch_size, seed=seed, step=step)
    rows = sets[rank * size : (rank + 1) * size][:, places]
    return {name: array[rows] for name, array in arrays.items()}
