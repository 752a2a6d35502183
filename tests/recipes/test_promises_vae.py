"""The VAE does what its recipe's docstring promises, on digits that chose nothing."""

import importlib

import numpy as np
import pytest

from fdl import run

pytestmark = pytest.mark.slow


def test_curved_densities_beat_probabilistic_pca_and_the_linear_one_is_it(tmp_path):
    module = importlib.import_module("recipes.vae")
    found = []
    for seed in range(5):
        config = module.Config(
            out=str(tmp_path / str(seed)), quiet=True, parallel="none", seed=seed, eval_every=3000
        )
        found.append(run.execute(module.main, config))
    mean = {name: np.mean([f[name] for f in found]) for name in found[0]}
    assert abs(mean["test_linear_iwae"] - mean["test_pca_log_likelihood"]) < 0.15
    assert mean["test_deep_iwae"] > mean["test_pca_log_likelihood"] + 12
    assert mean["test_map_iwae"] > mean["test_map_pca_log_likelihood"] + 10
    for name in ("linear", "deep", "map"):
        assert mean[f"test_{name}_iwae"] > mean[f"test_{name}_elbo"]
    assert (tmp_path / "0/digits.png").exists() and (tmp_path / "0/map.png").exists()
