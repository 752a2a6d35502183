"""Recurrent networks against PyTorch's, Flax's and themselves in another arrangement."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from fdl import initializers, ops
from fdl.errors import InputError
from fdl.interop import load_weights, rnn_names
from fdl.models import RNN, RNNConfig, elman, gru, lstm
from fdl.pure import in_precision, pure

CELLS = {"rnn_tanh": elman(), "rnn_relu": elman(jax.nn.relu), "lstm": lstm(), "gru": gru()}
PLAIN = [gru(), gru(reset_after=False), elman()]
IDS = ["lstm", "gru", "gru before", "elman"]
RNG = np.random.default_rng(0)


class Case:
    """One network of a fixture: arrays of the file under `name`, and the weights."""

    def __init__(self, folder, name):
        config = json.loads((folder / "config.json").read_text())
        file = next(folder.glob("*.safetensors"))
        arrays = np.load(next(folder.glob("*.npz")))
        self.folder, self.name = folder, name
        self.tensors = {
            key.removeprefix(f"{name}."): a
            for key, a in safetensors.numpy.load_file(file).items()
            if key.startswith(f"{name}.")
        }
        self.arrays = {k[len(name) + 1 :]: arrays[k] for k in arrays if k[: len(name)] == name}
        self.x, self.lengths = arrays["x"], arrays["lengths"]
        self.sizes = config.get("config", config)

    def model(self, tmp_path, dtype):
        path = tmp_path / "model.safetensors"
        safetensors.numpy.save_file(self.tensors, path)
        gates_h, features = self.tensors["weight_ih_l0"].shape
        units = self.tensors["weight_hh_l0"].shape[1]
        kind = {1: self.plain_cell(), 3: gru(), 4: lstm()}[gates_h // units]
        config = RNNConfig.torch(
            features,
            units,
            len({key.split("_l")[1].split("_")[0] for key in self.tensors}),
            cell=kind,
            bidirectional="weight_ih_l0_reverse" in self.tensors,
        )
        empty = nnx.eval_shape(lambda: RNN(config, rngs=nnx.Rngs(0)))
        return load_weights(empty, path, names=rnn_names(), dtype=dtype)

    def plain_cell(self):
        return elman(jax.nn.relu if "relu" in self.name else jnp.tanh)


def names_in(folder):
    file = next(folder.glob("*.safetensors"))
    return sorted({key.split(".")[0] for key in safetensors.numpy.load_file(file)})


def tolerance(dtype):
    return {"rtol": 1e-9, "atol": 1e-12} if dtype == np.float64 else {"rtol": 2e-4, "atol": 1e-5}


def torch_states(state):
    """PyTorch's (layers * directions, batch, units) of ours."""
    return jax.tree.map(lambda a: np.asarray(a).swapaxes(0, 1), state)


RNN_FIXTURE = ["bigru", "bilstm", "birnn", "gru", "lstm", "rnn_relu", "rnn_tanh"]
QUICK = [("bilstm", np.float64), ("gru", np.float32), ("birnn", np.float64)]
VIS_FIXTURE = ["gru", "gru_bi", "lstm", "lstm_bi", "rnn_tanh", "rnn_tanh_bi"]


def test_all_networks_of_the_fixtures_are_compared(fixture_dir):
    assert names_in(fixture_dir("rnn")) == RNN_FIXTURE
    assert names_in(fixture_dir("rnn_vis")) == VIS_FIXTURE


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(n, d, marks=() if (n, d) in QUICK else pytest.mark.slow)
        for n in RNN_FIXTURE
        for d in (np.float64, np.float32)
    ],
)
def test_values_states_and_gradients_are_those_of_pytorch(name, dtype, fixture_dir, tmp_path):
    case = Case(fixture_dir("rnn"), name)
    apply, params, extra = pure(case.model(tmp_path, dtype))
    golden = {key: np.asarray(a, dtype) for key, a in case.arrays.items()}
    x = jnp.asarray(case.x, dtype)
    h0 = jnp.asarray(golden["h0"].swapaxes(0, 1))
    has_c = "c0" in golden
    state = ops.LSTMCarry(h0, jnp.asarray(golden["c0"].swapaxes(0, 1))) if has_c else h0

    @jax.jit
    def run(params):
        def loss(params):
            (y, last), _ = apply(params, extra, x, state)
            return (y * golden["loss_weight"]).sum(), (y, last)

        packed = apply(params, extra, x, state, lengths=jnp.asarray(case.lengths))[0]
        return jax.grad(loss, has_aux=True)(params), packed

    with jax.default_matmul_precision("highest"):
        (grads, (y, last)), (y_packed, last_packed) = run(params)
    close = functools.partial(np.testing.assert_allclose, **tolerance(dtype))
    close(y, golden["y"])
    close(y_packed, golden["y_varlen"])
    for ending, states in (("", last), ("_varlen", last_packed)):
        theirs = [golden["h_n" + ending]] + ([golden["c_n" + ending]] if has_c else [])
        for one, other in zip(jax.tree.leaves(torch_states(states)), theirs, strict=True):
            close(one, other)
    first = grads["layers"][0]["forward"]
    ours = {
        "grad_weight_ih_l0": first["kernel_in"].T,
        "grad_weight_hh_l0": first["kernel_hidden"].T,
        "grad_bias_hh_l0": first["bias_hidden"],
        "grad_bias_ih_l0": first["bias"],
    }
    stored = [key for key in golden if key.startswith("grad_")]
    assert len(stored) >= 3
    for key in stored:
        close(ours[key], golden[key])


