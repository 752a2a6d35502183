"""Every recipe, for a few steps, in this process."""

import dataclasses
import hashlib
import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from fdl import run
from fdl.errors import InputError, NonFiniteError, Preempted
from fdl.run.log import read
from fdl.run.signals import StopRequest
from fdl.train.storage import Storage, read_manifest

RECIPES = sorted(path.stem for path in (Path(__file__).parents[2] / "recipes").glob("*.py"))
# what all recipes do alike is tried with one of them, and with all by --slow
USUALLY_MLP = [n if n == "mlp" else pytest.param(n, marks=pytest.mark.slow) for n in RECIPES]
SHORT = {"steps": 20, "eval_every": 5, "log_every": 1, "quiet": True, "parallel": "none"}
SMALL = {  # compiling all of them takes long
    "adversarial": {"hidden": (16,), "train_walk": 1, "test_walk": 1},
    "autoencoder": {"small": 64, "hidden": 16, "large": 64},
    "bagging": {"hidden": (16,)},
    "batchnorm": {"hidden": (16, 16)},
    "char_lm": {
        "text": (str(Path(__file__).parents[2] / "LICENSE"),),
        "embedding": 8,
        "units": 16,
        "length": 8,
        "sample": 8,
    },
    "distillation": {"hidden": (16,), "channels": (4, 4), "teacher_steps": 20},
    "dropout": {"hidden": (16,), "masks": 3},
    "cnn": {"channels": (4, 4)},
    "early_stopping": {"hidden": (16,), "search": 10},
    "continuation": {"starts": 4},
    "curriculum": {"hidden": (16,), "teacher_steps": 20},
    "fitnets": {"depth": 4, "guided": 2, "width": 8, "hint_steps": 5, "teacher_steps": 20},
    "gabor": {"channels": 4},
    "finetune": {"labels": 20, "first_steps": 20, "widths": (4, 4, 8)},
    "initializers": {"layers": 3, "width": 16},
    "landscapes": {"landscapes": ("bowl",)},
    "long_term": {"units": 4, "length": 8},
    "multitask": {"hidden": (16,)},
    "optimizers": {"methods": ("nesterov", "adam")},  # paths of others magnify rounding
    "pretraining": {"layer_steps": 3, "hidden": (8, 8), "seeds": 8},
    "rbm": {"hidden": 10, "chains": 4, "anneal": 5},
    "regularizers": {"hidden": 16, "labels": 64, "regularizers": ("none", "l1", "dropout")},
    "resnet": {"depth": 8, "widths": (4, 4, 8)},
    "psd": {"patches": 400, "size": 5, "codes": 16, "reference": 20},
    "rnn": {"units": 4, "length": 4},
    "seq2seq": {"longest": 4, "lengths": (4, 6), "units": 4, "tests": 8},
    "sparse_coding": {"patches": 400, "size": 5, "atoms": 16, "race": 20, "inference": 5},
    "search": {"trials": 8, "hidden": (16,)},
    "tangents": {"hidden": (16,), "code": 8, "code_steps": 20, "candidates": 2},
    "universal_approximation": {"widths": (2, 8)},
    "vae": {"hidden": 16, "samples": 8},
}


def recipe(name):
    return importlib.import_module(f"recipes.{name}")


def execute(name, out, **changes):
    module = recipe(name)
    settings = SHORT | SMALL.get(name, {}) | changes
    return run.execute(module.main, module.Config(out=str(out), **settings))


def files(folder):
    """What must be the same, whatever happened on the way: all arrays, and the metrics file."""
    path = folder / "checkpoints/20"
    storage = Storage()
    arrays = storage.arrays(path, read_manifest(path))
    storage.close()
    digests = {name: hashlib.sha256(a.tobytes()).hexdigest() for name, a in arrays.items()}
    return digests, hashlib.sha256((folder / "metrics.jsonl").read_bytes()).hexdigest()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_leaves_figures_curves_records_and_a_report(name, tmp_path):
    figures = execute(name, tmp_path / "run")
    assert figures and all(np.isfinite(v) for v in figures.values())
    assert json.loads((tmp_path / "run/result.json").read_text()) == pytest.approx(figures)
    records = read(tmp_path / "run/metrics.jsonl")
    assert records[-1]["step"] == 20
    assert {r["step"] for r in records} == set(range(1, 21))
    report = (tmp_path / "run/report.md").read_text()
    assert all(f"{name}" in report for name in figures)
    assert (tmp_path / "run/curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", USUALLY_MLP)
def test_a_stopped_and_resumed_recipe_ends_as_if_never_stopped(name, tmp_path, monkeypatch):
    whole = execute(name, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "requested", lambda self, step: step == 7)
        with pytest.raises(Preempted, match="saved step 7"):
            execute(name, tmp_path / "parts")
    assert execute(name, tmp_path / "parts", resume=True) == whole
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


