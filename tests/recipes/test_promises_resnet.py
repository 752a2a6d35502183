"""Fifty layers do what their recipe's docstring promises, on digits that chose nothing."""

import importlib

import numpy as np
import pytest

from fdl import run

pytestmark = pytest.mark.slow


def test_fifty_layers_train_with_shortcuts_and_hardly_without(tmp_path):
    module = importlib.import_module("recipes.resnet")
    found = []
    for seed in range(2):
        config = module.Config(
            out=str(tmp_path / str(seed)), quiet=True, parallel="none", seed=seed, eval_every=300
        )
        found.append(run.execute(module.main, config))
    mean = {name: np.mean([f[name] for f in found]) for name in found[0]}
    assert mean["test_accuracy_skip"] >= mean["test_accuracy_plain"] + 0.15
    assert mean["test_accuracy_skip"] >= 0.9
    assert mean["fit_loss_skip"] < 0.002 < mean["fit_loss_plain"] / 100
    assert mean["gradient_plain"] > 10 * mean["gradient_skip"]
    assert (tmp_path / "0/gradients.png").exists()
