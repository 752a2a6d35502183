"""From an exception to the exit code of a recipe and the line that explains it."""

import dataclasses
import errno
from typing import Any

from fdl.errors import (
    CheckpointError,
    DiskError,
    InputError,
    LockedError,
    NonFiniteError,
    Preempted,
)

CODES: dict[type[BaseException], int] = {
    InputError: 2,
    NonFiniteError: 3,
    CheckpointError: 4,
    LockedError: 5,
    DiskError: 6,
    Preempted: 75,  # EX_TEMPFAIL of sysexits.h: "run the same command again"
    KeyboardInterrupt: 130,  # 128 + SIGINT, as shells count
}
BUG = 1
LINES = 3  # of a message; what is beyond helps nobody who reads a terminal

_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
# Flags that shrink what one step needs of a device's memory, in the order worth trying.
_MEMORY_FLAGS = {"batch": "a smaller --batch", "accumulate": "more --accumulate"}


def explain(error: BaseException, settings: Any = None) -> tuple[int, str | None]:
    """Choose the exit code of an exception and the lines to print for it.

    Args:
      error: what ended the run.
      settings: the settings, or their class: a hint names only flags that the recipe has.

    Returns:
      The code, and at most 3 lines, or None where only a traceback can help (code 1).

    Example:
      >>> explain(InputError("--lr must be > 0, got -1.0"))
      (2, 'error: --lr must be > 0, got -1.0')
      >>> explain(MemoryError())[1]
      'error: out of memory; try a smaller batch or a smaller model'
    """
    for kind, code in CODES.items():
        if isinstance(error, kind):
            return code, _message(kind, error)
    if isinstance(error, OSError) and (error.filename or error.errno in _DISK_ERRNOS):
        return CODES[DiskError], _message(DiskError, error)
    if _out_of_memory(error):
        return BUG, f"error: out of memory{_asked(error)}; try {_memory_hint(settings)}"
    return BUG, None


def _message(kind: type[BaseException], error: BaseException) -> str:
    if kind is KeyboardInterrupt:
        return "interrupted"
    lines = str(error).strip().splitlines() or [kind.__name__]
    if len(lines) > LINES:
        lines[LINES - 1 :] = [f"... and {len(lines) - LINES + 1} more lines"]
    word = "stopped" if kind is Preempted else "error"
    return "\n".join([f"{word}: {lines[0]}", *lines[1:]])


def _out_of_memory(error: BaseException) -> bool:
    # XLA's errors are plain RuntimeErrors that begin with the name of a status code.
    text = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and ("RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower())
    )


def _asked(error: BaseException) -> str:
    """Return XLA's own first line, which says how much was asked for, in brackets."""
    lines = str(error).strip().splitlines()
    return f" ({lines[0][:160]})" if lines else ""


def _memory_hint(settings: Any) -> str:
    names = {f.name for f in dataclasses.fields(settings)} if settings is not None else set()
    hints = [hint for name, hint in _MEMORY_FLAGS.items() if name in names]
    return " or ".join(hints) or "a smaller batch or a smaller model"
