"""Recurrent networks do what their recipe's docstring promises, on data that chose nothing."""

import importlib

import numpy as np
import pytest

from fdl import run

pytestmark = pytest.mark.slow
module = importlib.import_module("recipes.rnn")


def figures(tmp_path, seed, **changes):
    config = module.Config(
        out=str(tmp_path / str(seed)), quiet=True, parallel="none", seed=seed, **changes
    )
    return run.execute(module.main, config)


def test_sunspots_are_forecast_better_than_by_linear_regression(tmp_path):
    found = [figures(tmp_path, seed) for seed in range(5)]
    simple = found[0]["test_simple_rmse"]
    assert simple == pytest.approx(18.75, abs=0.01)
    assert np.mean([f["test_gru_rmse"] for f in found]) < simple
    assert max(f["valid_gru_rmse"] for f in found) < 13


def test_an_lstm_remembers_for_200_steps_and_a_tanh_network_does_not(tmp_path):
    found = figures(tmp_path, 0, task="adding", length=200)
    assert found["test_lstm_rmse"] ** 2 < 0.01
    assert found["test_tanh_rmse"] ** 2 > 0.14
