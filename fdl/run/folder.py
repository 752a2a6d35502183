"""The folder of a run: chosen, locked against a second run, and the settings that lie in it.

Nothing here imports JAX: a folder that cannot be used is refused before the seconds that takes.
"""

import contextlib
import dataclasses
import errno
import fcntl
import json
import math
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fdl.errors import DiskError, InputError, LockedError

CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
LOCK = ".lock"

# What the user gave is at fault; all other errors are the disk's.
_USER = {
    errno.EEXIST,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
}


def open_folder(out: str | None, recipe: str, *, resume: bool) -> Path:
    """Make the folder of a new run, or find that of a run to go on with.

    Args:
      out: the folder; None: `runs/<recipe>/<n>` here, with the next free n, or the highest n that
        holds a run when resuming.
      recipe: the name of the recipe.
      resume: go on with a run.

    Returns:
      An absolute path of a folder that can be written to.

    Raises:
      InputError: `out` is not a possible folder, or holds a run and `resume` is not set, or holds
        none and it is.
      DiskError: the folder cannot be made or written to.

    Example:
      >>> with tempfile.TemporaryDirectory() as here:
      ...     open_folder(f"{here}/a", "mlp", resume=False).name
      'a'
    """
    if out is not None and not out.strip():
        raise InputError("--out must not be empty")
    with _one_line(out or os.path.join("runs", recipe)):
        if out is None:
            series = Path.cwd() / "runs" / recipe
            folder = _last(series, recipe) if resume else _next(series)
        else:
            folder = Path(os.path.abspath(out))
            _check_explicit(folder, out, resume)
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass  # no other question tells for sure whether files can be made there
    return folder


def _check_explicit(folder: Path, out: str, resume: bool) -> None:
    holds = _holds_run(folder)
    if resume and not holds:
        raise InputError(f"--resume: {out} holds no run")
    if holds and not resume:
        raise InputError(
            f"--out {out} holds a run; --resume continues it, another --out starts beside it"
        )


def _holds_run(folder: Path) -> bool:
    # What was refused for a bad setting leaves an empty folder, and may be tried again in it.
    saved = folder / CHECKPOINTS
    return (folder / CONFIG).exists() or (saved.is_dir() and any(saved.iterdir()))


def _next(series: Path) -> Path:
    series.mkdir(parents=True, exist_ok=True)
    number = max(_numbers(series), default=0)
    while True:  # another process may take a number between the look and the making
        number += 1
        with contextlib.suppress(FileExistsError):
            (series / str(number)).mkdir()
            return series / str(number)


def _last(series: Path, recipe: str) -> Path:
    runs = [number for number in _numbers(series) if _holds_run(series / str(number))]
    if not runs:
        raise InputError(f"--resume: there is no run of {recipe} in {series}; --out names another")
    return series / str(max(runs))


def _numbers(series: Path) -> list[int]:
    if not series.is_dir():
        return []
    names = [path.name for path in series.iterdir()]
    return [int(name) for name in names if name.isascii() and name.isdigit()]


