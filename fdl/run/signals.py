"""A request to stop, by SIGTERM or Ctrl-C, that a loop answers between two steps."""

import contextlib
import os
import signal
import threading
from typing import Any, ClassVar

from fdl.run import processes

INTERRUPTED = 130  # 128 + SIGINT, as shells count


class StopRequest:
    """Listen for SIGTERM and SIGINT instead of dying from them.

    The first of them only sets a flag, which the loop asks for after each step. A second SIGINT
    ends the process at once with exit code 130, also while its main thread is in compiled code.

    In a run of many processes a signal to one of them stops all after the same step: JAX passes it
    on, which takes about a second. Every process must ask, after every step.

    Python has signals in its main thread only; in another one nothing is listened for.

    Attributes:
      active: whether signals are being listened for.

    Example:
      >>> with StopRequest() as stop:
      ...     os.kill(os.getpid(), signal.SIGTERM)
      ...     stop.requested(1)
      True
    """

    # JAX compares the numbers of the questions since the start of the process. They are not numbers
    # of steps: in a resumed run, those would begin past the one that JAX chooses when the signal
    # came before the first question, and nobody would ever stop.
    _asked: ClassVar[int] = 0

    def __init__(self) -> None:
        self.active = False
        self._stop = False
        self._together = False
        self._previous: dict[int, Any] = {}
        self._wakeup = -1
        self._pipe = (-1, -1)
        self._watcher: threading.Thread | None = None

    def requested(self, step: int) -> bool:
        """Tell whether to save and stop now.

        Args:
          step: the number of the step just made; all processes ask for the same ones.
        """
        if self._together and not self._stop:
            from jax.experimental import multihost_utils

            StopRequest._asked += 1
            self._stop = multihost_utils.reached_preemption_sync_point(StopRequest._asked)
        return self._stop

    def __enter__(self) -> "StopRequest":
        self._together = processes.count() > 1
        if threading.current_thread() is threading.main_thread():
            self._listen()
        return self

    def __exit__(self, *unused: object) -> None:
        if not self.active:
            return
        self.active = False
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._pipe[1])  # ends the watcher
        assert self._watcher is not None
        self._watcher.join()
        os.close(self._pipe[0])

    def _listen(self) -> None:
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        self._wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self._watcher = threading.Thread(target=self._watch, name="signals", daemon=True)
        self._watcher.start()
        # In a run of many, SIGTERM is already caught by JAX, which tells the others.
        for number in [signal.SIGINT] if self._together else [signal.SIGINT, signal.SIGTERM]:
            self._previous[number] = signal.signal(number, self._handle)
        self.active = True

    def _handle(self, number: int, frame: object) -> None:
        if self._together:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self._stop = True

    def _watch(self) -> None:
        # Python runs `_handle` when the main thread is back from compiled code, which can be a
        # minute; the number of the signal arrives here at once.
        interrupts = 0
        while number := os.read(self._pipe[0], 1):
            interrupts += number[0] == signal.SIGINT
            if interrupts > 1:
                with contextlib.suppress(OSError):
                    os.write(2, b"interrupted\n")
                os._exit(INTERRUPTED)
