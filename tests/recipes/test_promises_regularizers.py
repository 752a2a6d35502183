"""Regularizers do what their recipe's docstring promises, on digits that chose nothing."""

import importlib

import numpy as np
import pytest

from fdl import run

pytestmark = pytest.mark.slow
SOME = ("none", "l1", "dropout", "input_noise", "label_smoothing", "augmentation")


def zero_weights(folder, name):
    rows = (folder / "table.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    column = cells[0].index("zero weights")
    return next(float(row[column]) for row in cells if row[0] == name)


def test_what_knows_of_digits_helps_and_l1_makes_zeros_at_no_cost(tmp_path):
    module = importlib.import_module("recipes.regularizers")
    found, zeros = [], []
    for seed in range(5):
        config = module.Config(
            out=str(tmp_path / str(seed)),
            quiet=True,
            parallel="none",
            seed=seed,
            regularizers=SOME,
        )
        found.append(run.execute(module.main, config))
        zeros.append(zero_weights(tmp_path / str(seed), "l1"))
    mean = {name: np.mean([f[f"test_{name}"] for f in found]) for name in SOME}
    assert 0.84 <= mean["none"] <= 0.88
    assert mean["input_noise"] >= mean["none"] + 0.015
    assert mean["augmentation"] >= mean["none"] + 0.01
    assert mean["label_smoothing"] >= mean["none"]
    assert abs(mean["dropout"] - mean["none"]) < 0.02
    assert abs(mean["l1"] - mean["none"]) < 0.01 and min(zeros) > 0.05 and max(zeros) > 0.3
    assert (tmp_path / "0/units.png").exists()