@pytest.mark.parametrize(
    "name",
    [n if n == "gru_bi" else pytest.param(n, marks=pytest.mark.slow) for n in VIS_FIXTURE],
)
def test_packed_sequences_and_input_gradients_are_those_of_pytorch(name, fixture_dir, tmp_path):
    case = Case(fixture_dir("rnn_vis"), name)
    apply, params, extra = pure(case.model(tmp_path, np.float64))
    x = jnp.asarray(case.x, np.float64)

    @jax.jit
    def run(params, x):
        (y, state), _ = apply(params, extra, x)
        packed = apply(params, extra, x, lengths=jnp.asarray(case.lengths))[0][0]
        gradient = jax.grad(lambda x: (apply(params, extra, x)[0][0] ** 2).mean())(x)
        return y, state, packed, gradient

    y, state, packed, gradient = run(params, x)
    close = functools.partial(np.testing.assert_allclose, **tolerance(np.float64))
    close(y, case.arrays["y"])
    close(packed, case.arrays["y_packed"])
    theirs = [case.arrays[key] for key in ("h", "c") if key in case.arrays]
    for one, other in zip(jax.tree.leaves(torch_states(state)), theirs, strict=True):
        close(one, other)
    close(gradient, case.arrays["grad_x"])


def model_of(**changes):
    return RNN(RNNConfig.tiny(**changes), rngs=nnx.Rngs(0))


def test_both_directions_are_two_networks_side_by_side():
    both = model_of(layers=1, bidirectional=True)
    one = model_of(layers=1)
    x = RNG.normal(size=(2, 5, 3))
    y, state = both(x)
    for direction, turn, units in (("forward", 1, slice(4)), ("backward", -1, slice(4, None))):
        cell = getattr(both.layers[0], direction)
        for name in ("kernel_in", "kernel_hidden", "bias"):
            getattr(one.layers[0].forward, name)[...] = getattr(cell, name)[...]
        alone, last = one(x[:, ::turn])
        np.testing.assert_allclose(y[..., units], alone[:, ::turn], rtol=1e-6)
        np.testing.assert_allclose(state.h[:, int(turn < 0)], last.h[:, 0], rtol=1e-6)


