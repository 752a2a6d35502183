"""What is left of a run that was killed or stopped, and how it goes on."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from fdl.run.log import read
from fdl.train.checkpoint import Checkpoints

ROOT = Path(__file__).resolve().parents[2]
# Without the virtual devices of the tests.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"PYTHONPATH": str(ROOT)}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Runs:
    """Runs of killed_run.py, one at a time."""

    def __init__(self, errors: Path) -> None:
        self.errors = errors
        with errors.open("w") as stderr:
            self.server = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("killed_run.py"))],
                env=ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        self.first_word = self.line()

    def line(self) -> str:
        return self.server.stdout.readline().strip()

    def start(self, folder: Path, steps: int, *, hang: int | None = None) -> int:
        order = json.dumps({"folder": str(folder), "steps": steps, "hang": hang})
        self.server.stdin.write(order + "\n")
        self.server.stdin.flush()
        words = {self.line(), self.line()}  # in either order
        assert "ready" in words, self.errors.read_text()
        (process,) = words - {"ready"}
        return int(process)

    def finish(self, folder: Path, steps: int) -> None:
        self.start(folder, steps)
        assert (self.line(), self.errors.read_text()) == ("0", "")

    def stop(self, process: int, number: int) -> int:
        os.kill(process, number)
        return int(self.line())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    runs = Runs(tmp_path_factory.mktemp("runs") / "errors")
    yield runs
    os.killpg(runs.server.pid, signal.SIGKILL)  # with what a failed test has left running
    runs.server.communicate()


@pytest.fixture(scope="module")
def whole(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """What 60 steps come to when nobody interferes."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    runs.finish(folder, 60)
    return outcome(folder)


def test_orbax_is_loaded_only_when_there_is_work_for_it(runs: Runs) -> None:
    assert runs.first_word == "lazy"


def outcome(folder: Path) -> tuple:
    template = {
        "w": np.zeros((64, 32), np.float32),
        "velocity": np.zeros((64, 32), np.float32),
        "step": np.int32(0),
        "key": jax.random.key(0),
    }
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        found = checkpoints.latest(template)
    assert found.rejected == []
    key = jax.random.key_data(found.tree.pop("key")).tolist()
    state = {name: array.tobytes() for name, array in found.tree.items()}
    return found.step, key, state, (folder / "metrics.jsonl").read_bytes()


def kill_at_random(runs: Runs, tmp_path: Path, kills: int) -> None:
    """Compare a run killed again and again with one that was left alone."""
    rng = random.Random(kills)
    folder = tmp_path / "run"
    reached, unfinished = [], 0
    for _ in range(kills):
        process = runs.start(folder, 10**6)
        time.sleep(rng.uniform(0.0, 0.8))
        assert runs.stop(process, signal.SIGKILL) == -signal.SIGKILL
        saved = folder / "checkpoints"
        unfinished += saved.exists() and any("orbax-checkpoint-tmp" in n for n in names(saved))
        log = folder / "metrics.jsonl"
        reached.append(len(read(log)) if log.exists() else 0)
    steps = max(reached) + 20
    runs.finish(folder, steps)
    runs.finish(tmp_path / "whole", steps)
    print(f"{kills} kills after steps {reached}, {unfinished} of them inside a save")
    assert outcome(folder) == outcome(tmp_path / "whole")


def test_a_killed_run_ends_bit_for_bit_like_one_never_stopped(runs: Runs, tmp_path: Path) -> None:
    kill_at_random(runs, tmp_path, 3)


@pytest.mark.slow
def test_a_run_killed_25_times_ends_the_same(runs: Runs, tmp_path: Path) -> None:
    kill_at_random(runs, tmp_path, 25)


def test_a_kill_inside_a_save_leaves_the_checkpoint_before(
    runs: Runs, whole: tuple, tmp_path: Path
) -> None:
    process = runs.start(tmp_path / "run", 60, hang=15)
    assert runs.line() == "hanging"
    runs.stop(process, signal.SIGKILL)
    saved = tmp_path / "run/checkpoints"
    assert any(name.startswith("15.orbax-checkpoint-tmp") for name in names(saved))
    assert outcome(tmp_path / "run")[0] == 10
    runs.finish(tmp_path / "run", 60)
    assert names(saved) == ["55", "60"]
    assert outcome(tmp_path / "run") == whole


def test_a_terminated_run_saves_the_step_it_is_at(runs: Runs, whole: tuple, tmp_path: Path) -> None:
    process = runs.start(tmp_path / "run", 60)
    log = tmp_path / "run/metrics.jsonl"
    while not (log.exists() and log.read_bytes()):
        time.sleep(0.001)
    began = time.monotonic()
    assert runs.stop(process, signal.SIGTERM) == 75
    assert time.monotonic() - began < 10
    step = outcome(tmp_path / "run")[0]
    assert 0 < step < 60 and len(read(log)) == step
    runs.finish(tmp_path / "run", 60)
    assert outcome(tmp_path / "run") == whole


def two_processes(folder: Path) -> list[dict]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    script = str(Path(__file__).with_name("two_processes.py"))
    started = [
        subprocess.Popen(
            [sys.executable, script, str(rank), port, str(folder)],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    results = []
    for process in started:
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
        results.append(json.loads(out.splitlines()[-1]))
    return results


def expected(steps: int) -> np.ndarray:
    w = 0.0
    for step in range(1, steps + 1):
        w = 0.9 * w + np.sin(step)
    return np.full((4, 3), w)


@pytest.mark.slow
def test_two_processes_stop_at_one_step_and_restore_the_same(tmp_path: Path) -> None:
    first = two_processes(tmp_path / "a")  # one of them is interrupted at step 30
    stopped = first[0]["stopped"]
    assert stopped > 30 and first[1]["stopped"] == stopped
    assert names(tmp_path / "a") == sorted(["10", "20", str(stopped)])

    (tmp_path / "a" / str(stopped) / "_METADATA").unlink()
    second = two_processes(tmp_path / "a")  # one of them is terminated before it asks
    line = f"{stopped}: _METADATA is missing (renamed to {stopped}.corrupt)"
    assert [r["rejected"] for r in second] == [[line], []]
    assert [(r["restored"], r["stopped"]) for r in second] == [(20, 21)] * 2
    assert "host is int64[] here, int32[] there" in second[0]["refused"]
    assert "process 0 could not restore" in second[1]["refused"]
    for step, results in ((stopped, first), (21, second)):
        for result in results:
            w = np.frombuffer(bytes.fromhex(result["w"]), np.float32).reshape(4, 3)
            np.testing.assert_allclose(w, expected(step), rtol=1e-5)

    for name in ("10", "20", "21"):
        shutil.rmtree(tmp_path / "a" / name)
        (tmp_path / "a" / name).mkdir()
    third = two_processes(tmp_path / "a")
    assert "no checkpoint in" in third[0]["error"]
    assert "process 0 could not restore" in third[1]["error"]
