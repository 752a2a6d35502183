"""The curriculum does what its recipe's docstring promises, on curves that chose nothing."""

import importlib

import numpy as np
import pytest

from fdl import run

pytestmark = pytest.mark.slow


def test_the_order_of_examples_matters_but_easy_first_is_hardly_better_than_no_order(tmp_path):
    module = importlib.import_module("recipes.curriculum")
    found = []
    for seed in range(5):
        config = module.Config(
            out=str(tmp_path / str(seed)), quiet=True, parallel="none", seed=seed, eval_every=3000
        )
        found.append(run.execute(module.main, config))
    mean = {name: np.mean([f[f"test_{name}_accuracy"] for f in found]) for name in module.NETWORKS}
    assert mean["hard_first"] < mean["easy_first"] - 0.01
    assert mean["mixed"] > mean["random"] + 0.01
    assert abs(mean["easy_first"] - mean["plain"]) < 0.02
    assert 0.48 < mean["plain"] < 0.55
