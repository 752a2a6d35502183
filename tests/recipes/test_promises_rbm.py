"""The RBM does what its recipe's docstring promises, on digits that chose nothing."""

import importlib

import numpy as np
import pytest

from fdl import run

pytestmark = pytest.mark.slow


def test_hidden_units_tell_moved_digits_apart_better_than_pixels_do(tmp_path):
    module = importlib.import_module("recipes.rbm")
    found = []
    for seed in range(5):
        config = module.Config(
            out=str(tmp_path / str(seed)), quiet=True, parallel="none", seed=seed, eval_every=7000
        )
        found.append(run.execute(module.main, config))
    mean = {name: np.mean([f[name] for f in found]) for name in found[0]}
    assert mean["test_pixels"] < 0.77
    assert mean["test_features"] > mean["test_pixels"] + 0.09
    # independent units with the means of the training digits have -30.5 nats
    assert mean["test_log_likelihood"] > -26.5
    assert mean["test_log_likelihood_error"] < 0.1
    assert (tmp_path / "0/digits.png").exists()
