"""The MLP against scikit-learn and back-propagation by hand; the contract of every model."""

import functools
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fdl import initializers, losses, models, ops, regularizers
from fdl.errors import InputError
from fdl.models import MLP, MLPConfig, dense
from fdl.pure import pure

FOLDER = Path(__file__).parents[1] / "fixtures" / "sk_mlp"
FIXTURE = np.load(FOLDER / "data.npz")
META = json.loads((FOLDER / "config.json").read_text())
ALPHA = float(re.search(r"alpha=([\d.]+\d)", META["about"]).group(1))
UNITS = {
    "relu": ops.relu,
    "tanh": ops.tanh,
    "logistic": ops.sigmoid,
    "identity": lambda x: x,
}
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Draw the same numbers in each test, whichever ran before."""
    global RNG
    RNG = np.random.default_rng(1)


def as_dtype(tree, dtype):
    return jax.tree.map(lambda a: np.asarray(a, dtype), tree)


@functools.cache
def initial(config, seed):
    return nnx.split(nnx.jit(lambda: MLP(config, rngs=nnx.Rngs(seed)))())


def build(config, seed=0):
    """Make a model in one compilation, and none for a configuration seen before."""
    return nnx.merge(*initial(config, seed), copy=True)


def layers_of(params):
    """The affine maps of a plain MLP, from the input to the output."""
    hidden = params.get("hidden", {})
    return [hidden[i]["affine"] for i in sorted(hidden)] + [params["output"]]


def sklearn_model(prefix, act, dtype):
    """Build the fixture's network with the fixture's weights."""
    sizes = META["config"]
    outputs = FIXTURE[f"{prefix}:W{len(sizes['hidden'])}"].shape[1]
    config = MLPConfig(sizes["fin"], sizes["hidden"], outputs, unit=dense(UNITS[act]))
    graph, abstract = nnx.split(nnx.eval_shape(lambda: MLP(config, rngs=nnx.Rngs(0))))
    params = nnx.to_pure_dict(abstract)
    for i, layer in enumerate(layers_of(params)):
        for ours, theirs in (("kernel", "W"), ("bias", "b")):
            value = FIXTURE[f"{prefix}:{theirs}{i}"]
            assert layer[ours].shape == value.shape
            layer[ours] = jnp.asarray(value, dtype)
    return pure(nnx.merge(graph, params))


def sklearn_losses(task, output):
    """What scikit-learn reports and what it differentiates, means over the samples.

    They differ for regression: it reports the mean over outputs and differentiates their sum.
    """
    if task == "reg":
        target = FIXTURE["y_reg"].reshape(output.shape).astype(output.dtype)
        error = losses.half_squared_error(output, target)
        return error.mean(), error.sum(1).mean()
    if output.shape[1] == 1:  # two classes have one logistic output
        error = losses.sigmoid_cross_entropy(output[:, 0], FIXTURE["y"])
    else:
        error = losses.softmax_cross_entropy(output, FIXTURE["y"])
    return error.mean(), error.mean()


def sklearn_output(task, output):
    if task == "reg":
        return output
    return jax.nn.sigmoid(output) if output.shape[1] == 1 else jax.nn.softmax(output)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("act", META["config"]["acts"])
@pytest.mark.parametrize("task", ["clf", "reg"])
def test_outputs_loss_and_gradients_are_those_of_scikit_learn(task, act, dtype):
    prefix = f"{task}:{act}"
    apply, params, extra = sklearn_model(prefix, act, dtype)
    x = jnp.asarray(FIXTURE["X"], dtype)

    def objective(params):
        output, _ = apply(params, extra, x)
        penalty = regularizers.l2(params, ALPHA / len(x))
        reported, differentiated = sklearn_losses(task, output)
        return differentiated + penalty, (reported + penalty, sklearn_output(task, output))

    gradient, (loss, output) = jax.jit(jax.grad(objective, has_aux=True))(params)
    assert loss.dtype == dtype
    np.testing.assert_allclose(output, FIXTURE[f"{prefix}:out"], **TOLERANCE[dtype])
    np.testing.assert_allclose(loss, FIXTURE[f"{prefix}:loss"], **TOLERANCE[dtype])
    for i, layer in enumerate(layers_of(gradient)):
        np.testing.assert_allclose(layer["kernel"], FIXTURE[f"{prefix}:gW{i}"], **TOLERANCE[dtype])
        np.testing.assert_allclose(layer["bias"], FIXTURE[f"{prefix}:gb{i}"], **TOLERANCE[dtype])


RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 6))
Y = RNG.integers(3, size=8)


def test_gradient_is_that_of_back_propagation_by_hand():
    config = MLPConfig.tiny(unit=dense(ops.tanh), bias_init=initializers.normal(1.0))
    apply, params, extra = pure(build(config))
    params = as_dtype(params, float)

    def objective(params):
        return losses.softmax_cross_entropy(apply(params, extra, X)[0], Y).mean()

    layers = [(np.asarray(p["kernel"]), np.asarray(p["bias"])) for p in layers_of(params)]
    h = [X]  # DLB algorithm 6.3, forwards
    for w, b in layers[:-1]:
        h.append(np.tanh(h[-1] @ w + b))
    z = h[-1] @ layers[-1][0] + layers[-1][1]
    q = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    g = (q - np.eye(3)[Y]) / len(X)  # algorithm 6.4, backwards: dJ / da of the layer above
    expected = []
    for (w, _), below in zip(reversed(layers), reversed(h), strict=True):
        expected.append({"kernel": below.T @ g, "bias": g.sum(0)})
        g = (g @ w.T) * (1 - below**2)

    gradient = layers_of(jax.jit(jax.grad(objective))(params))
    for ours, theirs in zip(gradient, reversed(expected), strict=True):
        np.testing.assert_allclose(ours["kernel"], theirs["kernel"], rtol=1e-11, atol=1e-16)
        np.testing.assert_allclose(ours["bias"], theirs["bias"], rtol=1e-11, atol=1e-16)


def count(tree):
    return sum(a.size for a in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("options", "expected"),
    [  # 6 -> 5 -> 4 -> 3
        ({}, 7 * 5 + 6 * 4 + 5 * 3),
        ({"hidden": ()}, 7 * 3),
        ({"unit": models.prelu()}, 7 * 5 + 6 * 4 + 5 * 3 + 5 + 4),
        ({"unit": models.maxout(pieces=3)}, 3 * (7 * 5 + 6 * 4) + 5 * 3),
        ({"unit": models.rbf()}, 7 * 5 + 6 * 4 + 5 * 3),
        ({"batch_norm": True}, (6 + 2) * 5 + (5 + 2) * 4 + 5 * 3),
        ({"batch_norm": True, "unit": models.maxout()}, 2 * ((6 + 2) * 5 + (5 + 2) * 4) + 5 * 3),
    ],
)
def test_number_of_parameters_is_the_closed_form(options, expected):
    abstract = nnx.eval_shape(lambda: MLP(MLPConfig.tiny(**options), rngs=nnx.Rngs(0)))
    assert count(nnx.state(abstract, nnx.Param)) == expected


def test_presets_have_the_sizes_they_say():
    sizes = {
        name: count(nnx.eval_shape(lambda c=c: nnx.state(MLP(c, rngs=nnx.Rngs(0)), nnx.Param)))
        for name, c in (("digits", MLPConfig.digits()), ("mnist", MLPConfig.mnist()))
    }
    assert sizes == {
        "digits": 65 * 256 + 257 * 256 + 257 * 10,
        "mnist": 785 * 1024 + 1025 * 1024 + 1025 * 10,
    }


VARIANTS = {
    "relu": {},
    "sigmoid": {"unit": dense(ops.sigmoid), "kernel_init": initializers.glorot_uniform()},
    "prelu": {"unit": models.prelu()},
    "maxout": {"unit": models.maxout(pieces=3)},
    "rbf": {"unit": models.rbf()},
    "batch_norm": {"batch_norm": True},
    "dropout": {"dropout": 0.3, "input_dropout": 0.1},
    "softmax regression": {"hidden": ()},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_model_keeps_the_contract(name):
    module = build(MLPConfig.tiny(**VARIANTS[name]), seed=1)
    apply, params, extra = pure(module)
    x = X.astype(np.float32)

    def loss(params):
        keys = jax.random.split(jax.random.key(0), len(x))
        out, new = apply(params, extra, x, key=keys, train=True)
        return losses.softmax_cross_entropy(out, Y).mean(), (out, new)

    gradient, (out, new) = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert out.shape == (8, 3) and out.dtype == jnp.float32
    assert jax.tree.structure(new) == jax.tree.structure(extra)
    for path, g in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(g).all() and np.abs(g).max() > 0, path

    apply = jax.jit(apply)
    used, same = apply(params, extra, x)
    jax.tree.map(np.testing.assert_array_equal, same, extra)
    # in use, an example's output does not depend on the batch around it
    around = np.where(np.arange(len(x))[:, None] == 3, x, 9.0).astype(np.float32)
    np.testing.assert_allclose(used[3], apply(params, extra, around)[0][3], rtol=1e-5, atol=1e-6)


def test_compiled_and_eager_agree():
    apply, params, extra = pure(build(MLPConfig.tiny(batch_norm=True, dropout=0.5)))
    train = functools.partial(apply, train=True, key=jax.random.key(0))
    args = params, extra, X.astype(np.float32)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        train(*args),
        jax.jit(train)(*args),
    )


def test_no_hidden_layer_is_linear_regression():
    model = build(MLPConfig.tiny(hidden=()))
    kernel, bias = np.asarray(model.output.kernel[...]), np.asarray(model.output.bias[...])
    np.testing.assert_allclose(model(X), X @ kernel + bias, rtol=1e-6)


def test_images_are_flattened_and_other_sizes_refused():
    model = build(MLPConfig.tiny())
    x = X.astype(np.float32)
    np.testing.assert_array_equal(model(x.reshape(8, 3, 1, 2)), model(x))
    for shape in ((8, 7), (8, 6, 2), (6,)):
        with pytest.raises(ValueError, match=rf"6 values an example, got {re.escape(str(shape))}"):
            model(np.ones(shape))


def test_features_are_the_activations_named_like_the_layers():
    model = build(MLPConfig.tiny())
    logits, features = model(X.astype(np.float32), features=True)
    assert list(features) == ["hidden.0", "hidden.1"]
    np.testing.assert_array_equal(model.hidden[1](features["hidden.0"]), features["hidden.1"])
    np.testing.assert_array_equal(model.output(features["hidden.1"]), logits)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 1e-5)])
def test_output_has_the_precision_of_parameters_and_input(dtype, rtol):
    apply, params, extra = pure(build(MLPConfig.tiny()))
    layers = [(np.float64(p["kernel"]), np.float64(p["bias"])) for p in layers_of(params)]
    h = X
    for w, b in layers[:-1]:
        h = np.maximum(h @ w + b, 0)
    out, _ = jax.jit(apply)(as_dtype(params, dtype), extra, X.astype(dtype))
    assert out.dtype == dtype
    np.testing.assert_allclose(out, h @ layers[-1][0] + layers[-1][1], rtol=rtol, atol=rtol)


def test_bfloat16_computes_in_it_and_keeps_parameters_in_float32():
    exact = build(MLPConfig.tiny())
    model = build(MLPConfig.tiny(dtype=jnp.bfloat16))
    x = X.astype(np.float32)
    out = nnx.jit(model)(x)
    assert out.dtype == jnp.bfloat16
    assert {p.dtype for p in jax.tree.leaves(nnx.state(model, nnx.Param))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(out.astype(float), nnx.jit(exact)(x), atol=0.05)


def test_an_ensemble_by_vmap_is_its_members():
    config = MLPConfig.tiny()
    apply, params, extra = pure(build(config))
    x = X.astype(np.float32)

    def init(seed):
        model = MLP(config, rngs=nnx.Rngs(jax.random.key(seed)))
        return nnx.to_pure_dict(nnx.state(model, nnx.Param))

    members = jax.tree.map(np.asarray, jax.jit(jax.vmap(init))(np.arange(3)))
    together = np.asarray(jax.jit(jax.vmap(lambda p: apply(p, extra, x)[0]))(members))
    alone = jax.jit(lambda p: apply(p, extra, x)[0])
    np.testing.assert_allclose(together[0], alone(params), rtol=1e-4, atol=1e-6)
    for i in (1, 2):
        expected = alone(jax.tree.map(lambda a, i=i: a[i], members))
        np.testing.assert_allclose(together[i], expected, rtol=1e-4, atol=1e-6)


def test_it_trains_as_a_plain_nnx_module():
    model = build(MLPConfig.tiny())
    x = X.astype(np.float32)

    def loss(model):
        return losses.softmax_cross_entropy(model(x), Y).mean()

    before, gradient = nnx.jit(nnx.value_and_grad(loss))(model)
    nnx.update(model, jax.tree.map(lambda p, g: p - 0.1 * g, nnx.state(model, nnx.Param), gradient))
    squared = sum(np.square(g).sum() for g in jax.tree.leaves(gradient))
    assert float(before - loss(model)) == pytest.approx(0.1 * squared, rel=0.2)


def test_batch_norm_sits_between_the_affine_map_and_the_unit():
    model = build(MLPConfig.tiny(batch_norm=True))
    _, seen = model(X.astype(np.float32), features=True)
    z = X @ np.asarray(model.hidden[0].affine.linear.kernel[...], float)
    standardised = (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5)
    np.testing.assert_allclose(seen["hidden.0"], np.maximum(standardised, 0), rtol=1e-4, atol=1e-5)


def test_dropout_is_drawn_anew_at_every_layer():
    config = MLPConfig(6, (6, 6), 3, dropout=0.5, input_dropout=0.5, unit=dense(lambda x: x))
    model = build(config)
    for layer in (*(h.affine for h in model.hidden), model.output):
        layer.kernel[...] = np.eye(*layer.kernel.shape, dtype=np.float32)
    logits, seen = model(np.ones((64, 6), np.float32), rngs=nnx.Rngs(0), features=True)
    at_input = np.asarray(seen["hidden.0"]) > 0
    kept = np.asarray(seen["hidden.1"])[at_input] > 0  # what the second mask does to the survivors
    assert 0.4 < kept.mean() < 0.6
    assert set(np.unique(logits)) == {0.0, 8.0}


def test_dropout_of_a_model_is_a_function_of_each_example_and_its_key():
    apply, params, extra = pure(build(MLPConfig.tiny(dropout=0.5)))
    x, seeds = X.astype(np.float32), np.arange(8)

    @jax.jit
    def run(x, seeds):
        keys = jax.vmap(jax.random.key)(seeds)
        return apply(params, extra, x, key=keys, train=True)[0]

    whole, order = np.asarray(run(x, seeds)), np.array([5, 0, 7, 2, 1, 6, 3, 4])
    np.testing.assert_allclose(run(x[order], seeds[order]), whole[order], rtol=1e-4)
    for part in np.split(np.arange(8), 4):
        np.testing.assert_allclose(run(x[part], seeds[part]), whole[part], rtol=1e-4)
    assert np.abs(whole - run(x, seeds + 8)).max() > 0.01


def test_he_initialisation_keeps_the_signal_through_many_rectifiers():
    x = RNG.normal(size=(16, 200)).astype(np.float32)

    def last_mean_square(**options):
        config = MLPConfig(200, (200,) * 10, 1, **options)
        _, features = MLP(config, rngs=nnx.Rngs(0))(x, features=True)
        return np.square(features["hidden.9"]).mean()

    assert 0.3 < last_mean_square() < 3
    assert last_mean_square(kernel_init=initializers.lecun_normal()) < 3 / 2**10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": (5, 0)}, r"hidden=...\) must be widths >= 1, got \(5, 0\)"),
        ({"features_in": 0}, r"features_in=...\) must be >= 1, got 0"),
        ({"features_out": -2}, r"features_out=...\) must be >= 1, got -2"),
        ({"dropout": 1.0}, r"dropout=...\) must lie in \[0, 1\), got 1.0"),
        ({"input_dropout": float("nan")}, r"input_dropout=...\) must lie in \[0, 1\), got nan"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_an_input_error(options, message):
    with pytest.raises(InputError, match=message):
        MLPConfig.tiny(**options)
