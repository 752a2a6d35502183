"""Dropout does what its recipe's docstring promises, on digits that chose nothing."""

import importlib

import numpy as np
import pytest

from fdl import run

pytestmark = pytest.mark.slow


def test_dropout_reads_better_by_each_rule_of_inference(tmp_path):
    module = importlib.import_module("recipes.dropout")
    found = []
    for seed in range(5):
        config = module.Config(
            out=str(tmp_path / str(seed)), quiet=True, parallel="none", seed=seed, eval_every=2000
        )
        found.append(run.execute(module.main, config))
    mean = {name: np.mean([f[name] for f in found]) for name in found[0]}
    plain = mean["test_plain_accuracy"]
    assert 0.905 < plain < 0.93
    for rule in ("scaled", "arithmetic", "geometric"):
        assert mean[f"test_{rule}_accuracy"] > plain + 0.01
        assert mean[f"test_{rule}_loss"] < mean["test_plain_loss"] - 0.1
    # the whole network predicts as the geometric mean does, and a single mask is no ensemble
    assert abs(mean["test_scaled_loss"] - mean["test_geometric_loss"]) < 0.02
    assert mean["test_arithmetic_loss"] < mean["test_scaled_loss"] - 0.02
    assert mean["test_one_mask_accuracy"] < mean["test_geometric_accuracy"] - 0.02
    assert mean["test_one_mask_loss"] > 0.3
