"""End a process that is alive but stuck; else it keeps all others waiting for ever."""

import faulthandler
import os
import sys
import threading
import time
from types import TracebackType
from typing import NoReturn

from fdl.run import processes

CODE = 1  # not 75, "saved, run again": nothing was saved, and nobody knows why it hangs


class Watchdog:
    """End this process with code 1 when no `beat` came for some time.

    It then writes where the main thread is and the stacks of all threads to stderr. JAX itself lets
    processes wait for a stuck one without limit. Time during which the whole process did not run
    (a closed lid, Ctrl-Z, a suspended job) does not count.

    Args:
      seconds: the longest time between two beats, > 0; None: watch nothing.
      first: the longest time until the first beat, > 0: compiling can take long.

    Raises:
      ValueError: a time is not > 0.

    Example:
      >>> with Watchdog(600) as watchdog:
      ...     for step in range(3):
      ...         watchdog.beat()
    """

    def __init__(self, seconds: float | None = 600.0, *, first: float = 3600.0):
        for name, value in (("seconds", seconds), ("first", first)):
            if value is not None and not value > 0:
                raise ValueError(f"Watchdog({name}=...) must be > 0, got {value}")
        self._beats = 0
        self._stopped = threading.Event()
        if seconds is not None:
            watch = threading.Thread(target=self._watch, args=(seconds, first), name="watchdog")
            watch.daemon = True
            watch.start()

    def beat(self) -> None:
        """Say that a step is done."""
        self._beats += 1

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()

    def __enter__(self) -> "Watchdog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _watch(self, seconds: float, first: float) -> None:
        tick = min(1.0, seconds / 10)
        seen, idle, last = 0, 0.0, time.monotonic()
        while not self._stopped.wait(tick):
            now = time.monotonic()
            idle += min(now - last, 2 * tick)  # more only passes while this thread stands still
            last = now
            if self._beats != seen:
                seen, idle = self._beats, 0.0
            elif idle >= (seconds if seen else first):
                _leave(seen, idle)


def _leave(beats: int, idle: float) -> NoReturn:
    where, inside_jax = _main_thread()
    text = f"{processes.label()}stuck: no step for {idle:.0f} s, after {beats} steps; {where}:\n"
    # Not through sys.stderr, whose lock the main thread may be stuck with.
    os.write(2, text.encode())
    faulthandler.dump_traceback(2)
    if inside_jax and processes.count() > 1:
        time.sleep(1)  # it waits for another process: let that one be the first to leave
    os._exit(CODE)


def _main_thread() -> tuple[str, bool]:
    """Return the user's line that the main thread is at, and whether that has called into JAX."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    inside_jax = False
    while frame and frame.f_globals.get("__name__", "").split(".")[0] in ("jax", "jaxlib"):
        frame, inside_jax = frame.f_back, True
    if frame is None:
        return "the main thread has ended", inside_jax
    waits = " waits inside JAX" if inside_jax else " is"
    code = frame.f_code
    return f"it{waits} at {code.co_filename}:{frame.f_lineno} in {code.co_name}", inside_jax
