"""Recurrent networks to files in PyTorch's names and back."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from fdl.errors import InputError
from fdl.interop import load_pretrained, save_pretrained
from fdl.models import RNN, RNNConfig, elman, gru, lstm
from fdl.pure import pure

CONFIGS = {
    "lstm": RNNConfig.torch(3, 4, 2, cell=lstm(), bidirectional=True),
    "gru": RNNConfig.torch(3, 4, cell=gru()),
    "relu": RNNConfig.torch(3, 4, 2, cell=elman(jax.nn.relu)),
    "one bias": RNNConfig(3, 4, 2, bidirectional=True),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_round_trip_is_exact(kind, tmp_path):
    model = RNN(CONFIGS[kind], rngs=nnx.Rngs(0))
    save_pretrained(model, tmp_path / "net")
    again = load_pretrained(tmp_path / "net")
    one, other = pure(model).params, pure(again).params
    jax.tree.map(np.testing.assert_array_equal, one, other)
    x = jnp.ones((2, 5, 3))
    np.testing.assert_array_equal(again(x)[0], model(x)[0])


def test_the_file_has_the_names_and_layouts_of_pytorch(tmp_path):
    model = RNN(CONFIGS["lstm"], rngs=nnx.Rngs(0))
    save_pretrained(model, tmp_path / "net")
    tensors = safetensors.numpy.load_file(tmp_path / "net/model.safetensors")
    assert {name: a.shape for name, a in tensors.items()} == {
        f"{kind}_l{layer}{end}": shape
        for layer, width in ((0, 3), (1, 8))
        for end in ("", "_reverse")
        for kind, shape in (
            ("weight_ih", (16, width)),
            ("weight_hh", (16, 4)),
            ("bias_ih", (16,)),
            ("bias_hh", (16,)),
        )
    }
    cell = model.layers[1].backward
    for name, ours in {
        "weight_ih": cell.kernel_in[...].T,
        "weight_hh": cell.kernel_hidden[...].T,
        "bias_ih": cell.bias[...],
        "bias_hh": cell.bias_hidden[...],
    }.items():
        np.testing.assert_array_equal(tensors[f"{name}_l1_reverse"], ours, err_msg=name)
    config = json.loads((tmp_path / "net/config.json").read_text())
    assert config["model_type"] == "torch.nn.LSTM" and config["bidirectional"] is True


def test_one_bias_is_the_sum_of_pytorch_s_two(tmp_path):
    save_pretrained(RNN(CONFIGS["lstm"], rngs=nnx.Rngs(0)), tmp_path / "net")
    config = tmp_path / "net/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"one_bias": True}))
    ours, theirs = load_pretrained(tmp_path / "net"), RNN(CONFIGS["lstm"], rngs=nnx.Rngs(0))
    assert ours.layers[0].forward.bias_hidden is None
    x = jnp.ones((2, 5, 3))
    np.testing.assert_allclose(ours(x)[0], theirs(x)[0], rtol=1e-5)


def test_networks_that_pytorch_does_not_have_are_refused(tmp_path):
    for cell in (gru(reset_after=False), elman(jnp.sin)):
        model = RNN(RNNConfig.torch(3, 4, cell=cell), rngs=nnx.Rngs(0))
        with pytest.raises(InputError, match="no table of names fits"):
            save_pretrained(model, tmp_path / "net")
    save_pretrained(RNN(CONFIGS["gru"], rngs=nnx.Rngs(0)), tmp_path / "net")
    path = tmp_path / "net/config.json"
    config = json.loads(path.read_text())
    for changes, message in (({"proj_size": 2}, "proj_size"), ({"bias": False}, "bias")):
        path.write_text(json.dumps(config | changes))
        with pytest.raises(InputError, match=message):
            load_pretrained(tmp_path / "net")
