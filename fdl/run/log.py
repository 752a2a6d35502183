"""The metrics of a run as JSON lines: a run that was killed and resumed leaves the same bytes."""

import contextlib
import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fdl.errors import DiskError, InputError
from fdl.run.folder import room

NONFINITE = "nonfinite"  # the field that says which values were NaN or infinite: JSON has none


class MetricsLog:
    """Append records of metrics to a file, one JSON object a line.

    A line holds what was computed and no clock, so that equal runs write equal files. It is written
    at once and whole; a line that a kill has torn is mended when the file is opened.

    Args:
      path: the file; made if absent.

    Raises:
      InputError: a line that is there is not a record.
      DiskError: here and in every method, when the file cannot be written.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     log = MetricsLog(f"{folder}/metrics.jsonl")
      ...     log.append(1, {"loss": 0.5})
      ...     log.append(2, {"loss": math.nan})
      ...     print(log.path.read_text(), log.read())
      {"step": 1, "loss": 0.5}
      {"step": 2, "loss": null, "nonfinite": {"loss": "nan"}}
       [{'step': 1, 'loss': 0.5}, {'step': 2, 'loss': nan}]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._last = -1
        with _writing(self.path):
            self.path.touch()
        self._keep(_records(self.path))

    def append(self, step: int, values: Mapping[str, Any]) -> None:
        """Write one record.

        Args:
          step: >= that of the record before.
          values: name -> number, truth value, text or None. Scalar arrays count as numbers; those
            of 32 bits and less are written with as few digits as tell them apart.

        Raises:
          ValueError: for an earlier step, a reserved name, or a value that is not a scalar.
        """
        step = int(step)
        if step < max(self._last, 0):
            raise ValueError(f"append(step=...) must be >= {max(self._last, 0)}, got {step}")
        line = _line(step, values)
        with _writing(self.path):
            # One write to the end of the file, so that a kill comes before or after it.
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            try:
                if os.write(file, line) != len(line):
                    raise DiskError("the disk is full")
            finally:
                os.close(file)
        self._last = step

    def truncate_after(self, step: int) -> None:
        """Drop the records after `step`, for a run that goes on from a checkpoint at `step`."""
        records = _records(self.path)
        self._keep(list(itertools.takewhile(lambda record: record[1]["step"] <= step, records)))

    def read(self) -> list[dict[str, Any]]:
        """Return all records; see `read`."""
        return read(self.path)

    def sync(self) -> None:
        """Wait until all that was written is on the disk; before a checkpoint that counts on it."""
        with _writing(self.path), self.path.open("rb") as file:
            os.fsync(file.fileno())

    def _keep(self, records: list[tuple[int, dict[str, Any]]]) -> None:
        end = records[-1][0] if records else 0
        self._last = records[-1][1]["step"] if records else -1
        with _writing(self.path), self.path.open("r+b") as file:
            file.truncate(end)
            # The last line may lack nothing but its end.
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    file.write(b"\n")


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read the records of a metrics file, also of one that is being written.

    Args:
      path: the file.

    Returns:
      One dict a line, in order; NaN and infinities are back in their places. A last line that is
      torn is left out.

    Raises:
      InputError: the file is missing, or another line is not a record.
    """
    return [record for _, record in _records(Path(path))]


def _records(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return (offset of its end, record) of every line."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    records, end = [], 0
    lines = data.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        end += len(line)
        try:
            record = _parse(line)
        except (AttributeError, TypeError, ValueError) as error:
            if number == len(lines):
                break  # torn by a kill
            raise InputError(f"{path} line {number} is not a record of metrics") from error
        records.append((end, record))
    return records


def _parse(line: bytes) -> dict[str, Any]:
    record = json.loads(line)
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        raise ValueError("not a record")
    for name, value in record.pop(NONFINITE, {}).items():
        record[name] = float(value)
    return record


def _line(step: int, values: Mapping[str, Any]) -> bytes:
    record: dict[str, Any] = {"step": step}
    for name, value in values.items():
        if name in ("step", NONFINITE):
            raise ValueError(f"append(values=...) must not be named {name!r}")
        record[name] = _scalar(name, value)
    floats = {k: v for k, v in record.items() if isinstance(v, float) and not math.isfinite(v)}
    if floats:
        record |= dict.fromkeys(floats)
        record[NONFINITE] = {name: str(value) for name, value in floats.items()}
    return (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _scalar(name: str, value: Any) -> Any:
    if hasattr(value, "dtype") and getattr(value, "shape", None) == ():
        if value.dtype.itemsize <= 4 and value.dtype.kind not in "biuSU":
            # 0.1 of 32 bits is 0.10000000149011612 of 64: as many digits as the type has.
            import numpy as np

            return float(str(np.float32(value)))
        value = value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"append(values=...) must hold scalars, {name} is {type(value).__name__}")


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise DiskError(f"{path} cannot be written: {reason.lower()}{room(str(path))}") from error
