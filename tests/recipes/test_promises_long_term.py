"""Gradients through time do what their recipe's docstring promises."""

import importlib

import pytest

from fdl import run

pytestmark = pytest.mark.slow


def test_clipped_gradients_train_what_explodes_and_nothing_trains_what_vanishes(tmp_path):
    module = importlib.import_module("recipes.long_term")
    config = module.Config(out=str(tmp_path / "run"), quiet=True, parallel="none")
    found = run.execute(module.main, config)
    assert found["gradient_tanh_0.8"] < 1e-3 > found["gradient_lstm_1"]
    assert min(found[f"gradient_{name}"] for name in ("tanh_1.5", "lstm_5")) > 10
    for name in ("tanh_0.8", "lstm_1"):
        for way in module.WAYS:
            assert found[f"test_{way}_{name}_accuracy"] < 0.35, (name, way)  # guessing: 0.25
    for name in ("tanh_1", "tanh_1.5", "lstm_5"):
        assert found[f"test_clipped_{name}_accuracy"] > 0.95, name
        assert found[f"test_plain_{name}_accuracy"] < 0.8, name
        assert found[f"test_clipped_{name}_loss"] < found[f"test_plain_{name}_loss"] / 10, name
    assert (tmp_path / "run/losses.png").exists() and (tmp_path / "run/gradients.png").exists()
