"""Whole checkpoints: which architecture, which options, and what is refused."""

import dataclasses
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from fdl import interop, ops
from fdl.errors import InputError
from fdl.interop.resnet_form import same
from fdl.models import MLP, MLPConfig, ResNet, ResNetConfig
from fdl.pure import pure

RNG = np.random.default_rng(0)


def on_host(key, shape, dtype):
    """Draw normal numbers without compiling anything."""
    del key
    return jnp.asarray(RNG.normal(size=shape), dtype)


def make(config):
    config = dataclasses.replace(config, kernel_init=on_host, output_init=on_host)
    return ResNet(config, rngs=nnx.Rngs(0))


TINY = ResNetConfig.tiny()
GROUP = {"norm": "group", "groups": 2, "standardise": True}
NETWORKS = {
    "v1": TINY,
    "v1 bottleneck": ResNetConfig.tiny(block="bottleneck", widths=(8, 16), stem_width=8),
    "paper's stride": ResNetConfig.tiny(block="bottleneck", stride_first=True),
    "stride in the first stage": ResNetConfig.tiny(strides=(2, 2), activation=ops.silu),
    "v2": ResNetConfig.tiny(preactivation=True, momentum=0.5),
    "cifar": ResNetConfig.cifar(8, zero_init=True, axis_name=None),
    "plain": ResNetConfig.tiny(skip=False, stem="cifar"),
    "groups": ResNetConfig.tiny(**GROUP, padding="SAME", stem_pool="same"),
    "v2 groups": ResNetConfig.tiny(**GROUP, preactivation=True, project_first=True),
}


@pytest.mark.parametrize("names", ["huggingface", "timm", None])
@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_comes_back_as_it_was(network, names, tmp_path):
    model = make(NETWORKS[network])
    interop.save_pretrained(model, tmp_path, names=names)
    back = interop.load_pretrained(tmp_path)
    assert same(back.config, model.config)
    before, after = (nnx.to_pure_dict(nnx.state(m)) for m in (model, back))
    jax.tree.map(np.testing.assert_array_equal, before, after)


@pytest.mark.parametrize(
    ("network", "names", "told"),
    [
        (TINY, None, {"model_type": "resnet", "layer_type": "basic", "depths": [1, 1]}),
        (TINY, "timm", {"fdl": ...}),  # timm's plain stem has 64 channels
        (ResNetConfig.tiny(stem_width=64), "timm", {"architecture": "resnet18"}),
        (ResNetConfig.resnet50(7), "timm", {"architecture": "resnet50", "num_classes": 7}),
        (ResNetConfig.resnet50_v2(7, project_first=True), "timm", {"architecture": "resnetv2_50"}),
        (ResNetConfig.bit50(7), "timm", {"architecture": "resnetv2_50x1_bit"}),
        (ResNetConfig.bit50(7), None, {"model_type": "bit", "layer_type": "preactivation"}),
        (ResNetConfig.cifar(20), None, {"fdl": ...}),
    ],
)
def test_the_config_is_one_that_the_reference_reads_if_it_has_the_network(network, names, told):
    from fdl.interop.pretrained import _read_own, _written

    model = nnx.eval_shape(lambda: ResNet(network, rngs=nnx.Rngs(0)))
    form, written = _written(model, names)
    for key, value in told.items():
        assert key in written and value in (..., written[key])
    back = _read_own(written["fdl"])[1] if "fdl" in written else form.read(written)
    assert same(back, network)


def folder_of(path, config, tensors=None):
    (path / "config.json").write_text(json.dumps(config) if not isinstance(config, str) else config)
    save_file(tensors or {"w": np.ones(3, "f")}, path / "model.safetensors")
    return path


