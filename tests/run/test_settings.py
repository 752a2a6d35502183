import ast
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest

from fdl.errors import (
    CheckpointError,
    DiskError,
    InputError,
    LockedError,
    NonFiniteError,
    Preempted,
)
from fdl.run import processes
from fdl.run.rules import DropRate, NonNegativeFloat, PositiveFloat, PositiveInt, between
from fdl.run.settings import Settings, cli, parse

ROOT = Path(__file__).parents[2]
# Starts a process in a tenth of the time: without the facade of the package, which imports jax.
WITHOUT_FACADE = """\
import sys, types
sys.modules["fdl.run"] = types.ModuleType("fdl.run")
sys.modules["fdl.run"].__path__ = ["fdl/run"]
"""


@dataclasses.dataclass(frozen=True)
class Momentum:
    decay: DropRate = 0.9  # of the velocity


@dataclasses.dataclass(frozen=True)
class Sample(Settings):
    steps: int = 300  # the rule of the base class must survive this
    lr: PositiveFloat = 0.1  # learning rate
    l2: NonNegativeFloat = 0.0  # weight decay
    hidden: tuple[PositiveInt, ...] = (64, 64)  # sizes of the hidden layers
    crop: tuple[int, float] = (2, 0.5)  # a pair of fixed length
    unit: Literal["relu", "tanh"] = "relu"  # hidden unit
    smoothing: Annotated[float, between(0, 0.5)] = 0.0  # of the labels
    momentum: Momentum = Momentum()
    batch: PositiveInt = 32  # examples in a step

    def check(self) -> None:
        super().check()
        if self.batch > 10 * self.steps:
            raise InputError(f"--batch must be <= 10 * --steps, got {self.batch}")


def finish(main, argv, capsys):
    """Run a recipe in this process; return (exit code, stdout, stderr)."""
    with pytest.raises(SystemExit) as end:
        cli(main, Sample, "A sample.", argv=argv)
    said = capsys.readouterr()
    return end.value.code, said.out, said.err


BAD = {
    "--lx 3": "unknown flag --lx",
    "--learning-rate 3": "unknown flag --learning-rate",
    "--batchh 3": "nearest is --batch",
    "--Hidden 3": "nearest is --hidden",
    "-lr 3": "nearest is --lr",
    "--stepss=5": "nearest is --steps",
    "--momentum.decai 0.5": "nearest is --momentum.decay",
    "train": "unexpected argument 'train'",
    "--lr 0.1 0.2": "unexpected argument '0.2'",
    "--resume=yes": "'yes'",
    "--lr": "missing value for argument '--lr'",
    "--lr abc": "--lr takes FLOAT, got 'abc'",
    "--lr nan": "--lr must be finite, got nan",
    "--lr inf": "--lr must be finite, got inf",
    "--lr -1": "--lr must be > 0, got -1.0",
    "--lr 0": "--lr must be > 0, got 0.0",
    "--l2 -1e-9": "--l2 must be >= 0, got -1e-09",
    "--l2 -inf": "--l2 must be finite",
    "--smoothing 0.51": "--smoothing must be in [0, 0.5], got 0.51",
    "--momentum.decay 1": "--momentum.decay must be in [0, 1), got 1.0",
    "--steps 0": "--steps must be > 0, got 0",
    "--steps -5": "--steps must be > 0, got -5",
    "--steps 1e3": "--steps takes INT, got '1e3'",
    "--steps=2.5": "--steps takes INT, got '2.5'",
    "--seed -1": "--seed must be in [0, 2**32), got -1",
    "--seed 4294967296": "--seed must be in [0, 2**32), got 4294967296",
    "--hidden 64 x --lr 1": "--hidden takes [INT [INT ...]], got '64 x'",
    "--hidden 64 0": "--hidden must be > 0, got 0",
    "--crop 1": "expected 2 values",
    "--crop 1 nan": "--crop must be finite",
    "--unit gelu": "gelu",
    "--parallel mesh": "shard_map",
    "--devices 0": "--devices must be > 0, got 0",
    "--devices two": "--devices takes {None}|INT, got 'two'",
    "--devices 4 --parallel none": "--parallel none uses one device",
    "--log-every 0": "--log-every must be > 0",
    "--force --out a": "--force needs --resume",
    "--out=": "--out must be non-empty",
    "--batch 9999": "--batch must be <= 10 * --steps, got 9999",
}


@pytest.mark.parametrize("options", BAD)
def test_bad_options_end_with_code_2_and_one_line_that_names_the_flag(options, capsys):
    def main(settings):
        raise AssertionError("ran with bad settings")

    code, out, err = finish(main, options.split(" "), capsys)
    assert code == 2 and out == ""
    assert err.startswith("error: ") and len(err.splitlines()) == 1
    assert BAD[options] in err
    assert not set(err) & set("│╭╰─\x1b")


def test_a_whole_process_with_a_bad_flag_or_help_says_no_more_than_that(tmp_path):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        WITHOUT_FACADE + "from dataclasses import dataclass\n"
        "from fdl.run.settings import Settings, cli\n"
        "@dataclass(frozen=True)\n"
        "class Config(Settings):\n"
        "    lr: float = 0.1  # learning rate\n"
        "def main(config):\n"
        "    return {}\n"
        "if __name__ == '__main__':\n"
        "    cli(main, Config, 'Fit a line.')\n"
    )

    def run(*argv):
        command = [sys.executable, str(recipe), *argv]
        return subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": "."}, capture_output=True)

    bad, helped = run("--lrr", "1"), run("--help")
    assert (bad.returncode, bad.stdout) == (2, b"")
    assert bad.stderr == b"error: unknown flag --lrr, nearest is --lr; --help shows all flags\n"
    assert (helped.returncode, helped.stderr) == (0, b"")
    for shown in (
        b"Fit a line.",
        b"learning rate",
        b"--shard",
        b"newest checkpoint",
        b"{auto,none,",
    ):
        assert (shown in helped.stdout) == (shown != b"--shard")


