"""The convolutional recipes do what their docstrings promise, on digits that chose nothing."""

import importlib

import numpy as np
import pytest

from fdl import run

pytestmark = pytest.mark.slow


def five_seeds(name, tmp_path, steps, **changes):
    module = importlib.import_module(f"recipes.{name}")
    found = []
    for seed in range(5):
        config = module.Config(
            out=str(tmp_path / str(seed)),
            quiet=True,
            parallel="none",
            seed=seed,
            steps=steps,
            eval_every=steps,
            **changes,
        )
        found.append(run.execute(module.main, config))
    return {figure: np.mean([f[figure] for f in found]) for figure in found[0]}


def test_the_cnn_reads_digits_of_other_writers(tmp_path):
    mean = five_seeds("cnn", tmp_path, 600)
    assert mean["test_accuracy"] >= 0.965  # a nearest neighbour vote reads .967, an MLP .93
    assert (tmp_path / "0/misread.png").exists()


def test_the_cnn_reads_more_of_them_when_it_has_seen_moved_digits(tmp_path):
    assert five_seeds("cnn", tmp_path, 1200, augment=True, lr=0.003)["test_accuracy"] >= 0.985


def test_gabor_filters_take_the_place_of_labels(tmp_path):
    mean = five_seeds("gabor", tmp_path, 500)
    accuracy = {
        name.removeprefix("test_").removesuffix("_accuracy"): value
        for name, value in mean.items()
        if name.startswith("test_")
    }
    for how in ("fixed", "trained"):
        assert accuracy[f"few_gabor_{how}"] >= accuracy[f"few_random_{how}"] + 0.025
        assert accuracy[f"all_gabor_{how}"] >= accuracy[f"all_random_{how}"] + 0.008
    assert accuracy["few_gabor_trained"] >= 0.89
    assert (tmp_path / "0/filters.png").exists()
