import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fdl.errors import InputError, Preempted
from fdl.run.log import read
from fdl.run.settings import parse
from fdl.run.signals import StopRequest
from fdl.run.trials import Trials

ROOT = Path(__file__).parents[2]
RECIPE = '''"""A parabola."""

import math
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import optax

from fdl import run, train
from fdl.errors import InputError


@dataclass(frozen=True)
class Config(run.Settings):
    steps: run.PositiveInt = 4
    lr: run.PositiveFloat | None = None
    widths: tuple[run.PositiveInt, ...] = (2, 3)
    unit: Literal["a", "b"] = "a"
    flip: bool = False
    parallel: str = "none"


def main(cfg, session):
    if cfg.unit == "b" and cfg.flip:
        raise InputError("b cannot be flipped")
    if cfg.lr == 7:
        raise RuntimeError("a bug")

    def objective(params, extra, batch, key):
        return (params - batch["x"]).mean() ** 2 * (math.nan if cfg.lr == 9 else 1), (extra, {})

    tx = optax.sgd(0.25 * (cfg.lr or 0.1))
    runner = session.lift(train.make_step(objective, tx))
    state = session.restore(train.init_state(jnp.float32(1.0), {}, tx))
    state = runner.put(state)
    for i in session.steps():
        state, metrics = runner.step(state, {"x": jnp.zeros(1)})
        session.log(i, metrics)
        session.checkpoint(i, lambda: runner.get(state))
    loss = float(runner.get(state).params)
    return {"valid_loss": loss, "valid_size": sum(cfg.widths), "test_loss": loss + cfg.seed}
'''


