"""Adversarial training does what its recipe's docstring promises, on digits that chose nothing."""

import importlib

import numpy as np
import pytest

from fdl import run

pytestmark = pytest.mark.slow


def test_adversarial_training_is_robust_and_costs_no_clean_accuracy(tmp_path):
    module = importlib.import_module("recipes.adversarial")
    found = []
    for seed in range(5):
        config = module.Config(
            out=str(tmp_path / str(seed)), quiet=True, parallel="none", seed=seed, eval_every=2000
        )
        found.append(run.execute(module.main, config))
    mean = {name: np.mean([f[name] for f in found]) for name in found[0]}
    assert mean["test_plain_fgsm"] < 0.58
    assert mean["test_fgsm_fgsm"] >= 0.72
    assert mean["test_fgsm_clean"] >= mean["test_plain_clean"]
    for name in ("plain", "fgsm", "pgd"):  # many steps find what one misses
        assert mean[f"test_{name}_worst"] <= mean[f"test_{name}_pgd"] < mean[f"test_{name}_fgsm"]
    assert mean["test_pgd_pgd"] > mean["test_fgsm_pgd"] > mean["test_plain_pgd"] + 0.15
    assert (tmp_path / "0/digits.png").exists()
