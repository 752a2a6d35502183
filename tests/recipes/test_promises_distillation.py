"""Distillation does what its recipe's docstring promises, on digits that chose nothing."""

import importlib

import numpy as np
import pytest

from fdl import run

pytestmark = pytest.mark.slow

SMALL = {"hidden": (16,), "channels": (4, 4), "teacher_steps": 20, "steps": 20, "eval_every": 20}


def execute(out, **changes):
    module = importlib.import_module("recipes.distillation")
    settings = {"quiet": True, "parallel": "none", "eval_every": 2000} | changes
    return run.execute(module.main, module.Config(out=str(out), **settings))


def test_a_teacher_saves_a_student_a_third_of_its_errors(tmp_path):
    found = [execute(tmp_path / str(seed), seed=seed) for seed in range(5)]
    errors = {
        who: np.mean([360 * (1 - figures[f"test_accuracy_{who}"]) for figures in found])
        for who in ("hard", "distilled", "teacher")
    }
    assert errors["distilled"] <= 20
    assert errors["distilled"] <= errors["hard"] * 2 / 3
    assert errors["teacher"] <= 9


def test_what_no_student_has_seen_is_learned_from_the_teacher(tmp_path):
    figures = execute(tmp_path, omit=3)
    assert figures["test_omitted_hard"] == 0
    assert figures["test_omitted_distilled_biased"] >= 0.5
    assert figures["test_accuracy_distilled_biased"] >= figures["test_accuracy_hard_biased"] + 0.03


def test_outputs_from_the_disk_teach_as_new_ones_do(tmp_path):
    cache = str(tmp_path / "cache")
    figures = [
        execute(tmp_path / str(i), **SMALL, cache=folder, teachers=2)
        for i, folder in enumerate(("", cache, cache))
    ]
    assert figures[0] == figures[1] == figures[2]
    records = {(tmp_path / str(i) / "metrics.jsonl").read_bytes() for i in range(3)}
    assert len(records) == 1
    other = execute(tmp_path / "other", **SMALL, cache=cache, teachers=2, seed=1)
    assert other["test_accuracy_teacher"] != figures[0]["test_accuracy_teacher"]
