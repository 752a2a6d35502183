"""Encoder and decoder against another implementation, and against themselves step by step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from fdl.errors import InputError
from fdl.generate import generate
from fdl.interop import Layout, Names, Row, load_weights, rnn_names
from fdl.interop.table import TRANSPOSED
from fdl.models import Seq2Seq, Seq2SeqConfig, additive, dot, elman, general, gru, lstm
from fdl.pure import pure

NAMES = Names(
    (
        Row("embedding", "emb.weight"),
        *(row._replace(ours=f"encoder.{row.ours}") for row in rnn_names(prefix="enc.").rows),
        Row("start.kernel", "init.weight", TRANSPOSED),
        Row("start.bias", "init.bias"),
        Row("scores.kernel_query", "Wq.weight", TRANSPOSED),
        Row("scores.kernel_key", "Wk.weight", TRANSPOSED),
        Row("scores.v", "v.weight", Layout(lambda x: x[0], lambda x: x[None])),
        Row("decoder.kernel_in", "dec.weight_ih", TRANSPOSED),
        Row("decoder.kernel_hidden", "dec.weight_hh", TRANSPOSED),
        Row("decoder.bias", "dec.bias_ih"),
        Row("decoder.bias_hidden", "dec.bias_hh"),
        Row("output.kernel", "out.weight", TRANSPOSED),
        Row("output.bias", "out.bias"),
    )
)
RNG = np.random.default_rng(0)
SOURCE = jnp.asarray(RNG.integers(1, 11, (3, 6)))
TARGET = jnp.asarray(np.concatenate([np.zeros((3, 1), int), RNG.integers(1, 11, (3, 4))], 1))
LENGTHS = jnp.array([6, 2, 4])


@pytest.fixture
def reference(fixture_dir):
    """The folder's arrays, and how to make its network."""
    folder = fixture_dir("seq2seq")
    golden = dict(np.load(folder / "golden.npz"))
    sizes = {
        k: a.shape for k, a in safetensors.numpy.load_file(folder / "model.safetensors").items()
    }
    config = Seq2SeqConfig(
        *sizes["emb.weight"],
        sizes["enc.weight_hh_l0"][1],
        attention=additive(sizes["Wq.weight"][0]),
        hidden_bias=True,
        start_token=int(golden["tgt"][0, 0]),
    )

    def make(dtype):
        empty = nnx.eval_shape(lambda: Seq2Seq(config, rngs=nnx.Rngs(0)))
        return load_weights(empty, folder / "model.safetensors", names=NAMES, dtype=dtype)

    return golden, make


@pytest.mark.parametrize("dtype", [np.float64, pytest.param(np.float32, marks=pytest.mark.slow)])
def test_values_maps_and_gradients_are_those_of_the_reference(reference, dtype):
    golden, make = reference
    apply, params, extra = pure(make(dtype))
    source, target = jnp.asarray(golden["src"]), jnp.asarray(golden["tgt"])
    lengths = jnp.asarray(golden["src_lengths"])

    @jax.jit
    def run(params):
        def loss(params):
            (logits, maps), _ = apply(params, extra, source, target, lengths=lengths, maps=True)
            log_p = jax.nn.log_softmax(logits[:, :-1])
            right = jnp.take_along_axis(log_p, target[:, 1:, None], axis=-1)
            return -right.mean(), (logits, maps)

        encoded, _ = apply(params, extra, source, lengths=lengths, method="encode")
        return jax.value_and_grad(loss, has_aux=True)(params), encoded

    with jax.default_matmul_precision("highest"):
        ((loss, (logits, maps)), grads), encoded = run(params)
    wide = dtype == np.float64
    rtol, atol = (1e-9, 1e-12) if wide else (2e-4, 1e-5)
    ours = {
        "grad/emb.weight": grads["embedding"],
        "grad/enc.weight_hh_l0_reverse": grads["encoder"]["layers"][0]["backward"][
            "kernel_hidden"
        ].T,
        "grad/Wk.weight": grads["scores"]["kernel_key"].T,
        "grad/dec.weight_ih": grads["decoder"]["kernel_in"].T,
        "grad/v.weight": grads["scores"]["v"][None],
        "logits": logits,
        "attention": maps,
        "loss": loss,
        "enc_out": encoded.values,
        "init_state": encoded.carry,
    }
    compared = golden.keys() - {"src", "src_lengths", "tgt", "greedy"}
    assert compared == ours.keys()
    for name in compared:
        np.testing.assert_allclose(ours[name], golden[name], rtol=rtol, atol=atol, err_msg=name)


def test_greedy_tokens_are_those_of_the_reference(reference):
    golden, make = reference
    apply, params, extra = pure(make(np.float64))
    expected = golden["greedy"][:, 1:]  # behind the start token
    made = generate(
        apply,
        params,
        extra,
        golden["src"],
        lengths=golden["src_lengths"],
        max_new_tokens=expected.shape[1],
        temperature=0.0,
    )
    np.testing.assert_array_equal(made.tokens, expected)


KINDS = {
    "additive": {},
    "none": {"attention": None},
    "general, fed, lstm": {"attention": general(), "input_feeding": True, "cell": lstm()},
    "dot": {"attention": dot(), "bidirectional": False, "cell": lstm()},
    "none, fed": {"attention": None, "input_feeding": True, "cell": elman()},
    "gru before": {"cell": gru(reset_after=False), "layers": 2},
}


