"""Is this a data set one can train on? Asked once, on the host, before anything is compiled.

On a device it would be too late: there an out-of-range label is clamped without a word, and a NaN
shows up as a NaN loss many steps on.
"""

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fdl.data.splits import Arrays
from fdl.errors import InputError

Task: TypeAlias = Literal["classification", "regression"]

_CHUNK = 2**22  # numbers looked at together, so that a memory-mapped file is never held whole


def check_supervised(
    arrays: Arrays,
    *,
    task: Task = "classification",
    num_classes: int | None = None,
    batch_size: int | None = None,
    min_classes: int = 2,
    name: str = "data",
) -> Arrays:
    """Check inputs and targets, and give the targets the dtype that losses expect.

    Args:
      arrays: "x" of shape (N, ...), integers or floats, all finite; "y" of length N.
      task: "classification": y are integers of shape (N,); "regression": finite numbers of shape
        (N,) or (N, k).
      num_classes: labels are 0..num_classes-1; None: they must be 0..max without a gap.
      batch_size: the training batch, which must not exceed N.
      min_classes: how many different labels there must be; 1 for data that nobody trains on.
      name: what to call the data in messages, e.g. a file.

    Returns:
      {"x": x, "y": y}: x as it came; y int32 for classification, float32 for regression.

    Raises:
      InputError: one line that says where (name, array, row), which rule, which value.
      ValueError: an unknown `task`.

    Example:
      >>> check_supervised({"x": np.ones((3, 2)), "y": np.array([0, 1, 5])}, num_classes=5)
      Traceback (most recent call last):
      fdl.errors.InputError: data: y must be in 0..4, got 5 at row 2
    """
    if task not in ("classification", "regression"):
        raise ValueError(
            f"check_supervised(task=...) must be 'classification' or 'regression', got {task!r}"
        )
    for key in ("x", "y"):
        if key not in arrays:
            raise InputError(f"{name}: no array {key!r}, only {sorted(arrays)}")
    x, y = arrays["x"], arrays["y"]
    check_inputs(x, name=f"{name}: x")
    if len(y.shape) == 0 or len(y) != len(x):
        raise InputError(
            f"{name}: y must have one row per example, got {y.shape} for {len(x)} in x"
        )
    if batch_size is not None and len(x) < batch_size:
        raise InputError(f"{name}: {len(x)} examples are fewer than one batch of {batch_size}")
    if task == "regression":
        return {"x": x, "y": _targets(y, f"{name}: y")}
    return {"x": x, "y": _labels(y, num_classes, min_classes, f"{name}: y")}


def check_inputs(x: NDArray[Any], *, name: str = "x") -> None:
    """Raise InputError unless `x` holds finite numbers, one example and one feature at least.

    Args:
      x: shape (N, ...), with a feature axis.
      name: what to call the array in messages.

    Example:
      >>> check_inputs(np.array([[1.0], [np.inf]]), name="file.npz: x")
      Traceback (most recent call last):
      fdl.errors.InputError: file.npz: x must be finite, got inf at row 1
    """
    _check_numbers(x, name)
    if x.ndim < 2:
        raise InputError(f"{name} must have shape (examples, features...), got {x.shape}")
    if len(x) == 0:
        raise InputError(f"{name} holds no examples, shape {x.shape}")
    if x.size == 0:
        raise InputError(f"{name} holds no features, shape {x.shape}")
    _check_finite(x, name)


def _targets(y: NDArray[Any], name: str) -> NDArray[np.float32]:
    _check_numbers(y, name)
    if y.ndim > 2 or y.size == 0:
        raise InputError(f"{name} must have shape (examples,) or (examples, k), got {y.shape}")
    _check_finite(y, name)
    with np.errstate(over="ignore"):
        single = np.asarray(y).astype(np.float32)
    if not np.isfinite(single).all():
        row = int(np.argwhere(~np.isfinite(single))[0][0])
        raise InputError(f"{name} must fit float32 (below 3.4e38), got {y[row]} at row {row}")
    return single


def _labels(
    y: NDArray[Any], num_classes: int | None, min_classes: int, name: str
) -> NDArray[np.int32]:
    if y.dtype.kind not in "iu":
        raise InputError(f"{name} must hold integer class labels, got {y.dtype}")
    if y.ndim != 1:
        raise InputError(f"{name} must hold one class label per example, shape (N,), got {y.shape}")
    limit = int(y.max()) + 1 if num_classes is None else num_classes
    outside = np.flatnonzero((y < 0) | (y >= limit))
    if len(outside):
        row = int(outside[0])
        rule = ">= 0" if num_classes is None else f"in 0..{limit - 1}"
        raise InputError(f"{name} must be {rule}, got {y[row]} at row {row}")
    present = np.unique(y)
    if num_classes is None and len(present) != limit:
        gap = int(np.flatnonzero(present != np.arange(len(present)))[0])
        raise InputError(
            f"{name} must be 0..K-1 with every class present, but no example has class {gap}"
            f" while one has {limit - 1}"
        )
    if len(present) < min_classes:
        raise InputError(
            f"{name} must hold at least {min_classes} classes, got only {present.tolist()}"
        )
    return np.asarray(y).astype(np.int32)


def _check_numbers(array: NDArray[Any], name: str) -> None:
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise InputError(
            f"{name} must hold integers or floats of at most 64 bits, got {array.dtype}"
        )


def _check_finite(array: NDArray[Any], name: str) -> None:
    if array.dtype.kind != "f":
        return
    rows = max(1, _CHUNK * len(array) // array.size)
    for start in range(0, len(array), rows):
        part = array[start : start + rows]
        if not np.isfinite(part).all():
            where = tuple(np.argwhere(~np.isfinite(part))[0])
            raise InputError(f"{name} must be finite, got {part[where]} at row {start + where[0]}")
