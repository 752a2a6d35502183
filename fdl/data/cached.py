"""What is costly to compute, kept on the disk: a teacher's outputs on a whole data set."""

import hashlib
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from fdl.data.fingerprint import fingerprint
from fdl.errors import DiskError, InputError
from fdl.types import PyTree

ABOUT = "about.json"


def cached(
    folder: str | os.PathLike[str],
    compute: Callable[[], Mapping[str, np.ndarray]],
    *,
    depends_on: PyTree,
) -> dict[str, np.ndarray]:
    """Return the arrays that `compute` makes, from the disk where they were made before.

    They lie in a folder of their own, named after the `fingerprint` of what they depend on: other
    data or another teacher never get them. Files with another digest than when they were written
    are made again, with a warning. A kill leaves either all of them or nothing that is read.

    Outputs on augmented pictures differ in each epoch and cannot be kept; the outputs on the
    pictures that the student sees can, if these stay the same.

    Args:
      folder: where; made if it is missing.
      compute: makes arrays, by name, that hold no Python objects.
      depends_on: all that the outputs depend on, arrays in any nesting: such as
        `{"x": x, "params": params, "extra": extra}`.

    Returns:
      Read-only arrays in memory mapped from the files, of which only the parts in use are read.

    Raises:
      InputError: for an array of objects, or a name that is no name of a file.
      DiskError: when the folder cannot be written.

    Example:
      >>> import tempfile
      >>> x, made = np.arange(3.0), []
      >>> def teacher():
      ...     made.append(1)
      ...     return {"logits": 2 * x}
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     for _ in range(2):
      ...         kept = cached(folder, teacher, depends_on={"x": x})["logits"].tolist()
      >>> kept, len(made)
      ([0.0, 2.0, 4.0], 1)
    """
    leaves = jax.tree_util.tree_leaves_with_path(depends_on)
    named = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    place = Path(folder) / fingerprint(named)
    if place.exists():
        kept = _read(place)
        if kept is not None:
            return kept
        warnings.warn(f"cached: {place} is damaged; its arrays are made again", stacklevel=2)
    arrays = {name: np.asarray(array) for name, array in compute().items()}
    _check(arrays)
    try:
        _write(place, arrays)
    except OSError as error:
        raise DiskError(f"cached(folder): {place} cannot be written: {error.strerror}") from error
    found = _read(place)
    if found is None:
        raise DiskError(f"cached(folder): {place} was written and cannot be read")
    return found


def _check(arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if array.dtype.hasobject or array.dtype.kind not in "biufc":
            raise InputError(f"cached(compute): {name!r} must hold numbers, got {array.dtype}")
        if not name.isidentifier():
            raise InputError(f"cached(compute): a name must be an identifier, got {name!r}")


def _write(place: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write all files beside their place, then give the folder its name."""
    part = place.with_name(f".{place.name}-{uuid.uuid4().hex}")
    part.mkdir(parents=True)
    try:
        for name, array in arrays.items():
            np.save(part / f"{name}.npy", array, allow_pickle=False)
        digests = {name: _digest(part / f"{name}.npy") for name in arrays}
        (part / ABOUT).write_text(json.dumps(digests), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        try:
            part.rename(place)
        except OSError:
            if _read(place) is None:  # else another process has just made the same
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _read(place: Path) -> dict[str, np.ndarray] | None:
    """Map the arrays into memory; None if any file is not as it was written."""
    try:
        digests = json.loads((place / ABOUT).read_text(encoding="utf-8"))
        files = {name: place / f"{name}.npy" for name in digests if name.isidentifier()}
        if any(_digest(files[name]) != digest for name, digest in digests.items()):
            return None
        return {n: np.load(file, mmap_mode="r", allow_pickle=False) for n, file in files.items()}
    except (OSError, ValueError, KeyError, AttributeError, EOFError):
        return None


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
