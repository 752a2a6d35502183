"""What the recipes of output units promise: spreads and several answers that are worth learning."""

import importlib

import numpy as np
import pytest
from scipy import stats

from fdl import run

pytestmark = pytest.mark.slow


def figures(recipe, tmp_path, seeds=range(5), **settings):
    """Return each figure's values over the seeds."""
    module = importlib.import_module(f"recipes.{recipe}")
    rows = []
    for seed in seeds:
        config = module.Config(
            out=str(tmp_path / str(seed)), quiet=True, parallel="none", seed=seed, **settings
        )
        rows.append(run.execute(module.main, config))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def test_a_learned_spread_predicts_better_than_a_constant_one(tmp_path):
    found = figures("heteroscedastic", tmp_path)
    x = np.linspace(0.5, 1.5, 10_001)  # the noise's deviation
    best = stats.norm.entropy() + np.trapezoid(np.log(x), x)
    best_constant = stats.norm.entropy() + 0.5 * np.log(np.trapezoid(x**2, x))
    noise = 3 * 0.5**0.5 / 5000**0.5  # of a mean over the test set: half a chi-square of variance 2
    assert np.all(found["test_nll_learned"] > best - noise)
    assert np.all(found["test_nll_constant"] > best_constant - noise)
    assert found["test_nll_learned"].mean() < best + 0.03
    assert np.all(found["test_nll_learned"] < found["test_nll_constant"] - 0.05)
    assert abs(found["test_within_95_learned"].mean() - 0.95) < 0.02


def test_a_mixture_finds_the_answers_that_a_gaussian_blurs(tmp_path):
    found = figures("mixture_density", tmp_path, seeds=range(3))
    assert np.all(found["test_nll_mixture"] < found["test_nll_gaussian"] - 0.4)
    assert np.all(found["test_nll_mixture"] > lowest_nll_of_the_inverse_sine() - 0.1)
    assert np.all(found["test_answer_rmse_mixture"] < found["test_answer_rmse_gaussian"])


def lowest_nll_of_the_inverse_sine():
    """Entropy of y given x: h(y) + h(x | y) - h(x), of which h(y) = 0 and h(x | y) = log 0.1."""
    y = (np.arange(1_000_000) + 0.5) / 1_000_000
    x = np.sort(y + 0.3 * np.sin(2 * np.pi * y))
    at = np.linspace(-0.2, 1.2, 2801)
    p = (np.searchsorted(x, at + 0.05) - np.searchsorted(x, at - 0.05)) / len(y) / 0.1
    return np.log(0.1) + np.trapezoid(np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0), at)
