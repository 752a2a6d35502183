"""The checkpoints of a run, in one folder; with `storage.py` beside it all that touches a disk.

What Orbax leaves to its users is here: a damaged checkpoint is noticed, named and passed over; a
state that is not finite is never written; the best and the newest are kept; every failure is one
line. It takes the place of Orbax's `CheckpointManager`, which counts an empty folder as a
checkpoint, skips a save without a word, and asks JAX about preemption in a background thread with
the number of an old step, which can upset the loop's own question.
"""

import contextlib
import math
import operator
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from fdl.errors import CheckpointError, DiskError, InputError, NonFiniteError
from fdl.train import manifest
from fdl.train.storage import UNFINISHED, Damaged, Storage, brief, read_manifest
from fdl.types import PyTree

_REMOVED = ".removed"  # a checkpoint that is being deleted
_DAMAGED = ".corrupt"  # one that was passed over: kept for the user to look at, never counted


class Restored(NamedTuple):
    """A checkpoint that was read back.

    Attributes:
      step: the step it was saved at.
      tree: the saved arrays, placed like the template.
      config: the settings that were saved with it.
      rejected: one line for each better checkpoint that could not be used: its name, and why.
    """

    step: int
    tree: PyTree
    config: dict[str, Any]
    rejected: list[str]


