"""The results that the recipes' docstrings promise, on test data that chose nothing."""

import importlib

import numpy as np
import pytest

from fdl import run

pytestmark = pytest.mark.slow


def figures(recipe, out, **settings):
    module = importlib.import_module(f"recipes.{recipe}")
    config = module.Config(out=str(out), quiet=True, parallel="none", **settings)
    return run.execute(module.main, config)


def mean(name, recipe, tmp_path, **settings):
    found = [figures(recipe, tmp_path / str(s), seed=s, **settings) for s in range(5)]
    return np.mean([f[name] for f in found])


def test_the_mlp_beats_logistic_regression_on_other_writers(tmp_path):
    assert mean("test_accuracy", "mlp", tmp_path) >= 0.92


def test_augmentation_lifts_the_mlp(tmp_path):
    assert mean("test_accuracy", "mlp", tmp_path, augment=True, steps=4000) >= 0.945


def test_regression_is_no_worse_than_ridge(tmp_path):
    found = [figures("regression", tmp_path / str(s), seed=s) for s in range(5)]
    ours, ridge = ([f[name] for f in found] for name in ("test_rmse", "ridge_rmse"))
    assert np.mean(ours) <= np.mean(ridge) * 1.01
    assert np.mean(ridge) == pytest.approx(56.9, rel=0.02)  # scikit-learn's on all training rows


def test_the_table_of_breast_cancer_is_learned(tmp_path):
    assert mean("test_accuracy", "tabular", tmp_path) >= 0.95


def test_the_error_of_an_approximation_falls_with_its_width(tmp_path):
    found = figures("universal_approximation", tmp_path / "run")
    errors = list(found.values())
    assert errors[0] > 0.3 and errors[-1] < 0.015
    assert all(wide < 1.1 * narrow for narrow, wide in zip(errors, errors[1:], strict=False))
