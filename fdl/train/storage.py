"""One checkpoint on the disk: Orbax's files, and a manifest with the digest of each of them.

Orbax notices some damage, but not all, and pages of traceback come from its threads when it does.
So the manifest is checked first and Orbax is only given what is as it was written.
"""

import hashlib
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fdl.errors import DiskError, InputError
from fdl.train import manifest

UNFINISHED = ".orbax-checkpoint-tmp"  # Orbax's mark of a save under way, or cut off by a kill
_MANIFEST = "manifest.json"
_TIMES = "_CHECKPOINT_METADATA"  # Orbax writes the time of completion here last; not read by us


class Damaged(Exception):
    """A checkpoint cannot be used; the message is one line that says why."""


class Storage:
    """The calls that are made to Orbax. Loading it takes seconds: make this only when needed."""

    def __init__(self) -> None:
        import orbax.checkpoint as ocp

        self._ocp = ocp
        # Each process works for itself: nothing here waits for another one.
        me = jax.process_index()
        options = ocp.options.MultiprocessingOptions(
            primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"fdl{me}"
        )
        self._checkpointer = ocp.AsyncCheckpointer(
            ocp.PyTreeCheckpointHandler(multiprocessing_options=options),
            multiprocessing_options=options,
            async_options=ocp.options.AsyncOptions(post_finalization_callback=self._complete),
        )
        self._under_way: tuple[Path, Mapping[str, Any]] | None = None
        logging.getLogger("absl").addFilter(self._not_from_orbax)

    def save(self, path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
        """Copy arrays, then write them and their manifest; `path` appears when all is complete."""
        self._under_way = path, about
        full = {name: array for name, array in arrays.items() if array.size}
        # Host arrays are copied by Orbax before it returns, so that a next step may reuse them.
        self._checkpointer.save(path, args=self._ocp.args.PyTreeSave(full))

    def _complete(self) -> None:
        """Add the manifest: called in the background, just before the folder gets its name."""
        assert self._under_way is not None
        path, about = self._under_way
        (unfinished,) = path.parent.glob(f"{path.name}{UNFINISHED}*")
        files = sorted(file for file in unfinished.rglob("*") if file.is_file())
        names = {file.relative_to(unfinished).as_posix(): file for file in files}
        digests = {name: _digest(file) for name, file in names.items() if name != _TIMES}
        (unfinished / _MANIFEST).write_text(manifest.seal({**about, "files": digests}))

    def wait(self) -> None:
        """Wait for the save under way and raise what went wrong with it."""
        self._checkpointer.wait_until_finished()

    def arrays(self, path: Path, about: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Read the arrays that a manifest tells of, after checking every file.

        Raises:
          Damaged: when one is not as it was written.
        """
        check_files(path, about)
        empty = {name: np.zeros(shape, dtype) for name, (dtype, shape) in about["empty"].items()}
        as_numpy = self._ocp.RestoreArgs(restore_type=np.ndarray)
        args = self._ocp.args.PyTreeRestore(
            restore_args={name: as_numpy for name in about["leaves"] if name not in empty}
        )
        try:
            full = self._checkpointer.restore(path, args=args)
        except Exception as error:  # Orbax raises many kinds here, all mean the same
            raise Damaged(brief(error)) from error
        return {**empty, **full}

    def close(self) -> None:
        """Let go of the background threads."""
        self._checkpointer.close()
        logging.getLogger("absl").removeFilter(self._not_from_orbax)

    def _not_from_orbax(self, record: logging.LogRecord) -> bool:
        # It logs pages of traceback for an error that it raises as well.
        return f"{os.sep}orbax{os.sep}" not in record.pathname


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of the checkpoint at `path`.

    Raises:
      Damaged: when it is not as it was written.
      InputError: when it is of a later format.
      DiskError: when it may not be read.
    """
    try:
        about = manifest.unseal((path / _MANIFEST).read_text())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise Damaged(f"it has no {_MANIFEST}") from error
    except OSError as error:
        raise DiskError(f"{path} cannot be read: {brief(error)}") from error
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{_MANIFEST} is damaged: {brief(error)}") from error
    if about["format"] > manifest.FORMAT:
        raise InputError(f"{path} was written by a newer version of fdl")
    if str(about["step"]) != path.name:
        raise Damaged(f"it was saved as step {about['step']}")
    return about


def check_files(path: Path, about: Mapping[str, Any]) -> None:
    """Compare every file of a checkpoint with its digest.

    Raises:
      Damaged: naming the first that is missing or not as it was written.
      DiskError: when one may not be read.
    """
    for name, digest in about["files"].items():
        try:
            found = _digest(path / name)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise Damaged(f"{name} is missing") from error
        except OSError as error:
            raise DiskError(f"{path / name} cannot be read: {brief(error)}") from error
        if found != digest:
            raise Damaged(f"{name} does not match its digest")


def brief(error: Exception) -> str:
    """Cut an error down to one line; those of TensorStore fill pages and end with the reason."""
    code = error.errno if isinstance(error, OSError) else None
    if found := re.search(r"os_error_code='(\d+)'", str(error)):
        code = int(found[1])
    if code:
        return os.strerror(code).lower()
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
