"""Data sets of the user's own, as NumPy files."""

import os
from pathlib import Path

from fdl.data.check import Task, check_supervised
from fdl.data.npy_files import GIB, map_npy, read_npz, show
from fdl.data.splits import Arrays, Parts
from fdl.errors import InputError

_PARTS = ("train", "valid", "test")


def load_npz(
    path: str | os.PathLike[str],
    *,
    task: Task = "classification",
    num_classes: int | None = None,
    max_bytes: int = 4 * GIB,
) -> Parts:
    """Read a supervised data set from one .npz file into memory, and check it.

    The file holds x_train and y_train, and may hold x_valid, y_valid, x_test, y_test; or just x
    and y, which become the training part.

    Args:
      path: the file, as `numpy.savez` writes it.
      task: "classification" (integer labels) or "regression".
      num_classes: K; None: labels of the training part are 0..K-1, each present.
      max_bytes: the largest unpacked size; larger sets go to a folder of .npy files.

    Returns:
      Parts(train, valid, test) of {"x", "y"}; y int32 or float32, x of the file's dtype.

    Raises:
      InputError: anything wrong with the file or its contents, in one line.

    Example:
      >>> import tempfile
      >>> import numpy as np
      >>> path = os.path.join(tempfile.mkdtemp(), "set.npz")
      >>> np.savez(path, x=np.ones((4, 2)), y=np.array([0, 1, 0, 1]))
      >>> load_npz(path).train["y"].tolist()
      [0, 1, 0, 1]
    """
    return _parts(read_npz(path, max_bytes=max_bytes), show(path), task, num_classes)


def load_npy_folder(
    path: str | os.PathLike[str], *, task: Task = "classification", num_classes: int | None = None
) -> Parts:
    """Map a supervised data set from a folder of .npy files: x_train.npy, y_train.npy and so on.

    The inputs stay on disk; a batch reads its own rows. They are read through once, here, to see
    that all numbers are finite.

    Args:
      path: the folder. Files of other names end the loading, as they may be misspelt.
      task: "classification" (integer labels) or "regression".
      num_classes: K; None: labels of the training part are 0..K-1, each present.

    Returns:
      Parts(train, valid, test) of {"x", "y"}; x are read-only memory maps, y are in memory.

    Raises:
      InputError: anything wrong with the files or their contents, in one line.

    Example:
      >>> import tempfile
      >>> import numpy as np
      >>> folder = tempfile.mkdtemp()
      >>> np.save(os.path.join(folder, "x.npy"), np.ones((4, 2)))
      >>> np.save(os.path.join(folder, "y.npy"), np.array([0, 1, 0, 1]))
      >>> type(load_npy_folder(folder).train["x"]).__name__
      'memmap'
    """
    if not os.path.isdir(path):
        raise InputError(f"{show(path)}: no such folder")
    files = sorted(Path(path).glob("*.npy"))
    return _parts({file.stem: map_npy(file) for file in files}, show(path), task, num_classes)


def _parts(arrays: Arrays, name: str, task: Task, num_classes: int | None) -> Parts:
    if set(arrays) == {"x", "y"}:
        arrays = {"x_train": arrays["x"], "y_train": arrays["y"]}
    _check_names(arrays, name)
    train = check_supervised(
        {"x": arrays["x_train"], "y": arrays["y_train"]},
        task=task,
        num_classes=num_classes,
        name=f"{name} (train)",
    )
    if task == "classification" and num_classes is None:
        num_classes = int(train["y"].max()) + 1
    held = {part: _held(arrays, part, train, task, num_classes, name) for part in _PARTS[1:]}
    return Parts(train, **held)


def _check_names(arrays: Arrays, name: str) -> None:
    allowed = [f"{letter}_{part}" for part in _PARTS for letter in "xy"]
    for key in arrays:
        if key not in allowed:
            raise InputError(f"{name}: array {key!r} is none of {', '.join(allowed)} (or x, y)")
    for part in _PARTS:
        x, y = f"x_{part}" in arrays, f"y_{part}" in arrays
        if x != y or (part == "train" and not x):
            missing = f"y_{part}" if x else f"x_{part}"
            raise InputError(f"{name}: no array {missing!r}, only {sorted(arrays)}")


def _held(
    arrays: Arrays, part: str, train: Arrays, task: Task, num_classes: int | None, name: str
) -> Arrays | None:
    """Return the validation or test part if there is one; it must look like the training part."""
    if f"x_{part}" not in arrays:
        return None
    checked = check_supervised(
        {"x": arrays[f"x_{part}"], "y": arrays[f"y_{part}"]},
        task=task,
        num_classes=num_classes,
        min_classes=1,
        name=f"{name} ({part})",
    )
    for key, array in checked.items():
        like = train[key]
        if array.shape[1:] != like.shape[1:] or array.dtype != like.dtype:
            raise InputError(
                f"{name} ({part}): {key} must be {like.dtype}{like.shape[1:]} per example, as in "
                f"training, got {array.dtype}{array.shape[1:]}"
            )
    return checked