def test_a_wrong_flag_is_refused_without_the_seconds_that_importing_jax_takes():
    seen, waiting = set(), ["fdl.run.settings"]
    while waiting:
        name = waiting.pop()
        path = (ROOT / name.replace(".", "/")).with_suffix(".py")
        if name in seen or not path.exists():
            continue
        seen.add(name)
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            assert not {"jax", "flax", "optax", "matplotlib"} & {m.split(".")[0] for m in waiting}
    assert {"fdl.run.exits", "fdl.run.rules", "fdl.run.processes"} < seen


@dataclasses.dataclass(frozen=True)
class Needy(Settings):
    target: str = dataclasses.field(kw_only=True)  # column to predict


def test_a_required_flag_that_is_absent_is_named():
    with pytest.raises(InputError, match="^missing --target STR; --help shows all flags$"):
        parse(Needy, argv=["--steps", "3"])
    assert parse(Needy, argv=["--target", "price"]).target == "price"


CHOICES = {"fast": 1, "slow": 2}


@dataclasses.dataclass(frozen=True)
class Chosen(Settings):
    speed: Literal[*CHOICES] = "slow"  # a choice among the names of a table


def test_choices_may_be_the_names_of_a_table():
    assert parse(Chosen, argv=["--speed", "fast"]).speed == "fast"
    with pytest.raises(InputError, match="invalid choice 'x' for argument '--speed'"):
        parse(Chosen, argv=["--speed", "x"])


def test_flags_reach_the_fields_of_their_names():
    line = (
        "--hidden 256 128 --no-quiet --resume --out a/b --momentum.decay 0.5 --lr 1e-3 --unit tanh"
    )
    settings = parse(Sample, argv=line.split())
    assert settings == Sample(
        hidden=(256, 128), resume=True, out="a/b", momentum=Momentum(0.5), lr=0.001, unit="tanh"
    )
    assert parse(Sample, argv=["--log_every", "7"]).log_every == 7
    assert parse(Sample, argv=["--out", "с пробелом 中文"]).out == "с пробелом 中文"
    assert parse(Sample, argv=[]) == Sample()


def test_the_last_line_of_output_is_the_figures_as_json(capsys):
    def main(settings):
        return {
            "accuracy": np.float32(0.9273743),
            "loss": float("nan"),
            "worst": np.float64("-inf"),
            "steps": np.int64(settings.steps),
            "each": [1 / 3, 2],
            "best": {"step": 7, "saved": True},
            "folder": Path("a"),
        }

    code, out, err = finish(main, ["--steps", "12"], capsys)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert json.loads(out) == {
        "accuracy": 0.927374,
        "loss": None,
        "worst": None,
        "steps": 12,
        "each": [0.333333, 2],
        "best": {"step": 7, "saved": True},
        "folder": "a",
    }
    assert '"accuracy": 0.927374' in out


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("a.csv row 3: not a number"), 2, "error: a.csv row 3: not a number"),
        (NonFiniteError("loss is nan at step 4"), 3, "error: loss is nan at step 4"),
        (CheckpointError("none is whole"), 4, "error: none is whole"),
        (LockedError("held by pid 3"), 5, "error: held by pid 3"),
        (DiskError("no space in out"), 6, "error: no space in out"),
        (Preempted("saved at step 9"), 75, "stopped: saved at step 9"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_each_kind_of_end_has_its_code_and_one_line(error, code, line, capsys):
    def main(settings):
        raise error

    assert finish(main, [], capsys) == (code, "", line + "\n")


def test_a_bug_has_a_traceback_and_code_1(capsys):
    def main(settings):
        return {"x": [][3]}

    code, out, err = finish(main, [], capsys)
    assert (code, out) == (1, "")
    assert err.startswith("Traceback") and "IndexError" in err


def test_running_out_of_device_memory_is_one_line_with_a_hint(capsys):
    def main(settings):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9TiB.\n...")

    code, out, err = finish(main, [], capsys)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "allocate 9TiB" in err and "a smaller --batch" in err and "--accumulate" not in err


def test_only_the_first_process_prints(capsys, monkeypatch):
    def stop(settings):
        raise Preempted("saved at step 9")

    for index, lines in ((0, 1), (1, 0)):
        monkeypatch.setattr(processes, "_here", processes.Here(index, 2))
        code, out, err = finish(lambda settings: {"loss": 1.0}, [], capsys)
        assert (code, err, out.count("\n")) == (0, "", lines)
        code, out, err = finish(stop, [], capsys)
        assert (code, out, err.count("\n")) == (75, "", lines)


def test_a_reader_that_has_gone_is_no_error(tmp_path):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        WITHOUT_FACADE + "from fdl.run.settings import Settings, cli\n"
        "sys.stdin.read()\n"
        "cli(lambda settings: {'loss': 1.0}, Settings)\n"
    )
    command = [sys.executable, str(recipe)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(command, cwd=ROOT, env={"PYTHONPATH": "."}, **pipes)
    process.stdout.close()
    process.stdin.close()
    assert (process.stderr.read(), process.wait()) == (b"", 0)
    process.stderr.close()