def test_it_is_flax_s_optimized_lstm_with_the_same_weights():
    theirs = nnx.OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(1))
    ours = model_of(layers=1)
    cell = ours.layers[0].forward
    cell.kernel_in[...] = theirs.dense_i.kernel[...]
    cell.kernel_hidden[...] = theirs.dense_h.kernel[...]
    cell.bias[...] = jnp.asarray(RNG.normal(size=16), jnp.float32)
    theirs.dense_h.bias[...] = cell.bias[...]
    x = jnp.asarray(RNG.normal(size=(2, 6, 3)), jnp.float32)
    (c, h), y = nnx.RNN(theirs, return_carry=True, rngs=nnx.Rngs(0))(x)
    out, state = ours(x)
    np.testing.assert_allclose(out, y, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(state.h[:, 0], h, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(state.c[:, 0], c, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    "cell",
    [lstm(), *(pytest.param(c, marks=pytest.mark.slow) for c in PLAIN)],
    ids=IDS,
)
def test_steps_and_pieces_end_where_the_whole_sequence_does(cell):
    model = model_of(cell=cell)
    x = jnp.asarray(RNG.normal(size=(2, 5, 3)))
    y, state = model(x)
    first, middle = model(x[:, :2])
    second, last = model(x[:, 2:], middle)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), y, rtol=1e-6)
    carried = model.init_state(2)
    for t in range(5):
        out, carried = model.step(x[:, t], carried)
        np.testing.assert_allclose(out, y[:, t], rtol=1e-5, atol=1e-7)
    for end in (last, carried):
        for a, b in zip(jax.tree.leaves(end), jax.tree.leaves(state), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_each_gate_begins_with_an_orthogonal_kernel_and_the_forget_gate_open():
    cell = RNN(RNNConfig(20, 32), rngs=nnx.Rngs(0)).layers[0].forward
    for gate in np.split(np.asarray(cell.kernel_hidden[...]), 4, axis=1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(32), atol=1e-5)
    limit = np.sqrt(6 / (20 + 32))  # Glorot's, with the fans of one gate
    assert 0.95 * limit < np.abs(cell.kernel_in[...]).max() <= limit
    assert cell.bias[...].tolist() == [0.0] * 32 + [1.0] * 32 + [0.0] * 64
    assert cell.bias_hidden is None


def test_presets_begin_as_their_sources_say():
    irnn = RNN(RNNConfig.irnn(2, 5), rngs=nnx.Rngs(0)).layers[0].forward
    np.testing.assert_array_equal(irnn.kernel_hidden[...], np.eye(5))
    assert 0 < np.abs(irnn.kernel_in[...]).max() < 0.005
    torch = RNN(RNNConfig.torch(50, 64, 2, bidirectional=True), rngs=nnx.Rngs(0))
    for leaf in jax.tree.leaves(pure(torch).params):
        assert 0.9 / 8 < np.abs(leaf).max() <= 1 / 8
    cell = torch.layers[1].backward
    assert cell.kernel_in[...].shape == (128, 256)
    assert cell.bias_hidden[...].shape == (256,)


def test_a_beginning_from_an_output_leaves_the_memory_of_an_lstm_empty():
    h = np.arange(3.0)
    carry = lstm().carry(h)
    np.testing.assert_array_equal(carry.h, h)
    np.testing.assert_array_equal(carry.c, 0)
    np.testing.assert_array_equal(gru().carry(h), h)


def test_a_gru_always_has_the_bias_of_its_candidate():
    after = model_of(cell=gru()).layers[0].forward
    assert after.bias_hidden[...].shape == (4,)
    assert model_of(cell=gru(reset_after=False)).layers[0].forward.bias_hidden is None


def test_dropout_stands_between_layers_and_depends_on_each_example_s_key_only():
    apply, params, extra = pure(model_of(dropout=0.5))
    x = jnp.asarray(RNG.normal(size=(4, 5, 3)))
    keys = jax.vmap(jax.random.key)(np.arange(4))

    @jax.jit
    def run(x, keys):
        dropped, _ = apply(params, extra, x, key=keys, train=True)
        return dropped[0], apply(params, extra, x)[0][0]

    dropped, whole = run(x, keys)
    parts = [run(x[i : i + 2], keys[i : i + 2])[0] for i in (0, 2)]
    np.testing.assert_allclose(jnp.concatenate(parts), dropped, rtol=1e-6)
    np.testing.assert_allclose(whole, model_of()(x)[0], rtol=1e-5)
    assert np.abs(dropped - whole).max() > 0.01
    lowest, _ = pure(model_of(layers=1, dropout=0.5)).apply(
        pure(model_of(layers=1)).params, extra, x, key=keys, train=True
    )
    np.testing.assert_allclose(lowest[0], model_of(layers=1)(x)[0], rtol=1e-5)
    with pytest.raises(ValueError, match="random stream"):
        apply(params, extra, x, train=True)


def test_in_half_precision_the_state_stays_in_single():
    apply, params, extra = pure(model_of(dtype=jnp.bfloat16))
    x = jnp.asarray(RNG.normal(size=(2, 6, 3)), jnp.float32)
    (y, state), _ = apply(params, extra, x)
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype(jnp.float32)}
    whole = pure(model_of())
    (exact, _), _ = whole.apply(params, extra, x)
    np.testing.assert_allclose(y.astype(jnp.float32), exact, atol=0.02)
    lowered = in_precision(whole.apply, jnp.bfloat16)
    (y, state), _ = lowered(params, extra, x)
    np.testing.assert_allclose(y, exact, atol=0.02)
    np.testing.assert_allclose(lowered(params, extra, x, state)[0][1].c.shape, (2, 2, 4))


@pytest.mark.slow
@pytest.mark.parametrize("cell", [lstm(), gru()], ids=IDS[:2])
def test_members_of_an_ensemble_run_side_by_side(cell):
    apply, params, extra = pure(model_of(cell=cell, layers=1))
    other = jax.tree.map(lambda a: a + 0.1, params)
    x = jnp.asarray(RNG.normal(size=(2, 6, 3)))
    both = jax.tree.map(lambda *a: jnp.stack(a), params, other)

    def gradient(params):
        return jax.grad(lambda p: (apply(p, extra, x)[0][0] ** 2).sum())(params)

    mapped = jax.jit(jax.vmap(gradient))(both)
    for i, member in enumerate((params, other)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6),  # noqa: B023
            mapped,
            gradient(member),
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"units": 0}, "units"),
        ({"layers": 0}, "layers"),
        ({"dropout": 1.0}, "dropout"),
        ({"chunk": 0}, "chunk"),
    ],
)
def test_options_out_of_range_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        RNNConfig.tiny(**changes)


def test_what_does_not_fit_is_refused_in_one_line():
    model = model_of()
    with pytest.raises(ValueError, match=r"RNN needs an input of shape \(batch, time, 3\)"):
        model(jnp.zeros((2, 5, 4)))
    with pytest.raises(ValueError, match=r"RNN\(state="):
        model(jnp.zeros((2, 5, 3)), model.init_state(3))
    with pytest.raises(ValueError, match="bidirectional"):
        model_of(bidirectional=True).step(jnp.zeros((2, 3)), None)
    with pytest.raises(ValueError, match="bound"):
        initializers.symmetric_uniform(-1.0)
