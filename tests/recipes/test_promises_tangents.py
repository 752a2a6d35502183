"""Tangents do what their recipe's docstring promises, on digits that chose nothing."""

import importlib

import numpy as np
import pytest

from fdl import run

pytestmark = pytest.mark.slow


def test_tangents_help_the_neighbour_much_and_the_network_some(tmp_path):
    module = importlib.import_module("recipes.tangents")
    found = []
    for seed in range(5):
        config = module.Config(
            out=str(tmp_path / str(seed)), quiet=True, parallel="none", seed=seed, eval_every=2000
        )
        found.append(run.execute(module.main, config))
    mean = {name: np.mean([f[name] for f in found]) for name in found[0]}
    assert mean["test_euclidean_neighbour"] < 0.96  # of smoothed digits
    assert mean["test_tangent_neighbour"] >= 0.965
    assert mean["test_given_accuracy"] >= mean["test_plain_accuracy"] + 0.008
    assert mean["test_learned_accuracy"] >= mean["test_plain_accuracy"]
    assert (tmp_path / "0/tangents.png").exists()