HF = {"model_type": "resnet"}
TIMM = {"architecture": "resnet18"}
WRONG = {
    "no object": ("[1]", "must hold a JSON object"),
    "half an object": ('{"model_type": ', "has no proper JSON"),
    "a key twice": ('{"a": 1, "a": 2}', "a key occurs twice"),
    "no architecture": ({}, "names no architecture"),
    "an unknown one": ({"model_type": "llama"}, "names no architecture .* 'llama'"),
    "one that is no word": ({"model_type": ["resnet"]}, "names no architecture"),
    "a negative width": (HF | {"hidden_sizes": [-4]}, "hidden_sizes must be a list of integers"),
    "a huge width": (HF | {"embedding_size": 1 << 40}, "embedding_size must be an integer in"),
    "endless stages": (HF | {"depths": [1] * 5000}, "depths must be a list of integers"),
    "endless layers": (HF | {"depths": [10**6] * 4}, "asks for 4000000 layers"),
    "more layers than tensors": (HF | {"depths": [1, 1, 1, 1]}, "asks for 4 layers"),
    "fewer depths than widths": (HF | {"depths": [1]}, "must be >= 1 for each stage"),
    "words for numbers": (HF | {"depths": ["3"]}, "depths must be a list of integers"),
    "a number for a list": (HF | {"depths": 3}, "depths must be a list of integers"),
    "a number for a truth value": (
        HF | {"downsample_in_first_stage": 1},
        "downsample_in_first_stage must be true or false, got 1",
    ),
    "an unknown unit": (HF | {"hidden_act": "os.system"}, "hidden_act must be one of relu"),
    "an unknown block": (HF | {"layer_type": "wide"}, "layer_type must be one of basic"),
    "labels beyond number": (HF | {"num_labels": -1}, "num_labels must be an integer"),
    "dilation": (
        {"model_type": "bit", "layer_type": "bottleneck", "output_stride": 8},
        "asks for dilated bottlenecks",
    ),
    "dropped paths": ({"model_type": "bit", "drop_path_rate": 0.1}, "drop_path_rate must be 0"),
    "groups that do not divide": ({"model_type": "bit", "num_groups": 7}, "must divide all widths"),
    "timm's other options": (TIMM | {"model_args": {"avg_down": True}}, "unknown key avg_down"),
    "no options": (TIMM | {"model_args": 3}, "model_args must be an object"),
    "ours without a config": ({"fdl": 3}, "fdl must be an object"),
    "ours of an unknown kind": ({"fdl": {"kind": "X", "config": {}}}, "names no kind"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_hostile_config_is_refused_in_one_line(case, tmp_path):
    config, told = WRONG[case]
    start = time.perf_counter()
    with pytest.raises(InputError, match=told) as raised:
        interop.load_pretrained(folder_of(tmp_path, config))
    assert time.perf_counter() - start < 2
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"depths": "3"}, "depths must be a list"),
        ({"skip": 1}, "skip must be true or false"),
        ({"stem": "wide"}, "stem must be one of"),
        ({"momentum": "0.9"}, "momentum must be a number"),
        ({"command": "rm"}, "ResNetConfig has the unknown key command"),
        ({"widths": None}, "ResNetConfig lacks widths"),
    ],
)
def test_our_own_config_is_checked_as_well(change, told, tmp_path):
    interop.save_pretrained(make(ResNetConfig.tiny(stem="cifar")), tmp_path)
    given = json.loads((tmp_path / "config.json").read_text())
    given["fdl"]["config"] |= change
    if change.get("widths", ...) is None:
        del given["fdl"]["config"]["widths"]
    (tmp_path / "config.json").write_text(json.dumps(given))
    with pytest.raises(InputError, match=told):
        interop.load_pretrained(tmp_path)


def test_a_config_of_other_sizes_than_the_file_is_refused(tmp_path):
    interop.save_pretrained(make(TINY), tmp_path)
    given = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(given | {"hidden_sizes": [4, 1 << 20]}))
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"\d of wrong shape: classifier.1.weight \(3, 8\) must"):
        interop.load_pretrained(tmp_path)
    assert time.perf_counter() - start < 10  # and not the time and memory of a terabyte


