"""An encoder and a decoder do what their recipe's docstring promises, on unseen sequences."""

import importlib

import pytest

from fdl import run

pytestmark = pytest.mark.slow


def test_with_attention_sixteen_letters_are_reversed_and_without_hardly_any(tmp_path):
    module = importlib.import_module("recipes.seq2seq")
    config = module.Config(out=str(tmp_path / "run"), quiet=True, parallel="none")
    found = run.execute(module.main, config)
    assert found["test_luong_16_sequences"] >= 0.95
    assert found["test_bahdanau_16_sequences"] >= 0.95
    assert found["test_none_16_sequences"] <= 0.05
    assert found["test_none_16_letters"] <= 0.5
    # beyond the lengths of the training only input feeding goes on, and not for ever
    assert found["test_luong_20_letters"] > found["test_bahdanau_20_letters"] + 0.1
    assert found["test_luong_24_letters"] < found["test_luong_16_letters"] - 0.05
    assert (tmp_path / "run/attention.png").exists()
