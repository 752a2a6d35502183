"""Parts of a data set, and a validation part taken from the training part."""

import math
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fdl.data.permutation import permutation
from fdl.errors import InputError

Arrays: TypeAlias = dict[str, NDArray[Any]]  # named arrays, each with the examples along axis 0

# From here on are streams of the seed that no epoch of `fdl.data.batches` reaches: one for each
# size, so that a second cut with the same seed does not repeat the pattern of the first.
_HOLDOUT_STREAM = 2**63


class Splits(NamedTuple):
    """A data set with the test part that its documentation fixes."""

    train: Arrays
    test: Arrays


class Parts(NamedTuple):
    """A data set of the user's own; what the files do not hold is None."""

    train: Arrays
    valid: Arrays | None = None
    test: Arrays | None = None


class Holdout(NamedTuple):
    """A training part cut in two."""

    train: Arrays
    valid: Arrays


def split_validation(
    train: Arrays,
    fraction: float = 0.2,
    *,
    seed: int = 0,
    stratify: bool | None = None,
    by: Literal["random", "order"] = "random",
) -> Holdout:
    """Cut a validation part out of a training part; the test part is never looked at.

    `by="random"` estimates the error on more examples like those of the training part. `by="order"`
    takes the last examples: the better stand-in where the file keeps groups together and the test
    part comes from other groups, as in `digits` (writers). There five classifiers were judged 4.3
    points too good by the last fifth and 4.8 by a random fifth: no cut of the training part shows
    how much harder the writers of the test part are.

    Args:
      train: arrays of equal length N; "y" holds the labels.
      fraction: share of the validation part, in (0, 1); round(fraction * N) examples.
      seed: of the random choice.
      stratify: keep the class proportions to within one example per class; None: when "y" holds
        integers of shape (N,). Not with `by="order"`.
      by: "random" or "order".

    Returns:
      Holdout(train, valid), each in the order of the original.

    Raises:
      InputError: a part would be empty.
      ValueError: an argument is out of range, or the labels cannot be stratified.

    Example:
      >>> arrays = {"x": np.arange(10.0)[:, None], "y": np.repeat([0, 1], 5)}
      >>> split_validation(arrays, 0.4).valid["y"].tolist()
      [0, 0, 1, 1]
      >>> split_validation(arrays, 0.4, by="order").valid["x"][:, 0].tolist()
      [6.0, 7.0, 8.0, 9.0]

    Source: DLB 5.3, 7.8.
    """
    n = count(train, "split_validation")
    if by == "order":
        if stratify:
            raise ValueError("split_validation(stratify=True) needs by='random', got by='order'")
        chosen = np.arange(n - _held(n, fraction), n)
    elif by == "random":
        labels = train.get("y")
        whole = labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu"
        if stratify and not whole:
            raise ValueError(
                "split_validation(stratify=True) needs integer labels 'y' of shape (N,)"
            )
        use = whole if stratify is None else stratify
        chosen = holdout_rows(n, fraction, seed=seed, labels=labels if use else None)
    else:
        raise ValueError(f"split_validation(by=...) must be 'random' or 'order', got {by!r}")
    rest = np.setdiff1d(np.arange(n), chosen)
    return Holdout(
        {name: array[rest] for name, array in train.items()},
        {name: array[chosen] for name, array in train.items()},
    )


def holdout_rows(
    n: int, fraction: float, *, seed: int = 0, labels: NDArray[Any] | None = None
) -> NDArray[np.int64]:
    """Draw round(fraction * n) of 0..n-1, in proportion to the classes where `labels` are given.

    Args:
      n: number of examples.
      fraction: in (0, 1).
      seed: of the choice.
      labels: one value per example, shape (n,); any dtype that sorts.

    Returns:
      Sorted int64 rows.

    Raises:
      InputError: one of the two parts would be empty.
      ValueError: `fraction` is out of range.

    Example:
      >>> holdout_rows(10, 0.3, seed=1).tolist()
      [4, 5, 7]
    """
    held = _held(n, fraction)
    order = permutation(n, seed=seed, stream=_HOLDOUT_STREAM + n)
    if labels is None:
        return np.sort(order[:held])
    _, classes, sizes = np.unique(labels[order], return_inverse=True, return_counts=True)
    quota = _quotas(sizes, held)
    rows = [order[classes == c][:k] for c, k in enumerate(quota)]
    return np.sort(np.concatenate(rows))


def count(arrays: Arrays, function: str) -> int:
    """Return the number of examples, or raise ValueError where the arrays disagree."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"{function}(arrays) must be arrays of equal length, got {lengths}")
    return next(iter(lengths.values()))


def _held(n: int, fraction: float) -> int:
    if not 0 < fraction < 1:
        raise ValueError(f"split_validation(fraction=...) must be in (0, 1), got {fraction}")
    held = math.floor(fraction * n + 0.5)
    if not 0 < held < n:
        raise InputError(f"a share of {fraction} of {n} examples leaves one part empty")
    return held


def _quotas(sizes: NDArray[np.int64], held: int) -> NDArray[np.int64]:
    """Share `held` out over the classes by largest remainders (Hamilton), so that the sum is exact.

    A class gives its last example away only where all others have done so.
    """
    ideal = sizes * (held / sizes.sum())
    quota = np.floor(ideal).astype(np.int64)
    while (left := held - quota.sum()) > 0:
        order = np.lexsort((quota - ideal, quota >= sizes - 1))
        quota[order[:left]] += 1
    return quota
