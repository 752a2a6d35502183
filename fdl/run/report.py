"""`report.md` of a run folder: what was run, with what, on what, and what came out."""

import dataclasses
import importlib.metadata
import os
import platform
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from fdl.errors import DiskError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class Report(NamedTuple):
    """What `markdown` writes down; all of it is known when a run ends, early or not."""

    recipe: str  # title
    outcome: str  # "finished", or in words why it ended early
    command: str
    settings: Any  # the dataclass of the run
    parallel: str  # mode really used: none, pmap or shard_map
    steps: int  # done in all, resumed ones included; settings.steps were asked for
    seconds: float  # wall time of this process
    figures: Mapping[str, Any]  # final ones, as printed
    summary: str  # of the model: `fdl.run.summary.summary`
    best: str | None = None  # best checkpoint, such as "step 400, valid_loss 0.031"
    curves: str | None = None  # path of the picture, relative to the run folder
    warnings: Sequence[str] = ()  # one line each, such as a checkpoint that was rejected
    data: str | None = None  # one line: name and sizes of the parts


def markdown(report: Report) -> str:
    """Write the report as plain Markdown that also reads well as text.

    Args:
      report: the facts.

    Returns:
      The text of `report.md`.
    """
    run = {
        "outcome": report.outcome,
        "steps": f"{report.steps} of {getattr(report.settings, 'steps', report.steps)}",
        "wall time": duration(report.seconds),
        "data": report.data,
        "devices": devices(),
        "parallel": report.parallel,
        "best checkpoint": report.best,
    }
    figures = {name: _figure(value) for name, value in report.figures.items()}
    parts = [f"# {report.recipe}", f"```\n{report.command}\n```"]
    parts += [_table(("run", ""), [(name, told) for name, told in run.items() if told])]
    parts += (
        ["## Warnings", "\n".join(f"- {w}" for w in report.warnings)] if report.warnings else []
    )
    parts += ["## Figures", _table(("figure", "value"), figures.items()) if figures else "None."]
    parts += [f"![curves]({report.curves})"] if report.curves else []
    parts += ["## Settings", _settings(report.settings)]
    parts += ["## Model", f"```\n{report.summary}\n```"]
    parts += ["## Versions", _table(("package", "version"), versions().items())]
    return "\n\n".join(parts) + "\n"


def write(report: Report, folder: str | Path) -> Path:
    """Write `report.md` into a run folder, all of it or nothing.

    Args:
      report: the facts.
      folder: an existing folder.

    Returns:
      Path of the file.

    Raises:
      DiskError: it cannot be written.
    """
    path = Path(folder) / "report.md"
    draft = path.with_name("report.md.tmp")
    try:
        draft.write_text(markdown(report), encoding="utf-8")
        os.replace(draft, path)
    except OSError as error:
        raise DiskError(f"cannot write {path}: {error.strerror}") from error
    return path


def command() -> str:
    """Return the command line of this process, fit to be pasted into a shell.

    Example:
      >>> command().startswith("python ")
      True
    """
    return shlex.join(["python", *sys.orig_argv[1:]])


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result may depend on.

    Example:
      >>> list(versions())[:3]
      ['python', 'jax', 'jaxlib']
    """
    found = {"python": f"{platform.python_version()} on {platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def devices() -> str:
    """Describe all devices of the run.

    Example:
      >>> devices().split()[1]
      'x'
    """
    kinds = Counter(device.device_kind for device in jax.devices())
    text = ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items()))
    count = jax.process_count()
    return text if count == 1 else f"{text} in {count} processes"


def duration(seconds: float) -> str:
    """Write a wall time for people.

    Example:
      >>> duration(3.14159), duration(75), duration(7384)
      ('3.1 s', '1 min 15 s', '2 h 3 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _settings(settings: Any) -> str:
    rows = [(f"--{name}", value, default) for name, value, default in _fields(settings)]
    return _table(("setting", "value", "default, where changed"), rows)


def _fields(settings: Any, prefix: str = "") -> Iterable[tuple[str, str, str]]:
    """Yield (flag, value, default if it differs) of a dataclass and of those inside it."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        name = prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{name}.")
            continue
        default = "" if field.default in (value, dataclasses.MISSING) else _figure(field.default)
        yield name, _figure(value), default


def _figure(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(map(_figure, value))
    if hasattr(value, "item"):  # a number in a numpy or jax array
        value = value.item()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a Markdown table with aligned columns."""
    cells = [list(head), *([_cell(cell) for cell in row] for row in rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(head))]
    cells.insert(1, ["-" * width for width in widths])
    lines = (
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    )
    return "\n".join(f"| {line} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
