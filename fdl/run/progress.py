"""Progress of a run in the terminal: loss, rate and time left."""

import math
import os
import sys
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TextIO

SECONDS_BETWEEN_DRAWINGS = 0.2
LINES_WITHOUT_TERMINAL = 10
WINDOW = 50  # drawings (10 s in a terminal) over which the rate is averaged


class Progress:
    """Show how far a run is: a bar in a terminal, at most ten plain lines elsewhere.

    A context manager. It never fetches anything: call `update` after each step, with metrics only
    when they have reached the host. It has no thread, changes the terminal only by drawing over
    its own line, and leaves the cursor visible, so that even a killed run leaves a sane terminal.

    Args:
      total: steps in all.
      start: step from which this process goes on, 0 for a new run.
      batch: examples in a step, for the rate in examples; 0 hides it.
      quiet: print nothing at all.
      stream: where to print, standard error when None.

    Example:
      >>> with Progress(100, quiet=True) as progress:
      ...     for step in range(1, 101):
      ...         progress.update(step, {"loss": 0.5})
    """

    def __init__(
        self,
        total: int,
        start: int = 0,
        *,
        batch: int = 0,
        quiet: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self._total = total
        self._step = start
        self._batch = batch
        self._stream = sys.stderr if stream is None else stream
        self._metrics: dict[str, float] = {}
        # The first step compiles, so the rate counts from the end of it.
        self._seen: deque[tuple[float, int]] = deque(maxlen=WINDOW)
        self._began = time.monotonic()
        self._next_time = 0.0
        self._next_step = sys.maxsize if quiet else start + 1
        terminal = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._bar: Any = None if quiet or not terminal else _display(self._stream)
        self._draw = self._draw_line if self._bar is None else self._draw_bar
        self._tenth = max(1, math.ceil(total / LINES_WITHOUT_TERMINAL))
        self._next_line = min(total, (start // self._tenth + 1) * self._tenth)

    def update(self, step: int, metrics: Mapping[str, float] | None = None) -> None:
        """Note that `step` steps are done, and draw if it is time to.

        Args:
          step: steps done since the very start of the run.
          metrics: the newest figures, host floats; None keeps the ones shown.
        """
        self._step = step
        if metrics is not None:
            self._metrics.update(metrics)
        if step < self._next_step:
            return
        now = time.monotonic()
        if now >= self._next_time or step >= self._total:
            self._seen.append((now, step))
            self._draw(now)

    def __enter__(self) -> Self:
        """Start; draws nothing before the first step."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last state of the bar on the screen and give the terminal back."""
        if self._bar is not None and self._bar.is_started:
            self._bar.update(self._row())
            self._bar.stop()
        self._next_step = sys.maxsize

    def text(self) -> str:
        """Describe the newest state in one line of plain ASCII.

        Example:
          >>> progress = Progress(200, quiet=True)
          >>> progress.update(50, {"train_accuracy": 1.0, "train_loss": 0.25})
          >>> progress.text()
          'step 50/200  loss 0.25  accuracy 1'
        """
        shown = [f"step {self._step}/{self._total}"]
        rate = self._rate()
        if self._step >= self._total:
            shown.append(f"took {_clock(time.monotonic() - self._began)}")
        elif rate > 0:
            shown.append(f"{_clock((self._total - self._step) / rate)} left")
        # Losses first: a narrow terminal cuts off what comes last.
        for name, value in sorted(self._metrics.items(), key=lambda m: not m[0].endswith("loss")):
            shown.append(f"{name.removeprefix('train_')} {value:.4g}")
        shown += [f"{_short(rate)} steps/s"] if rate > 0 else []
        shown += [f"{_short(rate * self._batch)} examples/s"] if rate * self._batch > 0 else []
        return "  ".join(shown)

    def _rate(self) -> float:
        """Return steps per second over the last drawings; 0 before there are two of them."""
        if len(self._seen) < 2:
            return 0.0
        (first, low), (last, high) = self._seen[0], self._seen[-1]
        return (high - low) / (last - first) if last > first else 0.0

    def _draw_line(self, now: float) -> None:
        if self._step >= self._next_line:
            print(self.text(), file=self._stream, flush=True)
            following = (self._step // self._tenth + 1) * self._tenth
            over = self._step >= self._total
            self._next_line = sys.maxsize if over else min(following, self._total)
        self._next_step = self._next_line

    def _draw_bar(self, now: float) -> None:
        self._next_time = now + SECONDS_BETWEEN_DRAWINGS
        if not self._bar.is_started:
            self._bar.start()
            self._bar.console.show_cursor(True)
        self._bar.update(self._row(), refresh=True)

    def _row(self) -> Any:
        """Lay out the bar and the text in one row; where it is narrow the text goes first."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        row = Table.grid(expand=True, padding=(0, 2, 0, 0))
        row.add_column(ratio=1)
        row.add_column(no_wrap=True)
        bar = ProgressBar(total=self._total, completed=self._step)
        row.add_row(bar, Text(self.text(), no_wrap=True, overflow="ellipsis"))
        return row


def _display(stream: TextIO) -> Any:
    """Make a rich display that draws only when told to."""
    from rich.console import Console
    from rich.live import Live

    # What the program prints meanwhile goes above the bar, if it goes to the same terminal.
    ours = stream is sys.stderr
    return Live(
        console=Console(file=stream, force_terminal=True),
        auto_refresh=False,
        redirect_stdout=ours and sys.stdout.isatty(),
        redirect_stderr=ours,
    )


def _short(value: float) -> str:
    """Write a number with three or four digits and a letter for thousands.

    Example:
      >>> [_short(v) for v in (0.1234, 12.34, 1234.0, 56789.0, 2.5e6)]
      ['0.123', '12.3', '1.23k', '56.8k', '2.5M']
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _clock(seconds: float) -> str:
    """Write a duration as h:mm:ss, or m:ss below one hour.

    Example:
      >>> _clock(3.2), _clock(75), _clock(3725)
      ('0:03', '1:15', '1:02:05')
    """
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
