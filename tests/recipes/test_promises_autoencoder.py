"""Auto-encoders do what their recipe's docstring promises, on digits that chose nothing."""

import importlib

import numpy as np
import pytest

from fdl import run

pytestmark = pytest.mark.slow


def test_a_small_code_beats_components_and_a_sparse_one_the_pixels(tmp_path):
    module = importlib.import_module("recipes.autoencoder")
    found = []
    for seed in range(5):
        config = module.Config(
            out=str(tmp_path / str(seed)), quiet=True, parallel="none", seed=seed, eval_every=3000
        )
        found.append(run.execute(module.main, config))
    mean = {name: np.mean([f[name] for f in found]) for name in found[0]}
    assert mean["test_under_error"] < 0.72 * mean["test_pca_error"]
    assert mean["test_under_all"] > mean["test_pca_all"] + 0.015  # codes of equal size
    assert mean["test_free_error"] < 0.03  # it copies, and is no better to read than pixels
    assert abs(mean["test_free_all"] - mean["test_pixels_all"]) < 0.01
    assert mean["test_sparse_all"] > mean["test_pixels_all"] + 0.005
    assert abs(mean["test_sparse_few"] - mean["test_pixels_few"]) < 0.03  # no help there
    assert (tmp_path / "0/codes.png").exists()
