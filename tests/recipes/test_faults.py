"""Recipes killed, stopped and damaged from outside, as processes of their own."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fdl.train.storage import Storage, read_manifest
from tests.recipes.test_recipes import RECIPES, SMALL

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},
    "PYTHONPATH": str(ROOT),
    "JAX_PLATFORMS": "cpu",
}
FLAGS = ["--steps", "60", "--eval-every", "5", "--log-every", "1"]
LAST = 60


def start(out, *flags, recipe="mlp"):
    command = [sys.executable, str(ROOT / f"recipes/{recipe}.py"), "--out", str(out)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *FLAGS, *flags], env=ENVIRONMENT, **pipes)


def finish(process, code=0):
    out, error = process.communicate(timeout=600)
    assert process.returncode == code, error
    return out, error


def whole(out, *flags, recipe="mlp"):
    finish(start(out, *flags, recipe=recipe))
    return files(out)


def files(folder):
    path = folder / f"checkpoints/{LAST}"
    storage = Storage()
    arrays = storage.arrays(path, read_manifest(path))
    storage.close()
    digests = {name: hashlib.sha256(a.tobytes()).hexdigest() for name, a in arrays.items()}
    metrics = hashlib.sha256((folder / "metrics.jsonl").read_bytes()).hexdigest()
    return digests, metrics, json.loads((folder / "result.json").read_text())


def resume(out, *flags, recipe="mlp"):
    """Go on, or begin where the kill came before there was a run."""
    begun = (out / "config.json").exists() or any((out / "checkpoints").glob("[0-9]*"))
    return start(out, *(["--resume"] if begun else []), *flags, recipe=recipe)


WHOLE = ["--hidden", "16", "--batch", "1293", "--optimizer"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--batch-norm", "--optimizer", "adamw", "--parallel", "pmap", "--devices", "4"],
        [*WHOLE, "bfgs"],
        [*WHOLE, "newton_cg"],
    ],
)
def test_a_run_killed_at_ten_random_moments_ends_bit_for_bit_the_same(flags, tmp_path):
    expected = whole(tmp_path / "whole", *flags)
    assert killed(tmp_path / "killed", *flags, times=10) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_killed_at_random_moments_ends_bit_for_bit_the_same(name, tmp_path):
    settings = SMALL.get(name, {}).items()
    flags = [
        word for key, value in settings for word in (f"--{key.replace('_', '-')}", *words(value))
    ]
    expected = whole(tmp_path / "whole", *flags, recipe=name)
    assert killed(tmp_path / "killed", *flags, times=3, recipe=name) == expected


def words(value):
    return [str(v) for v in value] if isinstance(value, tuple) else [str(value)]


def killed(out, *flags, times, recipe="mlp"):
    moments = random.Random(0)
    for _ in range(times):
        process = resume(out, *flags, recipe=recipe)
        # importing and compiling take most of the time: measure from the first record on
        seen, waited = size(out), time.monotonic()
        while size(out) == seen and process.poll() is None and time.monotonic() - waited < 60:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(resume(out, *flags, recipe=recipe))
    return files(out)


def size(out):
    path = out / "metrics.jsonl"
    return path.stat().st_size if path.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_with_75_within_ten_seconds(number, tmp_path):
    flags = ["--steps", "100000", "--eval-every", "100000"]
    process = start(tmp_path / "run", *flags)
    while size(tmp_path / "run") == 0:
        time.sleep(0.05)
    asked = time.monotonic()
    process.send_signal(number)
    _, error = finish(process, 75)
    assert time.monotonic() - asked < 10
    assert "saved step" in error and "Traceback" not in error
    (saved,) = (tmp_path / "run/checkpoints").glob("[0-9]*")
    step = int(saved.name)
    process = start(
        tmp_path / "run", "--steps", str(step + 5), "--eval-every", "100000", "--resume"
    )
    finish(process)


DAMAGES = {
    "flip": lambda file: file.write_bytes(flipped(file.read_bytes())),
    "truncate": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
    "delete": lambda file: file.unlink(),
    "garbage": lambda file: file.write_bytes(random.Random(1).randbytes(file.stat().st_size)),
}


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def damage(step_folder, how):
    """Damage the largest file of a checkpoint: its arrays."""
    largest = max(
        (f for f in step_folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size
    )
    DAMAGES[how](largest)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(tmp_path):
    expected = whole(tmp_path / "whole")
    for how in DAMAGES:
        out = tmp_path / how
        shutil.copytree(tmp_path / "whole", out)
        damage(out / f"checkpoints/{LAST}", how)
        _, error = finish(start(out, "--resume"))
        assert f"passed over {LAST}" in error and "using step 55" in error, (how, error)
        assert files(out) == expected, how
    for folder in (tmp_path / "whole/checkpoints").glob("[0-9]*"):
        damage(folder, "flip")
    _, error = finish(start(tmp_path / "whole", "--resume"), 4)
    assert "Traceback" not in error and str(LAST) in error and "55" in error


@pytest.mark.slow
def test_two_runs_cannot_share_a_folder(tmp_path):
    first = start(tmp_path / "run", "--steps", "100000")
    while size(tmp_path / "run") == 0:
        time.sleep(0.05)
    _, error = finish(start(tmp_path / "run", "--steps", "100000", "--resume"), 5)
    assert str(first.pid) in error
    first.kill()
    first.communicate()
