"""Pre-training does what its recipe's docstring promises; its stages begin where others ended."""

import importlib
import re

import numpy as np
import pytest

from fdl import run
from fdl.errors import InputError, Preempted
from fdl.run.signals import StopRequest
from fdl.train.storage import Storage, read_manifest

TINY = {"seeds": 2, "hidden": (8, 8), "labels": 64, "layer_steps": 3, "quiet": True}


def execute(out, **changes):
    module = importlib.import_module("recipes.pretraining")
    settings = TINY | {"steps": 9, "eval_every": 1, "parallel": "none"} | changes
    return run.execute(module.main, module.Config(out=str(out), **settings))


def saved(out, step):
    """The arrays of a checkpoint by name."""
    path = out / "checkpoints" / str(step)
    storage = Storage()
    arrays = storage.arrays(path, read_manifest(path))
    storage.close()
    return arrays


@pytest.mark.slow
def test_layers_below_stand_still_and_the_whole_begins_with_what_they_learned(tmp_path):
    found = {}
    for steps in (3, 6, 7):  # the ends of the stages of both layers, and an update of the whole
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(StopRequest, "requested", lambda self, step, at=steps: step == at)
            with pytest.raises(Preempted):
                execute(tmp_path / str(steps), lr=1e-12)
        found[steps] = saved(tmp_path / str(steps), steps)
    params = [name for name in found[3] if name.startswith("params.")]
    changed = {n for n in params if not np.array_equal(found[3][n], found[6][n])}
    mine = re.compile(r"params\.((denoising|rbm|psd)\.1|supervised(_input)?\.(hidden\.)?1)\.")
    assert changed == {n for n in params if mine.match(n)}
    for steps, updates in ((3, 3), (6, 3), (7, 1)):  # each stage has an optimizer of its own
        counts = {int(a.max()) for n, a in found[steps].items() if n.endswith("count")}
        assert counts == {updates}
    before, after = found[6], found[7]
    for layer in (0, 1):
        for name, trained in (
            ("denoising", f"denoising.{layer}.encoder.0.kernel"),
            ("rbm", f"rbm.{layer}.kernel"),
            ("supervised", f"supervised.hidden.{layer}.affine.kernel"),
        ):
            np.testing.assert_allclose(
                after[f"params.{name}.hidden.{layer}.affine.kernel"],
                before[f"params.{trained}"],
                atol=1e-9,
            )
    np.testing.assert_allclose(
        after["params.psd.hidden.0.affine.kernel"],
        2 * before["params.psd.0.encoder.kernel"],
        atol=1e-9,
    )
    np.testing.assert_allclose(
        after["params.supervised.output.kernel"], before["params.supervised.1.kernel"], atol=1e-9
    )


@pytest.mark.slow
def test_a_run_stopped_between_two_stages_goes_on_as_if_never_stopped(tmp_path):
    whole = execute(tmp_path / "whole")
    for at in (3, 6):
        out = tmp_path / f"parts{at}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(StopRequest, "requested", lambda self, step, at=at: step == at)
            with pytest.raises(Preempted, match=f"saved step {at}"):
                execute(out)
        assert execute(out, resume=True) == whole
        one, other = saved(out, 9), saved(tmp_path / "whole", 9)
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_too_few_steps_for_the_stages_are_refused(tmp_path):
    with pytest.raises(InputError, match="--steps must be > 6, those of the layers"):
        execute(tmp_path / "run", steps=6)


@pytest.mark.slow
def test_every_pre_training_beats_random_sigmoid_units_and_none_beats_rectifiers(tmp_path):
    module = importlib.import_module("recipes.pretraining")
    config = module.Config(out=str(tmp_path / "run"), quiet=True, parallel="none", eval_every=2800)
    found = run.execute(module.main, config)
    random, rectifiers = found["test_random"], found["test_rectifiers"]
    assert random == pytest.approx(0.764, abs=0.03)
    for name in ("supervised", "supervised_input", "denoising", "psd"):
        assert found[f"test_{name}"] > random + 0.03
        assert found[f"test_{name}"] < rectifiers + 0.015
    assert found["test_rbm"] > random + 0.01
    assert 0.005 < found["test_denoising_deviation"] < 0.04
