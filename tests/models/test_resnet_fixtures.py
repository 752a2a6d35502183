"""ResNets against transformers and timm: outputs, gradients, running statistics, and back to disk.

Every size and option is read from the folder of the fixture: one with others can take its place.
"""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from fdl import interop, losses
from fdl.pure import pure

pytestmark = pytest.mark.usefixtures("compile_quickly")

FIXTURES = Path(__file__).parents[1] / "fixtures"
NAMES = ("hf_resnet_basic", "hf_resnet_bottleneck", "hf_bit_preact", "timm_resnet")
NAMES += ("timm_resnetv2_bn",)
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}
BASE = {"timm_resnet": {"basic": "resnet18", "bottleneck": "resnet50"}}


def config_of(name):
    """Return the `config.json` that the reference would have saved beside the weights."""
    folder = FIXTURES / name
    if (folder / "hf_config.json").exists():
        return json.loads((folder / "hf_config.json").read_text())
    given = json.loads((folder / "config.json").read_text())["config"]
    drop = ("seed", "image", "num_classes")
    args = {key: value for key, value in given.items() if key not in drop}
    base = "resnetv2_50" if "v2" in name else BASE[name][args.get("block", "basic")]
    return {"architecture": base, "num_classes": given["num_classes"], "model_args": args}


@pytest.fixture(scope="module", params=NAMES)
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    shutil.copy(FIXTURES / request.param / "weights.safetensors", path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(config_of(request.param)))
    return path, np.load(FIXTURES / request.param / "data.npz"), request.param


def tensors_of(module, values, names, folder):
    """Return values of the shape of a module's arrays by the reference's names, as its files have.

    The way out, which the round trip below tests against the way in.
    """
    interop.save_weights(interop.filled(module, values), folder, names=names)
    return load_file(folder / "model.safetensors")


TABLES = {
    "hf_resnet_basic": interop.resnet_names.HUGGING_FACE,
    "hf_resnet_bottleneck": interop.resnet_names.HUGGING_FACE,
    "hf_bit_preact": interop.resnet_names.BIT,
    "timm_resnet": interop.resnet_names.TORCHVISION,
    "timm_resnetv2_bn": interop.resnet_names.TIMM_V2,
}


def test_outputs_are_those_of_the_reference(folder):
    path, data, _ = folder
    apply, params, extra = pure(interop.load_pretrained(path, dtype=jnp.float64))
    logits, _ = jax.jit(apply)(params, extra, np.moveaxis(data["x"], 1, -1).astype(np.float64))
    np.testing.assert_allclose(logits, data["eval_logits"], **TOLERANCE["float64"])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_training_is_that_of_the_reference(folder, dtype, tmp_path):
    path, data, name = folder
    module = interop.load_pretrained(path, dtype=dtype)
    apply, params, extra = pure(module)
    x = jnp.asarray(np.moveaxis(data["x"], 1, -1), dtype)

    def loss(params):
        logits, new = apply(params, extra, x, train=True)
        return losses.softmax_cross_entropy(logits, data["y"]).mean(), (logits, new)

    @jax.jit
    def run(params):
        return apply(params, extra, x)[0], jax.value_and_grad(loss, has_aux=True)(params)

    with jax.default_matmul_precision("highest"):
        logits, ((value, (trained, new)), gradient) = run(params)
    close = TOLERANCE[dtype]
    np.testing.assert_allclose(logits, data["eval_logits"], **close)
    np.testing.assert_allclose(trained, data["train_logits"], **close)
    np.testing.assert_allclose(value, data["train_loss"], **close)
    after = tensors_of(module, new, TABLES[name], tmp_path / "after")
    slope = tensors_of(module, gradient, TABLES[name], tmp_path / "slope")
    for key in data:
        kind, _, tensor = key.partition(":")
        if kind == "after_train_forward":
            np.testing.assert_allclose(after[tensor], data[key], **close, err_msg=key)
        if kind == "grad":
            # of thousands of entries that cancel some keep fewer digits than 2e-4 of their own
            # size in float32, but not of the largest one's
            least = 1e-12 if dtype == "float64" else close["rtol"] * np.abs(data[key]).max()
            near = {"rtol": close["rtol"], "atol": least}
            np.testing.assert_allclose(slope[tensor], data[key], **near, err_msg=key)


def test_a_checkpoint_comes_back_as_it_was_bit_by_bit(folder, tmp_path):
    path, _, name = folder
    whose = "huggingface" if name.startswith("hf") else "timm"
    interop.save_pretrained(interop.load_pretrained(path), tmp_path / "out", names=whose)
    before = load_file(path / "model.safetensors")
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        assert after[key].dtype == tensor.dtype and after[key].shape == tensor.shape
        assert after[key].tobytes() == tensor.tobytes()
    again = interop.load_pretrained(tmp_path / "out")
    assert again.config == interop.load_pretrained(path).config
    assert "fdl" not in json.loads((tmp_path / "out" / "config.json").read_text())
