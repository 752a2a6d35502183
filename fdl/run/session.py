"""One run of a recipe: its folder, devices, checkpoints and records; the loop stays bare."""

import contextlib
import dataclasses
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fdl.data import fingerprint
from fdl.errors import InputError, NonFiniteError, Preempted
from fdl.run import agreement, processes, report
from fdl.run.folder import (
    CHECKPOINTS,
    CONFIG,
    config_changes,
    read_config,
    write_config,
)
from fdl.run.log import MetricsLog
from fdl.run.profile import profile
from fdl.run.progress import Progress
from fdl.run.settings import Settings
from fdl.run.signals import StopRequest
from fdl.run.summary import summary
from fdl.run.tensorboard import TensorBoard
from fdl.run.watchdog import Watchdog
from fdl.train.checkpoint import Checkpoints
from fdl.train.metrics import floats
from fdl.train.parallel import RUN_AHEAD, How, Runner, lift
from fdl.train.state import State
from fdl.types import Metrics, PyTree, Step

# What may differ when a run goes on: where, how long and how it is watched, not what it computes.
FREE_SETTINGS = frozenset(
    ["out", "steps", "resume", "force", "parallel", "devices", "log_every", "profile", "quiet"]
)
METRICS = "metrics.jsonl"
BEST = "valid_loss"  # the score by which the best checkpoint is kept
RESULT = "result.json"
CURVES = "curves.png"


