"""Fine-tuning does what its recipe's docstring promises, on digits that chose nothing."""

import importlib

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from fdl import interop, models, run
from fdl.train.storage import Storage, read_manifest

pytestmark = pytest.mark.slow


def test_a_pre_trained_network_learns_from_fewer_labels(tmp_path):
    module = importlib.import_module("recipes.finetune")
    found = []
    for seed in range(5):
        config = module.Config(
            out=str(tmp_path / str(seed)), quiet=True, parallel="none", seed=seed, eval_every=200
        )
        found.append(run.execute(module.main, config))
    mean = {name: np.mean([f[name] for f in found]) for name in found[0]}
    assert mean["test_accuracy_groups"] >= mean["test_accuracy_scratch"] + 0.03
    assert mean["test_accuracy_whole"] >= mean["test_accuracy_scratch"] + 0.02
    assert mean["test_accuracy_groups"] >= mean["test_accuracy_head"] + 0.03


def test_a_checkpoint_of_the_user_s_own_is_what_all_but_scratch_begin_with(tmp_path):
    own = models.ResNet(models.ResNetConfig.digits(widths=(2, 3, 5)), rngs=nnx.Rngs(7))
    interop.save_pretrained(own, tmp_path / "own")
    tensors = load_file(tmp_path / "own/model.safetensors")
    first = tensors["resnet.embedder.embedder.convolution.weight"].transpose(2, 3, 1, 0)
    module = importlib.import_module("recipes.finetune")
    config = module.Config(
        out=str(tmp_path / "run"),
        pretrained=str(tmp_path / "own"),
        steps=1,
        quiet=True,
        parallel="none",
    )
    figures = run.execute(module.main, config)
    assert all(0 <= accuracy <= 1 for accuracy in figures.values())
    storage, path = Storage(), tmp_path / "run/checkpoints/1"
    arrays = storage.arrays(path, read_manifest(path))
    storage.close()
    after = {way: arrays[f"params.{way}.stem.conv.kernel"] for way in module.WAYS}
    for way in ("head", "head_stats"):  # frozen
        np.testing.assert_array_equal(after[way], first)
    for way in ("groups", "whole"):  # an update away
        assert 0 < abs(after[way] - first).max() < 0.1 < abs(after["scratch"] - first).max()
