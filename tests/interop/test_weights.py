"""Arrays in and out of a module: tied weights, fused tensors, half precision."""

import dataclasses
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from fdl.errors import InputError
from fdl.interop import Layout, Names, Row, Tied, load_weights, rnn_names, save_weights
from fdl.interop.table import TRANSPOSED
from fdl.models import RNNLM, RNNLMConfig

RNG = np.random.default_rng(0)
TIED = RNNLMConfig(7, 4, 4, tied=True)
# what PyTorch's example of a word language model saves, whose options are --tied and untied
WORD_MODEL = Names(
    rows=(
        Row("embedding", "encoder.weight"),
        Row("kernel", "decoder.weight", TRANSPOSED),
        Row("bias", "decoder.bias"),
        *(
            row._replace(ours=f"rnn.{row.ours}")
            for row in rnn_names(hidden_bias=False, prefix="rnn.").rows
        ),
    ),
    tied=(Tied("embedding", "decoder.weight"),),
)


def language_model(seed=0, **changes):
    return RNNLM(dataclasses.replace(TIED, **changes), rngs=nnx.Rngs(seed))


def arrays(module):
    return nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.RngState)))


def with_copy(folder, change=lambda copy: copy):
    """Put the second copy into a file that was saved without it."""
    tensors = load_file(folder / "model.safetensors")
    copy = change(tensors["encoder.weight"].copy())
    save_file(tensors | {"decoder.weight": copy}, folder / "model.safetensors")


def test_a_tied_tensor_is_saved_once_and_read_back(tmp_path):
    model = language_model()
    save_weights(model, tmp_path / "a", names=WORD_MODEL)
    assert "decoder.weight" not in load_file(tmp_path / "a/model.safetensors")
    back = load_weights(language_model(1), tmp_path / "a", names=WORD_MODEL)
    jax.tree.map(np.testing.assert_array_equal, arrays(back), arrays(model))


def test_a_second_copy_of_a_tied_tensor_may_be_there(tmp_path):
    model = language_model()
    save_weights(model, tmp_path / "a", names=WORD_MODEL)
    with_copy(tmp_path / "a")
    back = load_weights(language_model(1), tmp_path / "a", names=WORD_MODEL)
    jax.tree.map(np.testing.assert_array_equal, arrays(back), arrays(model))
    save_weights(back, tmp_path / "b", names=WORD_MODEL)
    assert "decoder.weight" not in load_file(tmp_path / "b/model.safetensors")


def differ_by_one(copy):
    copy[-1, -1] += 1
    return copy


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (differ_by_one, "decoder.weight must have the values of encoder.weight"),
        (lambda copy: copy * np.nan, "decoder.weight must have the values of encoder.weight"),
        (lambda copy: copy.T.copy(), r"1 of wrong shape: decoder.weight \(4, 7\) must be \(7, 4\)"),
        (lambda copy: copy.astype("i4"), "decoder.weight must be of type F64, F32, F16, BF16"),
    ],
)
def test_two_different_copies_of_a_tied_tensor_are_refused(change, told, tmp_path):
    save_weights(language_model(), tmp_path / "a", names=WORD_MODEL)
    with_copy(tmp_path / "a", change)
    with pytest.raises(InputError, match=told) as raised:
        load_weights(language_model(1), tmp_path / "a", names=WORD_MODEL)
    assert "\n" not in str(raised.value)


def test_the_first_copy_of_a_tied_tensor_may_not_be_missing(tmp_path):
    save_weights(language_model(), tmp_path / "a", names=WORD_MODEL)
    tensors = load_file(tmp_path / "a/model.safetensors")
    tensors["decoder.weight"] = tensors.pop("encoder.weight")
    save_file(tensors, tmp_path / "a/model.safetensors")
    with pytest.raises(InputError, match="1 missing: encoder.weight"):
        load_weights(language_model(1), tmp_path / "a", names=WORD_MODEL)


def test_one_table_serves_the_network_with_an_output_kernel_of_its_own(tmp_path):
    model = language_model(tied=False)
    save_weights(model, tmp_path / "a", names=WORD_MODEL)
    written = load_file(tmp_path / "a/model.safetensors")
    np.testing.assert_array_equal(written["decoder.weight"], model.kernel[...].T)
    back = load_weights(language_model(1, tied=False), tmp_path / "a", names=WORD_MODEL)
    jax.tree.map(np.testing.assert_array_equal, arrays(back), arrays(model))
    with pytest.raises(InputError, match="decoder.weight must have the values of encoder.weight"):
        load_weights(language_model(1), tmp_path / "a", names=WORD_MODEL)