@pytest.mark.parametrize("name", USUALLY_MLP)
@pytest.mark.parametrize("parallel", ["pmap", "shard_map"])
def test_a_recipe_computes_the_same_on_many_devices(name, parallel, tmp_path):
    config = {"steps": 10, "eval_every": 10}
    if hasattr(recipe(name).Config, "batch"):  # else there are no data to spread
        config["batch"] = 64
    execute(name, tmp_path / "one", **config)
    execute(name, tmp_path / "many", **config, parallel=parallel)
    one, many = (
        [r["train_loss"] for r in read(tmp_path / n / "metrics.jsonl") if "train_loss" in r]
        for n in ("one", "many")
    )
    np.testing.assert_allclose(many, one, rtol=1e-4)
    assert len(set(one)) == 10  # it did learn


def test_a_run_is_not_overwritten_and_resumed_only_with_its_settings(tmp_path):
    execute("mlp", tmp_path / "run")
    with pytest.raises(InputError, match="holds a run"):
        execute("mlp", tmp_path / "run")
    with pytest.raises(InputError, match=r"settings.lr: null -> 0.3.*--force"):
        execute("mlp", tmp_path / "run", resume=True, lr=0.3)
    with pytest.raises(InputError, match="holds no run"):
        execute("mlp", tmp_path / "none", resume=True)
    longer = execute("mlp", tmp_path / "run", resume=True, steps=25, lr=0.3, force=True)
    assert np.isfinite(list(longer.values())).all()
    assert "changed on resume" in (tmp_path / "run/report.md").read_text()


def test_a_run_that_stopped_early_is_not_prolonged_by_a_resume(tmp_path):
    settings = {"patience": 1, "eval_every": 1, "steps": 300, "lr": 0.3}
    first = execute("regression", tmp_path / "run", **settings)
    records = (tmp_path / "run/metrics.jsonl").read_bytes()
    assert read(tmp_path / "run/metrics.jsonl")[-1]["step"] < 300
    assert execute("regression", tmp_path / "run", resume=True, **settings) == first
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == records


def test_a_loss_that_is_not_finite_stops_the_run_and_is_never_saved(tmp_path):
    with pytest.raises(NonFiniteError, match=r"loss of step \d+ is (nan|inf).*gradient norm"):
        execute("mlp", tmp_path / "run", lr=1e30, optimizer="sgd", eval_every=20)
    assert not list((tmp_path / "run/checkpoints").glob("[0-9]*"))
    assert "stopped: the loss" in (tmp_path / "run/report.md").read_text()


@pytest.mark.parametrize(
    ("optimizer", "lr"), [("adamw", 0.001), pytest.param("lbfgs", None, marks=pytest.mark.slow)]
)
def test_any_optimizer_of_optax_trains_the_mlp_on_many_devices(optimizer, lr, tmp_path):
    changes = {"optimizer": optimizer, "lr": lr, "batch": 128, "steps": 5, "eval_every": 5}
    for parallel in ("none", "shard_map"):
        execute("mlp", tmp_path / parallel, parallel=parallel, **changes)
    losses = [
        [r["train_loss"] for r in read(tmp_path / n / "metrics.jsonl") if "train_loss" in r]
        for n in ("none", "shard_map")
    ]
    assert losses[0][-1] < losses[0][0]
    np.testing.assert_allclose(*losses, rtol=1e-3)


@pytest.mark.slow
def test_every_flag_of_the_mlp_changes_what_is_learned(tmp_path):
    base = execute("mlp", tmp_path / "base", steps=10, eval_every=10)["valid_loss"]
    flags = {
        "unit": "tanh",
        "init": "orthogonal",
        "precision": "bfloat16",
        "l1": 0.01,
        "l2": 0.1,
        "dropout": 0.5,
        "input_dropout": 0.2,
        "batch_norm": True,
        "label_smoothing": 0.2,
        "augment": True,
        "momentum": 0.5,
        "schedule": "constant",
        "hidden": (16,),
        "seed": 1,
        "valid": 0.2,
    }
    fields = {f.name for f in dataclasses.fields(recipe("mlp").Config)}
    assert flags.keys() <= fields
    for name, value in flags.items():
        loss = execute("mlp", tmp_path / name, steps=10, eval_every=10, **{name: value})
        assert loss["valid_loss"] != base, name
    # and this one must not: four parts of 16 examples are one batch of 64
    parts = execute("mlp", tmp_path / "accumulate", steps=10, eval_every=10, accumulate=4)
    assert parts["valid_loss"] == pytest.approx(base, rel=1e-4)
