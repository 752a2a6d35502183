"""Settings of a recipe: the flags that all recipes share, and the command line around `main`."""

import contextlib
import dataclasses
import difflib
import io
import json
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_type_hints

import tyro

from fdl.errors import InputError
from fdl.run import processes
from fdl.run.exits import explain
from fdl.run.rules import NONEMPTY, PositiveInt, Seed, validate


@dataclasses.dataclass(frozen=True)
class Settings:
    """What every recipe can be told. A recipe's `Config` inherits this and adds its own flags.

    The comment beside a field is its line in `--help`; its type holds its range (`fdl.run.rules`).
    """

    out: Annotated[str, NONEMPTY] | None = None  # run folder; None: a new one in runs/
    steps: PositiveInt = 1000  # training steps in all, resumed ones included
    seed: Seed = 0  # of initial parameters, batches and noise
    resume: bool = False  # go on from the newest checkpoint of --out, or of the last run
    force: bool = False  # with --resume: go on although settings have changed
    parallel: Literal["auto", "none", "pmap", "shard_map"] = "auto"  # auto: pmap on many devices
    devices: PositiveInt | None = None  # devices of this process; on a CPU so many virtual ones
    log_every: PositiveInt = 20  # steps between two records of the training metrics
    eval_every: PositiveInt = 200  # steps between two evaluations, each with a checkpoint
    profile: bool = False  # trace steps 10 to 20 into profile/ of the run folder
    quiet: bool = False  # no progress, only the final figures

    def check(self) -> None:
        """Raise `InputError` where two settings contradict; a recipe adds to it with `super()`."""
        if self.force and not self.resume:
            raise InputError("--force needs --resume")
        if self.parallel == "none" and (self.devices or 1) > 1:
            raise InputError(f"--parallel none uses one device, got --devices {self.devices}")


Config = TypeVar("Config")


def cli(
    main: Callable[[Config], Mapping[str, Any] | None],
    config: type[Config],
    doc: str | None = None,
    *,
    argv: Sequence[str] | None = None,
) -> NoReturn:
    """Run a recipe from the command line and end the process with its exit code.

    The figures that `main` returns are the last line of standard output, as JSON: numbers with six
    significant digits, NaN and infinity as null. A mistake of the user is one line on standard
    error; only a bug has a traceback. The codes are in `fdl.run.exits`.

    Args:
      main: the recipe; receives valid settings and returns its final figures.
      config: the dataclass of the settings; each field is a flag.
      doc: description at the top of `--help`, the recipe's docstring.
      argv: arguments; those of the process when None.
    """
    try:
        figures = main(parse(config, doc, argv=argv))
        if figures is not None and processes.is_main():
            print(json.dumps(_readable(figures)), flush=True)
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): nothing is left to say, also not at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (Exception, KeyboardInterrupt) as error:
        code, message = explain(error, config)
        if message is None:
            traceback.print_exc()
        elif processes.is_main():  # all of them were interrupted, or have saved: one line will do
            print(message, file=sys.stderr, flush=True)
        sys.exit(code)
    sys.exit(0)


def parse(
    config: type[Config], doc: str | None = None, *, argv: Sequence[str] | None = None
) -> Config:
    """Read settings from command-line flags.

    Args:
      config: a dataclass; `hidden: tuple[int, ...]` is `--hidden 256 256`, a `bool` is
          `--resume` and `--no-resume`, a dataclass inside is `--inner.field`.
      doc: description for `--help`.
      argv: arguments; those of the process when None.

    Raises:
      InputError: an unknown flag, a value of the wrong type or one that breaks a rule.
      SystemExit: with code 0 after `--help`.

    Example:
      >>> parse(Settings, argv=["--steps", "30"]).steps
      30
      >>> parse(Settings, argv=["--step", "30"])
      Traceback (most recent call last):
          ...
      fdl.errors.InputError: unknown flag --step, nearest is --steps; --help shows all flags
    """
    argv = sys.argv[1:] if argv is None else argv
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            settings, unknown = tyro.cli(
                config, description=doc, args=argv, return_unknown_args=True
            )
    except SystemExit as end:
        if not end.code:
            raise
        problem = _first_sentence(said.getvalue(), argv)
        raise InputError(f"{problem}; --help shows all flags") from None
    sys.stderr.write(said.getvalue())
    if unknown:
        raise InputError(f"{_unknown(unknown[0], config)}; --help shows all flags")
    validate(settings)
    return settings


def _first_sentence(box: str, argv: Sequence[str]) -> str:
    """Reduce the box that tyro draws to the one line of it that says what is wrong.

    Its rows: the title, what is wrong, a rule, the usage of the flag, a rule, a pointer to --help.
    Where standard output is not UTF-8 the sides are absent and rules are hyphens.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    rows = [row for line in plain.splitlines() if (row := line.strip("│╭╮╰╯ "))]
    rules = [i for i, row in enumerate(rows) if not row.strip("─-")]
    inside = rows[2:] if 1 in rules else rows[1:]
    rule = next((i for i, row in enumerate(inside) if not row.strip("─-")), len(inside))
    if rows and "Required options" in rows[0]:
        return "missing " + ", ".join(row for row in inside[1:rule] if row.startswith("-"))
    told = " ".join(inside[:rule]) or " ".join(plain.split())
    flag = re.match(r"Error parsing (--[^ :]+)", told)
    takes = [row for row in inside[rule:] if flag and row.startswith(flag[1] + " ")]
    if flag and takes:
        got = " ".join(_values(flag[1], argv))
        return f"{flag[1]} takes {takes[0].removeprefix(flag[1]).strip()}, got {got!r}"
    return (told[:1].lower() + told[1:]).replace(". Expected", ", expected").rstrip(".")


def _values(flag: str, argv: Sequence[str]) -> list[str]:
    """Return the words given to a flag, those of its last use."""
    words: list[str] = []
    taking = False
    for word in argv:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            taking = name.replace("_", "-") == flag
            words = ([value] if equals else []) if taking else words
        elif taking:
            words.append(word)
    return words


def _unknown(word: str, config: Any) -> str:
    if not word.startswith("-"):
        return f"unexpected argument {word!r}"
    flag = word.split("=")[0]
    dashed = "--" + flag.lstrip("-").lower().replace("_", "-")
    near = difflib.get_close_matches(dashed, list(_flags(config)), 1)
    return f"unknown flag {flag}" + (f", nearest is {near[0]}" if near else "")


def _flags(config: Any, prefix: str = "--") -> Iterator[str]:
    kinds = get_type_hints(config)
    for field in dataclasses.fields(config):
        flag = prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(kinds[field.name]):
            yield from _flags(kinds[field.name], f"{flag}.")
        else:
            yield flag


def _readable(value: Any) -> Any:
    """Turn a figure into what JSON can hold, floats with six significant digits."""
    if isinstance(value, Mapping):
        return {str(name): _readable(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_readable(inner) for inner in value]
    if hasattr(value, "item"):  # a number in a numpy or jax array
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