@pytest.mark.parametrize(
    "kind",
    [k if k == "additive" else pytest.param(k, marks=pytest.mark.slow) for k in KINDS],
)
def test_steps_are_the_parallel_form_whatever_fills_up_the_source(kind):
    apply, params, extra = pure(Seq2Seq(Seq2SeqConfig.tiny(**KINDS[kind]), rngs=nnx.Rngs(0)))
    params = jax.tree.map(lambda a: 3 * a, params)  # far from the linear range

    @jax.jit
    def parallel(source):
        return apply(params, extra, source, TARGET, lengths=LENGTHS, maps=True)[0]

    @jax.jit
    def steps(source):
        cache, _ = apply(params, extra, 3, 9, method="init_cache")
        logits, cache = apply(params, extra, source, cache, lengths=LENGTHS, method="prefill")[0]
        each = [logits]
        for t in range(1, TARGET.shape[1]):
            logits, new = apply(params, extra, TARGET[:, t], cache, method="decode_step")[0]
            assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, cache)
            each, cache = [*each, logits], new
        return jnp.stack(each, axis=1)

    real = jnp.arange(6)[None] < LENGTHS[:, None]
    logits, maps = parallel(SOURCE)
    np.testing.assert_allclose(steps(SOURCE), logits, rtol=1e-4, atol=1e-5)
    other, _ = parallel(jnp.where(real, SOURCE, 10 - SOURCE))
    np.testing.assert_allclose(other, logits, rtol=1e-6)
    sums = 0 if KINDS[kind].get("attention", 1) is None else 1
    np.testing.assert_allclose(maps.sum(-1), sums, rtol=1e-6)
    np.testing.assert_array_equal(jnp.where(real[:, None], 0, maps), 0)


def test_with_input_feeding_the_new_state_attends_and_its_output_is_fed_to_the_next_step():
    config = Seq2SeqConfig.tiny(
        attention=general(), input_feeding=True, bidirectional=False, cell=elman()
    )
    model = Seq2Seq(config, rngs=nnx.Rngs(0))
    apply, params, extra = pure(model)
    params = jax.tree.map(lambda a: 2 * a, params)
    (logits, maps), _ = jax.jit(partial(apply, maps=True))(
        params, extra, SOURCE, TARGET, lengths=LENGTHS
    )
    p, sources, targets = jax.device_get((params, SOURCE, TARGET))
    maps, logits, lengths = jax.device_get((maps, logits, LENGTHS))

    def step(cell, x, h):
        return np.tanh(x @ cell["kernel_in"] + h @ cell["kernel_hidden"] + cell["bias"])

    (layer,) = p["encoder"]["layers"].values()
    for row, length in enumerate(lengths):
        h, values = np.zeros(4), []
        for token in sources[row, :length]:
            h = step(layer["forward"], p["embedding"][token], h)
            values.append(h)
        s, fed = np.tanh(h @ p["start"]["kernel"] + p["start"]["bias"]), np.zeros(4)
        for t, token in enumerate(targets[row]):
            s = step(p["decoder"], np.append(p["embedding"][token], fed), s)
            e = np.exp([value @ p["scores"]["kernel"] @ s for value in values])
            a = e / e.sum()
            fed = np.tanh(np.append(a @ np.array(values), s) @ p["combine"]["kernel"])
            expected = fed @ p["output"]["kernel"] + p["output"]["bias"]
            np.testing.assert_allclose(maps[row, t, :length], a, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(logits[row, t], expected, rtol=1e-4, atol=1e-5)


def test_a_target_token_is_not_seen_by_the_logits_before_it():
    apply, params, extra = pure(Seq2Seq(Seq2SeqConfig.tiny(), rngs=nnx.Rngs(0)))
    run = jax.jit(lambda target: apply(params, extra, SOURCE, target)[0])
    one = run(TARGET)
    other = run(TARGET.at[:, 3].set(7 - TARGET[:, 3] % 3))
    np.testing.assert_array_equal(one[:, :3], other[:, :3])
    assert (np.abs(one[:, 3:] - other[:, 3:]).max((0, 2)) > 1e-6).all()


def test_dropout_depends_on_each_example_s_key_only():
    apply, params, extra = pure(Seq2Seq(Seq2SeqConfig.tiny(dropout=0.5), rngs=nnx.Rngs(0)))
    keys = jax.vmap(jax.random.key)(np.arange(3))
    run = jax.jit(lambda s, t, k: apply(params, extra, s, t, key=k, train=True)[0])
    whole, part = run(SOURCE, TARGET, keys), run(SOURCE[1:], TARGET[1:], keys[1:])
    np.testing.assert_allclose(part, whole[1:], rtol=1e-4, atol=1e-7)
    assert np.abs(whole - run(SOURCE, TARGET, keys[::-1])).max() > 1e-3


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="take general"):
        Seq2Seq(Seq2SeqConfig.tiny(attention=dot()), rngs=nnx.Rngs(0))
    for changes in ({"units": 0}, {"dropout": 1.0}, {"start_token": 11}):
        with pytest.raises(InputError, match=next(iter(changes))):
            Seq2SeqConfig.tiny(**changes)
    model = Seq2Seq(Seq2SeqConfig.tiny(), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="source of shape"):
        model(SOURCE[0], TARGET)
    with pytest.raises(ValueError, match="target of shape"):
        model(SOURCE, TARGET[0])
    with pytest.raises(ValueError, match="at most 4 tokens"):
        model.prefill(SOURCE, model.init_cache(3, 4))