def test_both_copies_of_a_path_that_is_kept_are_passed_over(tmp_path):
    save_weights(language_model(), tmp_path / "a", names=WORD_MODEL)
    with_copy(tmp_path / "a", differ_by_one)
    new = language_model(1)
    back = load_weights(new, tmp_path / "a", names=WORD_MODEL, keep="embedding")
    np.testing.assert_array_equal(back.embedding[...], new.embedding[...])


def test_a_bare_backbone_lacks_the_prefix_of_a_second_name_as_well(tmp_path):
    names = Names(
        (Row("kernel", "net.w"), Row("bias", "net.b")), (), "net.", (Tied("bias", "net.c"),)
    )
    bias = np.arange(3, dtype="f")
    save_file({"w": np.ones((2, 3), "f"), "b": bias, "c": bias}, tmp_path / "a")
    back = load_weights(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), tmp_path / "a", names=names)
    np.testing.assert_array_equal(back.bias[...], bias)
    save_file({"w": np.ones((2, 3), "f"), "b": bias, "c": bias + 1}, tmp_path / "a")
    with pytest.raises(InputError, match="c must have the values of b"):
        load_weights(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), tmp_path / "a", names=names)


class Attention(nnx.Module):
    """The projections of queries, keys and values in one kernel, (layers, in, 3, out)."""

    def __init__(self):
        self.kernel = nnx.Param(jnp.asarray(RNG.normal(size=(2, 4, 3, 6)), jnp.float32))


def test_one_array_can_hold_the_layers_and_the_projections_of_a_reference(tmp_path):
    """As BERT has three kernels a layer, (out, in), and ours one for all layers."""
    theirs = tuple(f"{i}.{part}.weight" for i in range(2) for part in ("query", "key", "value"))
    stacked = Layout(
        lambda *parts: np.stack(parts).reshape(2, 3, *parts[0].shape).transpose(0, 3, 1, 2),
        lambda x: tuple(x[i, :, part].T for i in range(2) for part in range(3)),
    )
    names = Names((Row("kernel", theirs, stacked),))
    model = Attention()
    save_weights(model, tmp_path / "a", names=names)
    written = load_file(tmp_path / "a/model.safetensors")
    assert sorted(written) == sorted(theirs)
    np.testing.assert_array_equal(written["1.key.weight"], model.kernel[...][1, :, 1].T)
    back = load_weights(Attention(), tmp_path / "a", names=names)
    np.testing.assert_array_equal(back.kernel[...], model.kernel[...])


def test_a_fused_tensor_can_be_cut_by_its_layout(tmp_path):
    """As GPT-2's c_attn is (in, 3 out), queries first, and not transposed."""
    fused = Layout(
        lambda x: np.stack([x.reshape(2, 4, 3, 6)[i] for i in range(2)]),
        lambda x: x.reshape(8, 18),
    )
    names = Names((Row("kernel", "c_attn.weight", fused),))
    theirs = RNG.normal(size=(8, 18)).astype("f")
    save_file({"c_attn.weight": theirs}, tmp_path / "a")
    back = load_weights(Attention(), tmp_path / "a", names=names)
    np.testing.assert_array_equal(back.kernel[...][1, 2, 1], theirs[4 + 2, 6:12])


def test_half_precision_on_the_disk_is_that_of_the_formats(tmp_path):
    """bfloat16 is the upper half of a float32; float16 is what the struct module packs."""
    values = np.array([1.5, -2.0, 0.375], "f")  # exact in both
    upper = [struct.pack("<f", v)[2:] for v in values]
    packed = [struct.pack("<e", v) for v in values]
    for half, code, expected in ((jnp.bfloat16, "BF16", upper), (jnp.float16, "F16", packed)):
        module = nnx.Linear(1, 3, rngs=nnx.Rngs(0))
        module.bias[...] = jnp.asarray(values)
        folder = tmp_path / code
        names = Names((Row("bias", "b"), Row("kernel", "k", TRANSPOSED)))
        save_weights(module, folder, names=names, dtype=half)
        raw = (folder / "model.safetensors").read_bytes()
        assert f'"b":{{"dtype":"{code}","shape":[3]'.encode() in raw
        assert b"".join(expected) in raw
        wide = load_weights(module, folder, names=names, dtype=jnp.float32)
        np.testing.assert_array_equal(wide.bias[...], values)
