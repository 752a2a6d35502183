"""Scalars for TensorBoard, where tensorboardX is installed."""

import importlib.util
import math
import numbers
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SECONDS_BETWEEN_FLUSHES = 10.0


def installed() -> bool:
    """Say whether event files can be written: whether tensorboardX is there to be imported."""
    return importlib.util.find_spec("tensorboardX") is not None


class TensorBoard:
    """Write scalars as a TensorBoard event file; does nothing where tensorboardX is absent.

    A resumed run writes a new file that begins with the mark from which TensorBoard forgets what
    older files hold of `start` and later steps, so that no step is shown twice. Events are written
    by the caller's own thread: tensorboardX's `SummaryWriter` hands them to a second one, costs
    more than twice as much, and blocks for ever once that thread has met a full disk.

    Args:
      folder: where the event file goes, made if need be.
      start: first step that this process will write; None for a new run.

    Raises:
      OSError: the folder cannot be written.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     board = TensorBoard(folder)
      ...     board.scalars(1, {"loss": 0.5})
      ...     board.close()
      ...     len(list(Path(folder).iterdir())) == installed()
      True
    """

    def __init__(self, folder: str | Path, *, start: int | None = None) -> None:
        self._writer: Any = None
        if not installed():
            return
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        Path(folder).mkdir(parents=True, exist_ok=True)
        # tensorboardX names files by whole seconds: two processes of one second need a suffix.
        self._writer = EventsWriter(str(Path(folder) / "events"), f".{start or 0}")
        self._event = Event
        self._flushed = time.monotonic()
        if start is not None:
            begin = SessionLog(status=SessionLog.START)
            self._writer.write_event(Event(wall_time=time.time(), step=start, session_log=begin))

    def scalars(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Write the figures of one step; what is no finite number (NaN, None, text) is left out.

        Args:
          step: the step they belong to.
          metrics: name -> host float or int.
        """
        if self._writer is None:
            return
        event = self._event(wall_time=time.time(), step=step)
        for name, value in metrics.items():
            if name != "step" and isinstance(value, numbers.Real) and math.isfinite(value):
                event.summary.value.add(tag=name, simple_value=float(value))
        self._writer.write_event(event)
        if time.monotonic() - self._flushed > SECONDS_BETWEEN_FLUSHES:
            self.flush()

    def flush(self) -> None:
        """Put all events on the disk, as is due before a checkpoint counts."""
        if self._writer is not None:
            self._writer.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Flush and close the file; nothing is written afterwards."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