class Checkpoints:
    """Save and restore the state of one run, in a folder of its own.

    Every process of a run makes the same calls; process 0 alone writes and all of them read, so the
    folder must be one that all can see. Two runs must not write to one folder: hold `fdl.run.lock`
    before making this object, which clears away what a killed run left half-written.

    Args:
      folder: where the checkpoints are, each a folder named by its step; made if absent.
      keep: how many of the newest to keep, >= 1; one more is there while a save is under way.
      best: name of the metric whose best checkpoint is kept besides. A value that is not finite
        never wins; of equal ones the older does.
      higher_is_better: the direction of that metric.
      read_only: change nothing in the folder, for a look at a run that is still going.

    Raises:
      DiskError: here and in every method, when the folder cannot be read or written.

    Example:
      >>> import tempfile
      >>> tree = {"w": np.arange(3.0), "step": np.int32(5)}
      >>> with tempfile.TemporaryDirectory() as folder, Checkpoints(folder) as checkpoints:
      ...     checkpoints.save(5, tree, config={"seed": 0})
      ...     found = checkpoints.latest(tree)
      >>> found.step, found.config, found.tree["w"]
      (5, {'seed': 0}, array([0., 1., 2.]))
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        keep: int = 2,
        best: str | None = None,
        higher_is_better: bool = False,
        read_only: bool = False,
    ) -> None:
        if keep < 1:
            raise ValueError(f"Checkpoints(keep=...) must be >= 1, got {keep}")
        self.folder = Path(os.path.abspath(folder))
        self._keep, self._best = keep, best
        self._sign = 1.0 if higher_is_better else -1.0
        self._read_only = read_only
        self._writes = not read_only and jax.process_index() == 0
        self._open: Storage | None = None
        self._saved: int | None = None  # a step that may still be on its way to the disk
        self._scores: dict[int, float] = {}
        self._cut_off: list[str] = []
        if self._writes:
            with self._disk("opening the checkpoints"):
                self.folder.mkdir(parents=True, exist_ok=True)
                self._cut_off = self._sweep()

    def save(
        self,
        step: int,
        tree: PyTree,
        *,
        config: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Copy a state to the host, then write it in the background.

        Args:
          step: how many updates the state has seen; more than in any checkpoint here.
          tree: host or device arrays (typed PRNG keys too); the one global state, not replicas.
          config: what a restore gives back with it; plain JSON.
          metrics: name -> number; the one that `best` names decides which checkpoint is the best.

        Raises:
          NonFiniteError: naming the leaves that hold NaN, or infinity in an array; nothing is
            written. (An infinite scalar passes: optimizers start "the best so far" there.)
          ValueError: when `step` is not after the newest checkpoint, or a leaf is not an array.
          DiskError: when this save cannot be started or the one before could not be finished.
        """
        step = operator.index(step)
        if self._read_only:
            raise ValueError("Checkpoints(read_only=True) cannot save")
        arrays = manifest.to_host(tree)
        if not any(array.size for array in arrays.values()):
            raise ValueError("save(tree=...) must hold at least one number")
        if bad := manifest.nonfinite(arrays):
            raise NonFiniteError(f"step {step} is not saved: not finite are {_listed(bad)}")
        if self._writes:
            self.wait()
            newest = self.newest
            if step < 0 or newest is not None and step <= newest:
                raise ValueError(f"save(step=...) must be > {newest}, the newest, got {step}")
            about = manifest.describe(step, tree, arrays, config=config, metrics=metrics or {})
            with self._disk(f"saving step {step}"):
                self.folder.stat()  # Orbax would make a vanished folder anew and carry on
                self._storage().save(self._path(step), arrays, about)
            self._scores[step] = self._score(about)
        self._saved = step

    def latest(self, template: PyTree) -> Restored | None:
        """Restore the newest checkpoint that is whole.

        Damaged ones that are newer are named in the result and renamed to `N.corrupt`.

        Args:
          template: the expected structure. NumPy arrays stay on the host; `jax.Array`s and
            `jax.ShapeDtypeStruct`s say by their sharding where the restored arrays go, which may
            be other devices, and more or fewer, than at the save.

        Returns:
          None only where there is no checkpoint at all.

        Raises:
          CheckpointError: when there are checkpoints but none can be used, naming each.
          InputError: when the saved state has other leaves, shapes or types than the template.
        """

        def find() -> Restored | None:
            found = self._first_whole(self._newest_first, template)
            aside = [path.name for path in self._entries() if path.suffix == _DAMAGED]
            if found is None and aside:
                raise CheckpointError(f"{self.folder} holds only damaged checkpoints: {aside}")
            return found

        return self._together(find, template)

    def best(self, template: PyTree) -> Restored | None:
        """Restore the checkpoint with the best finite metric; otherwise like `latest`.

        Returns:
          None where no checkpoint has a finite value of the metric.
        """
        if self._best is None:
            raise ValueError("Checkpoints(best=...) must name a metric before best() is asked for")
        return self._together(lambda: self._first_whole(self._best_first, template), template)

    @property
    def newest(self) -> int | None:
        """The step of the newest checkpoint, one on its way to the disk included."""
        steps = self._newest_first()[:1] + ([] if self._saved is None else [self._saved])
        return max(steps, default=None)

    def wait(self) -> None:
        """Wait for the save under way, then delete what need not be kept."""
        if self._writes and self._open is not None:
            step, self._saved = self._saved, None  # from here on the disk tells, also of a failure
            with self._disk("deleting" if step is None else f"saving step {step}"):
                self._open.wait()
                self._prune()

    def close(self) -> None:
        """Finish the save under way and let go of the background threads."""
        try:
            self.wait()
        finally:
            if self._open is not None:
                self._open.close()
            self._open = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _together(self, find: Callable[[], Restored | None], template: PyTree) -> Restored | None:
        """Let process 0 choose, and all the others restore the same step."""
        self.wait()
        if jax.process_count() == 1:
            return find()
        found, chosen = None, -2  # -1: there is none, -2: it failed
        try:
            if jax.process_index() == 0:
                found = find()
                chosen = -1 if found is None else found.step
        finally:  # also when it failed, as the others are waiting for it
            chosen = int(multihost_utils.broadcast_one_to_all(np.int32(chosen)))
        if chosen == -2:
            raise CheckpointError(f"process 0 could not restore from {self.folder}")
        if chosen == -1 or jax.process_index() == 0:
            return found
        try:
            return self._read(chosen, template)
        except Damaged as error:
            raise CheckpointError(f"{self._path(chosen)} cannot be used: {error}") from error

    def _first_whole(
        self, candidates: Callable[[], list[int]], template: PyTree
    ) -> Restored | None:
        rejected: dict[int, str] = {}
        tried: set[int] = set()
        # Listed anew each time, because beside a running writer checkpoints come and go.
        while left := [step for step in candidates() if step not in tried]:
            tried.add(left[0])
            try:
                found = self._read(left[0], template)
            except Damaged as error:
                if os.path.lexists(self._path(left[0])):
                    rejected[left[0]] = f"{left[0]}: {error}"
            else:
                return found._replace(rejected=[*self._set_aside(rejected), *self._told_once()])
        if rejected:
            lines = "; ".join(rejected.values())
            raise CheckpointError(f"no checkpoint in {self.folder} can be used: {lines}")
        return None

    def _read(self, step: int, template: PyTree) -> Restored:
        about = read_manifest(self._path(step))
        if lines := manifest.differences(about, template):
            raise InputError(f"{self._path(step)} is of another model: {_listed(lines)}")
        arrays = self._storage().arrays(self._path(step), about)
        named = manifest.named_leaves(template)
        leaves = [manifest.place(arrays[name], like) for name, like in named.items()]
        tree = jax.tree.unflatten(jax.tree.structure(template), leaves)
        return Restored(step, tree, about["config"], [])

    def _set_aside(self, rejected: Mapping[int, str]) -> list[str]:
        if not self._writes:
            return list(rejected.values())
        lines = []
        for step, line in rejected.items():
            path = self._path(step)
            names = (f"{step}{_DAMAGED}", *(f"{step}.{i}{_DAMAGED}" for i in range(2, 10_000)))
            free = next(name for name in names if not os.path.lexists(path.with_name(name)))
            with self._disk(f"renaming {path}"):
                path.rename(path.with_name(free))
            lines.append(f"{line} (renamed to {free})")
        return lines

    def _told_once(self) -> list[str]:
        names, self._cut_off = self._cut_off, []
        return [f"{name.partition('.')[0]}: its save was cut off" for name in names]

    def _prune(self) -> None:
        keep = {*self._newest_first()[: self._keep], *self._best_first()[:1]}
        for step in self._newest_first():
            if step not in keep:
                # First out of sight, so that no kill leaves half a checkpoint under its name.
                gone = self._path(step).with_name(f"{step}{_REMOVED}")
                self._path(step).rename(gone)
                shutil.rmtree(gone)

    def _sweep(self) -> list[str]:
        unfinished = [path for path in self._entries() if UNFINISHED in path.name]
        for path in [*unfinished, *(p for p in self._entries() if p.suffix == _REMOVED)]:
            shutil.rmtree(path)
        return [path.name for path in unfinished]

    def _newest_first(self) -> list[int]:
        names = (path.name for path in self._entries())
        digits = (name for name in names if name.isascii() and name.isdigit())
        return sorted((int(name) for name in digits if name == str(int(name))), reverse=True)

    def _best_first(self) -> list[int]:
        if self._best is None:
            return []
        for step in self._newest_first():
            if step not in self._scores:
                with contextlib.suppress(Damaged, InputError):
                    self._scores[step] = self._score(read_manifest(self._path(step)))
        scores = {step: self._scores.get(step, -math.inf) for step in self._newest_first()}
        finite = [step for step, score in scores.items() if score > -math.inf]
        return sorted(finite, key=lambda step: (-scores[step], step))

    def _score(self, about: Mapping[str, Any]) -> float:
        value = about["metrics"].get(self._best, math.nan)
        return self._sign * value if math.isfinite(value) else -math.inf

    def _path(self, step: int) -> Path:
        return self.folder / str(step)

    def _entries(self) -> list[Path]:
        try:
            return sorted(self.folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DiskError(f"{self.folder} cannot be read: {brief(error)}") from error

    def _storage(self) -> Storage:
        if self._open is None:
            self._open = Storage()  # not sooner: it loads Orbax, which takes seconds
        return self._open

    @contextlib.contextmanager
    def _disk(self, doing: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            with contextlib.suppress(OSError):
                self._sweep()  # what was written of it takes up room
            raise DiskError(
                f"{doing} failed in {self.folder} ({_free(self.folder)} free): {brief(error)}"
            ) from error


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free} bytes"
    except OSError:
        return "unknown room"


def _listed(names: list[str]) -> str:
    more = len(names) - 8
    return ", ".join(names[:8]) + (f" and {more} more" if more > 0 else "")
