"""Fine-tuning does what its recipe's docstring promises, on digits that chose nothing."""

import importlib

import numpy as np
import pytest

from fdl import run

pytestmark = pytest.mark.slow


def test_a_pre_trained_network_learns_from_fewer_labels(tmp_path):
    module = importlib.import_module("recipes.finetune")
    found = []
    for seed in range(5):
        config = module.Config(
            out=str(tmp_path / str(seed)), quiet=True, parallel="none", seed=seed, eval_every=200
        )
        found.append(run.execute(module.main, config))
    mean = {name: np.mean([f[name] for f in found]) for name in found[0]}
    assert mean["test_accuracy_groups"] >= mean["test_accuracy_scratch"] + 0.03
    assert mean["test_accuracy_whole"] >= mean["test_accuracy_scratch"] + 0.02
    assert mean["test_accuracy_groups"] >= mean["test_accuracy_head"] + 0.03
