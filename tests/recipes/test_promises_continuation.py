"""Continuation does what its recipe's docstring promises, from five sets of random starts."""

import importlib

import numpy as np
import pytest

from fdl import run

pytestmark = pytest.mark.slow


def test_continuation_leaves_minima_in_which_descent_stays(tmp_path):
    module = importlib.import_module("recipes.continuation")
    found = []
    for seed in range(5):
        config = module.Config(
            out=str(tmp_path / str(seed)), quiet=True, parallel="none", seed=seed
        )
        found.append(run.execute(module.main, config))
    mean = {name: np.mean([f[name] for f in found]) for name in found[0]}
    for problem, at_most in (("polynomial", 0.65), ("frequency", 0.35), ("exclusive_or", 0.85)):
        assert mean[f"solved_{problem}_plain"] < at_most
        assert mean[f"solved_{problem}_continued"] > mean[f"solved_{problem}_plain"] + 0.08
    assert mean["solved_polynomial_continued"] > 0.93
    assert mean["solved_frequency_continued"] > 0.9
    assert mean["solved_exclusive_or_continued"] > 0.87
    assert (tmp_path / "0/objectives.png").exists()