def load():
    spec = importlib.util.spec_from_file_location("search", ROOT / "scripts" / "search.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["search"] = module
    spec.loader.exec_module(module)
    return module


search = load()


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "parabola.py"
    path.write_text(RECIPE)
    return str(path)


def run(*words):
    return search.main(parse(search.Search, argv=list(map(str, words))))


def kept(folder):
    return list(Trials(folder / "trials.jsonl").found.values())


def test_random_search_tries_chooses_and_reads_test_data_once(recipe, tmp_path, capsys):
    out = tmp_path / "out"
    space = ["lr=log:1e-2:2", "steps=3,seed=5"]
    figures = run(recipe, "--space", *space, "--trials", 4, "--out", out)
    trials = kept(out)
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    for trial in trials:  # descent on w^2 from 1: w <- w (1 - 2 rate)
        expected = (1 - 0.5 * trial.settings["lr"]) ** 3
        assert trial.figures["valid_loss"] == pytest.approx(expected, rel=1e-5)
    best = min(trials, key=lambda trial: trial.figures["valid_loss"])
    assert best.settings["lr"] == max(trial.settings["lr"] for trial in trials)
    assert figures["trial"] == best.number and figures["lr"] == best.settings["lr"]
    assert figures["test_loss"] == pytest.approx(figures["valid_loss"] + 5)
    assert json.loads((out / "result.json").read_text()) == pytest.approx(
        figures | {"steps": "3", "seed": "5"}
    )
    table = (out / "trials.md").read_text()
    assert table.splitlines()[0].split() == "| trial | lr | valid_loss | valid_size |".split()
    assert table.splitlines()[2].split()[1] == str(best.number)
    assert "test" not in table + (out / "trials.jsonl").read_text() + capsys.readouterr().err
    assert (out / "trials.png").read_bytes().startswith(b"\x89PNG")


def test_a_grid_tries_all_combinations_of_every_kind_of_option(recipe, tmp_path):
    out = tmp_path / "out"
    space = "widths=2 2|5,flip=true|false,lr=None,steps=int:1:2,unit=a"
    options = ("--method", "grid", "--points", 5, "--by", "valid_size", "--highest", "--out", out)
    figures = run(recipe, "--space", space, *options)
    assert len(kept(out)) == 2 * 2 * 2 and figures["widths"] == "5"
    configs = [json.loads(p.read_text())["settings"] for p in out.glob("trials/*/config.json")]
    tried = {(tuple(c["widths"]), c["flip"], c["lr"], c["steps"]) for c in configs}
    assert tried == set(itertools.product([(2, 2), (5,)], [True, False], [None], [1, 2]))


def test_halving_trains_the_best_for_longer(recipe, tmp_path):
    out = tmp_path / "out"
    options = ("--trials", 3, "--rungs", 2, "--out", out)
    figures = run(recipe, "--space", "lr=log:1e-2:2,steps=6", *options)
    first, second = ([t for t in kept(out) if t.rung == rung] for rung in (0, 1))
    assert len(first) == 3 and len(second) == 1
    chosen = sorted(first, key=lambda t: t.figures["valid_loss"])[:1]
    assert {t.number for t in second} == {t.number for t in chosen}
    for trials, steps in ((first, 2), (second, 6)):
        for t in trials:
            expected = (1 - 0.5 * t.settings["lr"]) ** steps
            assert t.figures["valid_loss"] == pytest.approx(expected, rel=1e-4)
    assert figures["valid_loss"] == second[0].figures["valid_loss"]


def test_a_stopped_search_goes_on_inside_its_trial_and_ends_the_same(recipe, tmp_path, monkeypatch):
    words = (recipe, "--space", "lr=log:1e-2:2,steps=5", "--trials")
    whole = run(*words, 2, "--out", tmp_path / "whole")
    out = tmp_path / "parts"
    run(*words, 1, "--out", out)
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "requested", lambda self, step: step == 2)
        with pytest.raises(Preempted, match="saved step 2"):
            run(*words, 2, "--out", out, "--resume")
    assert len(kept(out)) == 1 and (out / "trials/0001/checkpoints/2").is_dir()
    before = (out / "trials/0000/result.json").stat().st_mtime_ns
    assert run(*words, 2, "--out", out, "--resume") == whole
    for name in ("trials.jsonl", "trials.md", "result.json", "trials/0001/metrics.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert (out / "trials/0000/result.json").stat().st_mtime_ns == before  # not run again
    steps = [r["step"] for r in read(out / "trials/0001/metrics.jsonl")]
    assert steps == sorted(set(steps))


def test_a_trial_that_cannot_be_is_a_result_and_a_bug_is_not(recipe, tmp_path):
    out = tmp_path / "out"
    space = "lr=0.1|9,unit=a|b,flip=true"
    figures = run(recipe, "--space", space, "--method", "grid", "--out", out)
    failed = {(t.settings["lr"], t.settings["unit"]): t.failed for t in kept(out)}
    assert "loss of step" in failed["9", "a"] and failed["0.1", "b"] == "b cannot be flipped"
    assert failed["0.1", "a"] == "" and figures["unit"] == "a"
    with pytest.raises(InputError, match="all 2 trials failed; trial 0: the loss of step 1 is nan"):
        run(recipe, "--space", "lr=9", "--trials", 2, "--out", tmp_path / "none")
    with pytest.raises(InputError, match="^b cannot be flipped"):  # before one has succeeded
        run(
            recipe,
            "--space",
            "lr=0.1,unit=b|a,flip=true",
            "--method",
            "grid",
            "--out",
            tmp_path / "b",
        )
    with pytest.raises(RuntimeError, match="a bug"):
        run(recipe, "--space", "lr=7", "--trials", 2, "--out", tmp_path / "bug")


def test_another_search_in_the_same_folder_is_refused(recipe, tmp_path):
    words = (recipe, "--trials", 1, "--out", tmp_path / "out", "--space")
    run(*words, "lr=0:1,steps=1")
    with pytest.raises(InputError, match="holds a run; --resume"):
        run(*words, "lr=0:1,steps=1")
    with pytest.raises(InputError, match=r"holds another search: space: .* -> ") as caught:
        run(*words, "lr=0:2,steps=1", "--resume")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--space lrr=0:1", "unknown flag --lrr, nearest is --lr"),
        ("--space lr=0:1,widths=0:1", "--widths takes"),
        ("--space lr=-1:1", "--lr must be > 0, got -"),
        ("--space unit=a|c", "--unit"),
        ("--space steps=1:9", "--steps takes"),
        ("--space flip=yes|no", "--flip"),
        ("--space lr=2:1", "finite LOW < HIGH"),
        ("--space lr=0:1,out=a", "must not hold out"),
        ("--space lr=0:1 --by test_loss", "--by must not be of test data, got 'test_loss'"),
        ("--space lr=0:1 --trials 0", "--trials must be > 0"),
        ("--space lr=0:1 --points 3", "--points is for --method grid"),
        ("--space lr=0:1 --method grid --trials 3", "--trials is for --method random"),
        ("--space lr=0:1 --method grid --points 1", "must be >= 2, got 1"),
        ("--space lr=0:1 --rungs 4", "--rungs 4 needs at least 27 trials, got 20"),
        ("--space lr=0:1 --trials 27 --rungs 4", "--rungs 4 needs at least 27 steps, got 4"),
        ("--space steps=int:27:30 --rungs 2", "--space must not vary steps"),
        ("--space lr=0:1 --resume", "holds no run"),
        ("--method grid", "space"),
    ],
)
def test_a_mistake_is_told_in_a_line_before_anything_is_run(words, told, recipe, tmp_path, capsys):
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        search.cli(search.main, search.Search, argv=[recipe, *words.split(), "--out", str(out)])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and told in error, error
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not (out / "trials").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [(None, "no such file: "), ("x = 1\n", "is no recipe: it has no main and Config")],
)
def test_what_is_no_recipe_is_refused(text, told, tmp_path):
    path = tmp_path / "a.py"
    if text:
        path.write_text(text)
    with pytest.raises(InputError, match=told):
        run(path, "--space", "lr=0:1")


def test_figures_that_are_not_there_are_named(recipe, tmp_path):
    with pytest.raises(InputError, match="--by must be one of valid_loss, valid_size, got 'loss'"):
        run(recipe, "--space", "lr=0:1,steps=1", "--by", "loss", "--out", tmp_path / "out")


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_to_the_same_bytes(tmp_path):
    space = "lr=log:1e-2:0.5,dropout=0:0.5,hidden=16,steps=60,eval_every=5,log_every=1"
    command = [sys.executable, ROOT / "scripts" / "search.py", ROOT / "recipes" / "mlp.py"]
    command += ["--space", space, "--trials", "3", "--out"]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    environment |= {"PYTHONPATH": str(ROOT)}

    def start(*words):
        return subprocess.Popen(
            [*command, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def finish(process):
        out, error = process.communicate(timeout=600)
        assert process.returncode == 0, error.decode()
        return json.loads(out)

    whole = finish(start(tmp_path / "whole"))
    killed = start(tmp_path / "parts")
    saved = tmp_path / "parts/trials/0001/checkpoints/10"
    deadline = time.monotonic() + 300
    while not saved.is_dir() and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL and len(kept(tmp_path / "parts")) == 1
    assert finish(start(tmp_path / "parts", "--resume")) == whole
    for name in ("trials.jsonl", "trials.md", "result.json", "trials/0001/metrics.jsonl"):
        one, other = (tmp_path / n / name for n in ("whole", "parts"))
        assert one.read_bytes() == other.read_bytes(), name
    assert np.isfinite(whole["test_loss"])