class Session:
    """What a recipe's loop needs from the world around it.

    Made by `fdl.run.execute`. The loop asks `steps` for numbers, hands `log` the metrics of each
    step, and `checkpoint` a way to get the state; nothing here trains.

    Attributes:
      folder: the run folder, shared by all processes.
      process: (rank, count) of this process, as `fdl.data.batch` takes it.
    """

    def __init__(
        self, settings: Settings, folder: Path, stack: contextlib.ExitStack, title: str
    ) -> None:
        self.folder = folder
        self.process = (processes.index(), processes.count())
        self._settings = settings
        self._config: dict[str, Any] = {"settings": dataclasses.asdict(settings)}
        self._stack = stack  # closed when the run ends, however it ends
        self._stop = stack.enter_context(StopRequest())
        self._title = title
        self._began = time.monotonic()
        self._checkpoints = Checkpoints(folder / CHECKPOINTS, best=BEST)
        self._log = MetricsLog(folder / METRICS) if processes.is_main() else None
        self._board: TensorBoard | None = None
        self._progress: Progress | None = None
        self._runner: Runner | None = None
        self._how: How = "none"
        self._pending: deque[tuple[int, Metrics]] = deque()  # metrics still on the devices
        self._bad: str | None = None  # what became of the first loss that was not finite
        self._scores: dict[str, float] = {}  # of the newest evaluation
        self._saved = 0  # the newest checkpoint
        self._done = 0  # updates made
        self._notes: list[str] = []
        self._summary = ""

    def lift(self, step: Step, **options: Any) -> Runner:
        """Compile a step for the devices that the settings ask for; see `fdl.train.lift`."""
        own = self._settings.devices or jax.local_device_count()
        if self._settings.parallel != "auto":
            self._how = self._settings.parallel
        else:
            self._how = "pmap" if processes.count() > 1 or own > 1 else "none"
        self._runner = lift(step, self._how, devices=self._settings.devices, **options)
        return self._runner

    def restore(self, tree: PyTree, *, data: Mapping[str, np.ndarray] | None = None) -> PyTree:
        """Return the newest checkpoint of the run with --resume, `tree` itself otherwise.

        Args:
          tree: the state of the first step, on the host; also the form of what is restored.
          data: the training set; a resume with another one is refused.

        Raises:
          InputError: settings or data differ from those of the run, and --force is not given.
          CheckpointError: there are checkpoints, all of them damaged.
        """
        if data is not None:
            self._config["data"] = fingerprint(data)
        agreement.assert_same(self._config, "settings and data")
        self._refuse_changes()
        self._summary = _summary(tree)
        if self._settings.resume:
            saved = self._checkpoints.latest(tree)
            if saved is None:
                self._note("there is no checkpoint yet: starting at step 0")
            else:
                for line in saved.rejected:
                    self._note(f"passed over {line}; using step {saved.step}")
                self._saved = self._done = saved.step
                tree = saved.tree
        if self._log is not None:
            write_config(self.folder / CONFIG, self._config)
            self._log.truncate_after(self._done)
            start = self._done + 1 if self._settings.resume else None
            self._board = TensorBoard(self.folder / "tensorboard", start=start)
        return tree

    def _refuse_changes(self) -> None:
        """Refuse to go on with other settings or data than a run began with, unless told to."""
        if not self._settings.resume or not (self.folder / CONFIG).exists():
            return
        old, new = _fixed(read_config(self.folder / CONFIG)), _fixed(self._config)
        changes = config_changes(old, new)
        if changes and not self._settings.force:
            raise InputError(
                f"{self.folder} was run with other settings: {'; '.join(changes)};"
                " --force goes on with the new ones"
            )
        for change in changes:
            self._note(f"changed on resume: {change}")

    def steps(self) -> Iterator[int]:
        """Yield the numbers of the updates still to be made, the first of a run being 1."""
        total, batch = self._settings.steps, getattr(self._settings, "batch", 0)
        quiet = self._settings.quiet or not processes.is_main()
        bar = Progress(total, self._done, batch=batch, quiet=quiet)
        # not in this generator: where the loop raises, nobody closes it before the error is shown
        self._progress = self._stack.enter_context(bar)
        watchdog = self._stack.enter_context(Watchdog())
        traced = self._stack.enter_context(profile(self.folder)) if self._settings.profile else None
        for step in range(self._done + 1, total + 1):
            yield step
            self._done = step
            watchdog.beat()
            if traced is not None:
                traced(self._pending[-1][1] if self._pending else None)

    def log(self, step: int, metrics: Metrics) -> None:
        """Record the metrics of an update; they are read some steps later, without waiting."""
        self._pending.append((step, metrics))
        if len(self._pending) > RUN_AHEAD:
            self._read(*self._pending.popleft())

    def due(self, step: int) -> bool:
        """Tell whether it is time to evaluate: every --eval-every steps, and at the last."""
        return step % self._settings.eval_every == 0 or step == self._settings.steps

    def record(self, step: int, scores: dict[str, float]) -> None:
        """Record the scores of an evaluation after `step` updates."""
        self._drain()
        self._scores = scores
        self._write(step, scores)

    def checkpoint(self, step: int, tree: Callable[[], PyTree]) -> None:
        """Save the run when it is due, or when it was asked to stop.

        Args:
          step: updates made so far.
          tree: gives the whole state on the host, as `restore` took it; called only when needed.

        Raises:
          NonFiniteError: the loss of a step, or the state, is not finite.
          Preempted: after saving, when the run was asked to stop.
          DiskError: an earlier save failed.
        """
        stopping, due = self._stop.requested(step), self.due(step)
        if stopping or due:
            self._drain()
        if self._bad is not None:
            raise NonFiniteError(self._bad + _not_finite(tree()) + self._kept())
        if not (stopping or due):
            return
        self._done = step
        if self._log is not None:
            self._log.sync()
        metrics = self._scores if due else {}
        self._checkpoints.save(step, tree(), config=self._config, metrics=metrics)
        self._saved = step
        if self._board is not None:
            self._board.flush()
        if stopping and step < self._settings.steps:
            self._checkpoints.wait()
            raise Preempted(
                f"saved step {step} in {self.folder}; the same command with --resume goes on"
            )

    def records(self) -> list[dict[str, Any]]:
        """Return what this run has recorded, in process 0; the others have no record.

        Returns:
          A dictionary a line of metrics.jsonl, in order of the steps, those before a resume too:
          "step" and the figures that `log` and `record` were handed.
        """
        self._drain()
        return [] if self._log is None else self._log.read()

    def picture(self, name: str, draw: Callable[..., None], *arrays: Any, **options: Any) -> None:
        """Draw a picture into the run folder: `draw(*arrays, path, **options)`, in process 0."""
        if self._log is not None:
            draw(*arrays, self.folder / name, **options)

    def finish(self, figures: Mapping[str, float]) -> None:
        """Write the final figures, the curves and the report."""
        self._checkpoints.wait()
        if self._log is not None:
            write_config(self.folder / RESULT, figures)
            self._report("finished", figures)

    def close(self, error: BaseException | None) -> None:
        """Let go of everything; after an error the report says how far the run came."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._checkpoints.close)
            if self._board is not None:
                stack.callback(self._board.close)
            if isinstance(error, Exception) and self._done and self._log is not None:
                # who is asked to stop has seconds: too few for a picture, which a resume draws
                picture = not isinstance(error, Preempted)
                with contextlib.suppress(OSError):
                    self._report(f"stopped: {error}", {}, picture=picture)

    def _read(self, step: int, metrics: Metrics) -> None:
        """Take the metrics of a step from the devices, and record them if that step is due."""
        assert self._runner is not None, "lift() comes before log()"
        values = floats(self._runner.get(metrics))
        if not math.isfinite(values["loss"]) and self._bad is None:
            norm = f", gradient norm {values['grad_norm']}" if "grad_norm" in values else ""
            self._bad = f"the loss of step {step} is {values['loss']}{norm}"
        last = step == self._settings.steps
        if step % self._settings.log_every == 0 or last or self._bad is not None:
            self._write(step, {f"train_{name}": value for name, value in values.items()})
        elif self._progress is not None:
            self._progress.update(step)

    def _drain(self) -> None:
        while self._pending:
            self._read(*self._pending.popleft())

    def _write(self, step: int, values: dict[str, float]) -> None:
        if self._log is not None:
            self._log.append(step, values)
        if self._board is not None:
            self._board.scalars(step, values)
        if self._progress is not None:
            self._progress.update(step, values)

    def _kept(self) -> str:
        return f"; step {self._saved} is the newest checkpoint" if self._saved else ""

    def _note(self, line: str) -> None:
        """Tell the user now, and in the report."""
        self._notes.append(line)
        if processes.is_main():
            print(f"note: {line}", file=sys.stderr, flush=True)

    def _report(self, outcome: str, figures: Mapping[str, float], *, picture: bool = True) -> None:
        assert self._log is not None
        records = self._log.read()
        if records and picture:
            from fdl import plots  # matplotlib takes a second, which a run should not begin with

            plots.curves(records, self.folder / CURVES)
        facts = report.Report(
            recipe=self._title,
            outcome=outcome,
            command=report.command(),
            settings=self._settings,
            parallel=self._how,
            steps=self._done,
            seconds=time.monotonic() - self._began,
            figures=figures,
            summary=self._summary,
            best=_best(records),
            curves=CURVES if (self.folder / CURVES).exists() else None,
            warnings=self._notes,
        )
        report.write(facts, self.folder)


def _fixed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what may differ when a run goes on."""
    settings = config.get("settings", {})
    kept = {name: value for name, value in settings.items() if name not in FREE_SETTINGS}
    return {"settings": kept, "data": config.get("data")}


def _summary(tree: PyTree) -> str:
    """Describe the models whose training states are in a tree, one after another."""
    found = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, State))
    return "\n\n".join(summary(s.params, s.extra) for s in found if isinstance(s, State))


def _best(records: list[dict[str, Any]]) -> str | None:
    scored = [r for r in records if math.isfinite(r.get(BEST, math.nan))]
    if not scored:
        return None
    best = min(scored, key=lambda r: r[BEST])
    return f"step {best['step']}, {BEST} {best[BEST]:.6g}"


def _not_finite(tree: PyTree) -> str:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    bad = [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, leaf in leaves
        if np.ndim(leaf)  # an infinite scalar may be a best value so far
        and jax.dtypes.issubdtype(leaf.dtype, np.inexact)
        and not np.isfinite(leaf).all()
    ]
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    return f"; no longer finite: {', '.join(bad[:3])}{more}" if bad else ""
