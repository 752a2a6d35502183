"""First weights and batch normalisation do what their recipes' docstrings promise."""

import importlib

import numpy as np
import pytest

from fdl import run

pytestmark = pytest.mark.slow


def results(name, folder, seeds=5):
    module = importlib.import_module(f"recipes.{name}")
    for seed in range(seeds):
        config = module.Config(out=str(folder / str(seed)), quiet=True, parallel="none", seed=seed)
        yield run.execute(module.main, config)


def test_a_deep_sigmoid_network_needs_a_third_of_the_steps_with_batch_normalisation(tmp_path):
    found = list(results("batchnorm", tmp_path))
    assert np.mean([f["steps"] for f in found]) <= 1000  # of 3000
    accuracy = {k: np.mean([f[f"test_accuracy_{k}"] for f in found]) for k in ("plain", "norm")}
    assert accuracy["norm"] >= accuracy["plain"] + 0.02
    assert (tmp_path / "0/convergence.png").exists()


def test_twenty_layers_learn_only_from_weights_of_the_right_size(tmp_path):
    found = list(results("initializers", tmp_path, seeds=2))
    loss = {name[9:]: np.mean([f[name] for f in found]) for name in found[0] if "fit" in name}
    assert min(loss["normal_0.01"], loss["uniform"]) > 2.2  # guessing: log 10
    for name in ("he", "gram_schmidt", "lsuv"):
        assert loss[name] < 0.01 < loss["xavier"] < 1
    assert (tmp_path / "0/signals.png").exists()
