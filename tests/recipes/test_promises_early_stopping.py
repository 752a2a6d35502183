"""Early stopping does what its recipe's docstring promises, and can be stopped in any phase."""

import importlib

import numpy as np
import pytest

from fdl import run
from fdl.errors import Preempted
from fdl.run.log import read
from fdl.run.signals import StopRequest

module = importlib.import_module("recipes.early_stopping")
SHORT = {"steps": 60, "search": 20, "eval_every": 2, "log_every": 1, "hidden": (16,), "cap": 30}


def execute(folder, **changes):
    config = module.Config(out=str(folder), quiet=True, parallel="none", **changes)
    return run.execute(module.main, config)


@pytest.mark.slow
def test_what_is_stopped_predicts_better_and_more_data_better_still(tmp_path):
    found = [execute(tmp_path / str(seed), seed=seed) for seed in range(5)]
    for figures in found:
        assert figures["test_stopped_loss"] < figures["test_plain_loss"]
        assert figures["test_retrained_loss"] < figures["test_stopped_loss"]
        assert figures["test_continued_loss"] < figures["test_stopped_loss"]
        assert 100 <= figures["best_step"] < 2000
    mean = {name: np.mean([f[name] for f in found]) for name in found[0]}
    assert mean["test_plain_loss"] > 0.43 and mean["test_stopped_loss"] < 0.40
    assert mean["test_retrained_loss"] < 0.35 and mean["test_continued_loss"] < 0.38
    assert abs(mean["test_stopped_accuracy"] - mean["test_plain_accuracy"]) < 0.01
    assert mean["test_retrained_accuracy"] > mean["test_stopped_accuracy"]
    assert mean["test_continued_accuracy"] > mean["test_stopped_accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("when", [13, 33, 41])  # while searching, retraining, continuing
def test_a_run_stopped_in_any_phase_ends_as_if_never_stopped(when, tmp_path, monkeypatch):
    # a rate so small that the search is best at its end and that 7.3 takes some time
    options = SHORT | {"lr": 0.003}
    whole = execute(tmp_path / "whole", **options)
    records = read(tmp_path / "whole/metrics.jsonl")
    assert whole["best_step"] == 20 and records[-1]["step"] > when
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "requested", lambda self, step: step == when)
        with pytest.raises(Preempted, match=f"saved step {when}"):
            execute(tmp_path / "parts", **options)
    assert execute(tmp_path / "parts", resume=True, **options) == whole
    assert read(tmp_path / "parts/metrics.jsonl") == records


@pytest.mark.slow
def test_retraining_takes_as_long_as_was_best(tmp_path):
    """Its first step begins where the whole run began, and its last is `times` the best."""
    execute(tmp_path / "run", **SHORT, times=0.5)
    records = read(tmp_path / "run/metrics.jsonl")
    losses = {r["step"]: r["train_loss"] for r in records if "train_loss" in r}
    assert losses[21] > losses[20] and losses[21] == pytest.approx(losses[1], rel=0.2)
    assert losses[31] < losses[30]  # step 31 is the first of 7.3: 20 updates were best, not 10
