"""What the recipe of several tasks says of them: with few labels a second task changes nothing."""

import importlib

import numpy as np
import pytest

from fdl import run

pytestmark = pytest.mark.slow


def test_a_second_task_neither_helps_nor_hurts(tmp_path):
    module = importlib.import_module("recipes.multitask")
    found = []
    for seed in range(5):
        config = module.Config(
            out=str(tmp_path / str(seed)), quiet=True, parallel="none", seed=seed, eval_every=1000
        )
        found.append(run.execute(module.main, config))
    accuracy = {
        name: np.array([f[f"test_{name}_accuracy"] for f in found]) for name in module.NETWORKS
    }
    assert 0.79 < accuracy["alone"].mean() < 0.86
    for name in ("moments", "restore"):
        assert abs((accuracy[name] - accuracy["alone"]).mean()) < 0.02