@contextlib.contextmanager
def lock(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keep a run folder for this process; a second process is refused.

    The file `.lock` names its owner. Whoever was killed on this machine loses the lock with its
    life. Whether an owner on another machine is alive cannot be known, as some network file systems
    do not pass locks on: then a person has to look, and to delete the file.

    Args:
      folder: an existing folder.

    Raises:
      LockedError: within 1 s, naming the process and machine that has it.
      DiskError: the file cannot be written.

    Example:
      >>> with tempfile.TemporaryDirectory() as folder, lock(folder):
      ...     with lock(folder):
      ...         pass
      Traceback (most recent call last):
      fdl.errors.LockedError: ... is in use by process ... on ..., since ...
    """
    path = Path(folder) / LOCK
    with _one_line(str(path), disk=True):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _take(file, path)
        try:
            yield
        finally:
            # Emptied and not deleted: another process may have it open already.
            with contextlib.suppress(OSError):
                os.ftruncate(file, 0)
    finally:
        os.close(file)


def _take(file: int, path: Path) -> None:
    with _one_line(str(path), disk=True):
        free = _flock(file)
        owner = _owner(file)
        # A winner needs a moment to write its name.
        for _ in range(0 if free else 10):
            if owner:
                break
            time.sleep(0.05)
            owner = _owner(file)
        here = socket.gethostname()
        if free and owner.get("host", here) == here:
            record = {"host": here, "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(record).encode(), 0)
            return
    message = (
        f"{path.parent} is in use by process {owner.get('pid', '?')} on {owner.get('host', '?')}, "
        f"since {owner.get('since', '?')}"
    )
    raise LockedError(message + (f"; if that is over, delete {path}" if free else ""))


def _flock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(file: int) -> dict[str, Any]:
    try:
        owner = json.loads(os.pread(file, 4096, 0))
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a whole file or nothing: a reader, or a kill, never meets half of it.

    Raises:
      DiskError: it cannot be written.

    Example:
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write_text(f"{folder}/a.txt", "é")
      ...     Path(folder, "a.txt").read_text(encoding="utf-8")
      'é'
    """
    path = Path(path)
    # A fixed name: what a kill leaves behind is overwritten by the next write.
    part = path.with_name(f".{path.name[:200]}.part")
    with _one_line(str(path), disk=True):
        try:
            with part.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def write_config(path: str | os.PathLike[str], config: Mapping[str, Any]) -> None:
    """Write settings, or other figures, as JSON; see `write_text`.

    Args:
      path: the file.
      config: nested mappings, sequences and dataclasses of text, numbers, paths and None. Numbers
        that are not finite are written as text, as JSON has none.
    """
    write_text(path, json.dumps(plain(config), indent=2, ensure_ascii=False) + "\n")


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `write_config` wrote.

    Raises:
      InputError: the file is missing, or not a JSON object.
    """
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {_reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} must be a JSON object, got {type(config).__name__}")
    return config


def config_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say what differs between two settings.

    Returns:
      One line for each difference, sorted; empty if they are the same once written as JSON.

    Example:
      >>> config_changes({"lr": 0.1, "net": {"width": 8}}, {"lr": 0.2, "net": {}})
      ['lr: 0.1 -> 0.2', 'net: absent -> {}', 'net.width: 8 -> absent']
    """
    before, after = _flat(plain(old)), _flat(plain(new))
    return [
        f"{name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def plain(value: Any) -> Any:
    """Bring a value to what JSON can hold; tuples become lists, paths and infinities text.

    Raises:
      TypeError: it cannot be written as JSON.

    Example:
      >>> plain({"sizes": (2, 3), "clip": math.inf, "out": Path("a")})
      {'sizes': [2, 3], 'clip': 'inf', 'out': 'a'}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()  # a scalar of NumPy or JAX
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"plain(value=...) must be text, numbers or None, got {type(value).__name__}")


def _flat(value: Any, name: str = "") -> dict[str, str]:
    if not isinstance(value, dict) or (name and not value):
        return {name: json.dumps(value, ensure_ascii=False)}
    below = (_flat(item, f"{name}.{key}" if name else key) for key, item in value.items())
    return {name: text for part in below for name, text in part.items()}


@contextlib.contextmanager
def _one_line(what: str, *, disk: bool = False) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _USER and not disk:
            raise InputError(f"{what} cannot be used: {_reason(error)}") from error
        raise DiskError(f"{what} cannot be written: {_reason(error)}{room(what)}") from error
    except (ValueError, UnicodeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{what!r} cannot be used: {error}") from error


def room(path: str) -> str:
    """Return " (N bytes free)" on the disk of a path, nothing where that cannot be known."""
    with contextlib.suppress(OSError):
        where = path if os.path.isdir(path) else os.path.dirname(path)
        return f" ({shutil.disk_usage(where or '.').free} bytes free)"
    return ""


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
