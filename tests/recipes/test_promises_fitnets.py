"""FitNets do what their recipe's docstring promises, on digits that chose nothing."""

import importlib

import numpy as np
import pytest

from fdl import run
from fdl.errors import InputError, Preempted
from fdl.run.signals import StopRequest
from fdl.train.storage import Storage, read_manifest

pytestmark = pytest.mark.slow

SMALL = {"depth": 5, "guided": 2, "width": 6, "hint_steps": 6, "teacher_steps": 20, "steps": 9}


def execute(out, **changes):
    module = importlib.import_module("recipes.fitnets")
    settings = {"quiet": True, "parallel": "none", "eval_every": 3} | changes
    return run.execute(module.main, module.Config(out=str(out), **settings))


def arrays(folder, step):
    storage, path = Storage(), folder / f"checkpoints/{step}"
    found = storage.arrays(path, read_manifest(path))
    storage.close()
    return found


def test_a_student_with_hints_learns_what_it_cannot_learn_without(tmp_path):
    found = [execute(tmp_path / str(seed), seed=seed, eval_every=4000) for seed in (0, 1)]
    mean = {name: np.mean([figures[name] for figures in found]) for name in found[0]}
    for part in ("fit", "test"):
        without = max(mean[f"{part}_accuracy_plain"], mean[f"{part}_accuracy_distilled"])
        assert mean[f"{part}_accuracy_fitnets"] >= without + 0.15
    assert mean["test_accuracy_teacher"] >= 0.93


def test_the_first_stage_moves_the_layers_up_to_the_guided_one_alone(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:  # a run keeps its two newest checkpoints
        patch.setattr(StopRequest, "requested", lambda self, step: step == 3)
        with pytest.raises(Preempted):
            execute(tmp_path, **SMALL)
    early = arrays(tmp_path, 3)
    execute(tmp_path, **SMALL, resume=True)
    between, late = arrays(tmp_path, 6), arrays(tmp_path, 9)
    kernels = [n for n in early if n.startswith("params.fitnets.") and n.endswith("kernel")]
    lower = [n for n in kernels if ".hidden.0." in n or ".hidden.1." in n]
    assert len(kernels) == 6 and len(lower) == 2
    for name in kernels:
        assert np.array_equal(early[name], between[name]) == (name not in lower), name
        assert not np.array_equal(between[name], late[name])  # in the second stage all move
    for name in [n for n in early if n.startswith("params.regressor.")]:
        assert not np.array_equal(early[name], between[name])
        np.testing.assert_array_equal(between[name], late[name])


def test_stages_and_layers_that_are_not_there_are_named(tmp_path):
    with pytest.raises(InputError, match="--hint-steps must be below --steps 9, got 9"):
        execute(tmp_path / "steps", **SMALL | {"hint_steps": 9})
    with pytest.raises(InputError, match="--guided must be below --depth 5, got 5"):
        execute(tmp_path / "layers", **SMALL | {"guided": 5})