def test_a_missing_config_and_a_missing_folder_are_told(tmp_path):
    with pytest.raises(InputError, match=r"config\.json is missing"):
        interop.load_pretrained(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        interop.load_pretrained(tmp_path / "nowhere")


def test_a_bare_backbone_is_read_with_the_head_kept(tmp_path):
    """What `ResNetModel.save_pretrained` writes: no prefix and no classifier."""
    model = make(TINY)
    interop.save_pretrained(model, tmp_path / "whole")
    tensors = load_file(tmp_path / "whole" / "model.safetensors")
    bare = {n.removeprefix("resnet."): t for n, t in tensors.items() if "classifier" not in n}
    save_file(bare, tmp_path / "bare.safetensors")
    names = interop.resnet_names.HUGGING_FACE
    with pytest.raises(InputError, match="2 missing: classifier.1.bias, classifier.1.weight"):
        interop.load_weights(make(TINY), tmp_path / "bare.safetensors", names=names)
    new = make(TINY)
    back = interop.load_weights(new, tmp_path / "bare.safetensors", names=names, keep=r"output\..*")
    np.testing.assert_array_equal(back.stem.conv.kernel[...], model.stem.conv.kernel[...])
    np.testing.assert_array_equal(back.output.kernel[...], new.output.kernel[...])


def test_the_counts_of_batches_may_be_missing(tmp_path):
    model = make(TINY)
    interop.save_pretrained(model, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    counts = [name for name in tensors if name.endswith("num_batches_tracked")]
    assert len(counts) == 6 and all(tensors[name].dtype == np.int64 for name in counts)
    save_file({n: t for n, t in tensors.items() if n not in counts}, tmp_path / "model.safetensors")
    back = interop.load_pretrained(tmp_path)
    np.testing.assert_array_equal(back.stem.norm.var[...], model.stem.norm.var[...])


@pytest.mark.parametrize("half", [jnp.bfloat16, jnp.float16])
def test_a_whole_network_goes_through_half_precision(half, tmp_path):
    model = make(TINY)
    model.stem.norm.var[...] = jnp.asarray([0.1, 0.7, 1.3, 2.9], jnp.float32)
    interop.save_pretrained(model, tmp_path, dtype=half)
    tensors = load_file(tmp_path / "model.safetensors")
    counts = {n for n in tensors if n.endswith("num_batches_tracked")}
    assert {tensors[n].dtype for n in tensors.keys() - counts} == {np.dtype(half)}
    assert {tensors[n].dtype for n in counts} == {np.dtype(np.int64)}
    back = interop.load_pretrained(tmp_path, dtype=jnp.float32)
    before, after = (nnx.to_pure_dict(nnx.state(m)) for m in (model, back))
    relative = float(jnp.finfo(half).eps) / 2  # rounded to the nearest
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(b, a, rtol=relative, atol=1e-7), before, after
    )
    assert {a.dtype for a in jax.tree.leaves(after)} == {np.dtype(np.float32)}
    assert not np.array_equal(after["stem"]["norm"]["var"], before["stem"]["norm"]["var"])


def test_the_configuration_can_be_changed_on_the_way_in(tmp_path):
    interop.save_pretrained(make(TINY), tmp_path)
    back = interop.load_pretrained(tmp_path, axis_name=None, momentum=0.5)
    assert back.stem.norm.momentum == 0.5 and back.stem.norm.axis_name is None


def test_a_unit_without_a_name_and_a_module_without_a_table_are_refused(tmp_path):
    with pytest.raises(InputError, match="the unit must be one of relu"):
        interop.save_pretrained(make(ResNetConfig.tiny(activation=jnp.sin)), tmp_path)
    with pytest.raises(InputError, match=r"no table of names fits a MLP"):
        interop.save_pretrained(MLP(MLPConfig.tiny(), rngs=nnx.Rngs(0)), tmp_path)
    with pytest.raises(InputError, match=r"save_pretrained\(names='torch'\): no table"):
        interop.save_pretrained(make(TINY), tmp_path, names="torch")


def test_values_go_back_into_their_module():
    model = make(TINY)
    _, params, extra = pure(model)
    moved = jax.tree.map(lambda a: a + 1, params)
    back = interop.filled(model, moved, extra)
    jax.tree.map(np.testing.assert_array_equal, pure(back).params, moved)
    jax.tree.map(np.testing.assert_array_equal, pure(model).params, params)
    with pytest.raises(ValueError, match=r"output.bias has shape \(2,\), the module \(3,\)"):
        interop.filled(model, {"output": {"bias": jnp.ones(2)}})
    with pytest.raises(ValueError, match="gamma has shape .* nothing of this name"):
        interop.filled(model, {"gamma": jnp.ones(2)})
