"""Bagging does what its recipe's docstring promises, on digits that chose nothing."""

import importlib

import numpy as np
import pytest

from fdl import run

pytestmark = pytest.mark.slow

module = importlib.import_module("recipes.bagging")


def test_members_gain_by_being_averaged_and_bagged_ones_most(tmp_path):
    found = []
    for seed in range(5):
        config = module.Config(
            out=str(tmp_path / str(seed)), quiet=True, parallel="none", seed=seed, eval_every=1000
        )
        found.append(run.execute(module.main, config))
    mean = {name: np.mean([f[name] for f in found]) for name in found[0]}
    gain = {
        g: mean[f"test_{g}_one_loss"] - mean[f"test_{g}_mean_loss"] for g in ("bagged", "whole")
    }
    assert gain["bagged"] > 0.06 > gain["whole"] > 0.02
    assert mean["test_bagged_mean_accuracy"] > mean["test_bagged_one_accuracy"] + 0.004
    # better than one network that saw all, in nats; as good in accuracy
    assert mean["test_bagged_mean_loss"] < mean["test_whole_one_loss"]
    assert abs(mean["test_bagged_mean_accuracy"] - mean["test_whole_one_accuracy"]) < 0.006
    assert mean["test_bagged_alike"] < 0.9 < mean["test_whole_alike"] < 1
    assert mean["test_bagged_mean_loss"] < mean["test_bagged_weighted_loss"]
    assert mean["out_of_bag_accuracy"] > 0.965  # of known writers


def test_with_moved_pictures_the_mean_of_bags_reads_better_than_one_network_of_all(tmp_path):
    gains = []
    for seed in range(2):
        config = module.Config(
            out=str(tmp_path / str(seed)),
            quiet=True,
            parallel="none",
            seed=seed,
            augment=True,
            steps=4000,
            eval_every=4000,
        )
        found = run.execute(module.main, config)
        one, mean = found["test_whole_one_accuracy"], found["test_bagged_mean_accuracy"]
        assert mean > 0.954 and one > 0.95
        assert found["test_bagged_alike"] < found["test_whole_alike"]
        gains.append(mean - one)
    assert np.mean(gains) > 0.001


def test_two_moons_are_drawn(tmp_path):
    config = module.Config(
        out=str(tmp_path / "run"),
        quiet=True,
        parallel="none",
        task="moons",
        steps=1000,
        hidden=(32, 32),
        batch=32,
        eval_every=1000,
    )
    figures = run.execute(module.main, config)
    assert figures["test_bagged_mean_accuracy"] > figures["test_bagged_one_accuracy"] > 0.85
    assert figures["test_bagged_mean_loss"] < figures["test_bagged_one_loss"] - 0.03
    assert (tmp_path / "run/regions.png").read_bytes().startswith(b"\x89PNG")
