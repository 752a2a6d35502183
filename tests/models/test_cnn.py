"""The CNN against PyTorch's LeNet and against its layers by hand; batches over devices."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from fdl import initializers, losses, models, ops
from fdl.errors import InputError
from fdl.models import CNN, CNNConfig, Stage
from fdl.pure import pure

FOLDER = Path(__file__).parents[1] / "fixtures" / "lenet"
DATA = np.load(FOLDER / "data.npz")
WEIGHTS = load_file(FOLDER / "weights.safetensors")
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}
LAYERS = sorted({name.split(".")[0] for name in WEIGHTS})
CONVS = [name for name in LAYERS if name.startswith("conv")]
FULL = [name for name in LAYERS if name.startswith("fc")]


def lenet_config():
    """LeNet-5 with the fixture's sizes; its first convolution is padded and no other."""
    stages = []
    for i, name in enumerate(CONVS):
        features, _, window, _ = WEIGHTS[f"{name}.weight"].shape
        stages.append(Stage(features, window, 0 if i else window // 2, "average"))
    widths = [len(WEIGHTS[f"{name}.bias"]) for name in FULL]
    image = tuple(np.moveaxis(DATA["x"], 1, -1).shape[1:])
    return CNNConfig.lenet5(
        image=image, stages=tuple(stages), hidden=tuple(widths[:-1]), features_out=widths[-1]
    )


def ours(config, name, weight):
    """PyTorch's weight in our layout; it flattens an image channel by channel."""
    if weight.ndim == 4:
        return weight.transpose(2, 3, 1, 0)
    if name == f"{FULL[0]}.weight":
        height, width = models.cnn.sizes(config)[-1]
        weight = weight.reshape(len(weight), -1, height, width).transpose(0, 2, 3, 1)
    return weight.reshape(len(weight), -1).T if weight.ndim > 1 else weight


def layer_of(tree, name):
    """Where a layer of PyTorch lies in our tree."""
    kind, number = re.fullmatch(r"(\D+)(\d+)", name).groups()
    if kind == "conv":
        return tree["stages"][int(number) - 1]["affine"]
    head = tree["head"]
    return head["output"] if name == FULL[-1] else head["hidden"][int(number) - 1]["affine"]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_outputs_loss_and_gradients_are_those_of_pytorch(dtype):
    config = lenet_config()
    graph, abstract = nnx.split(nnx.eval_shape(lambda: CNN(config, rngs=nnx.Rngs(0))))
    params = nnx.to_pure_dict(abstract)
    parts = {"weight": "kernel", "bias": "bias"}
    for name, weight in WEIGHTS.items():
        layer, part = name.split(".")
        value = ours(config, name, weight)
        assert layer_of(params, layer)[parts[part]].shape == value.shape
        layer_of(params, layer)[parts[part]] = jnp.asarray(value, dtype)
    apply, params, extra = pure(nnx.merge(graph, params))
    x = jnp.asarray(np.moveaxis(DATA["x"], 1, -1), dtype)

    def objective(params):
        logits, _ = apply(params, extra, x, train=True)
        return losses.softmax_cross_entropy(logits, DATA["y"]).mean(), logits

    with jax.default_matmul_precision("highest"):
        (loss, logits), gradient = jax.jit(jax.value_and_grad(objective, has_aux=True))(params)
    assert loss.dtype == dtype
    np.testing.assert_allclose(logits, DATA["eval_logits"], **TOLERANCE[dtype])
    np.testing.assert_allclose(logits, DATA["train_logits"], **TOLERANCE[dtype])
    np.testing.assert_allclose(loss, DATA["train_loss"], **TOLERANCE[dtype])
    named = [name.removeprefix("grad:") for name in DATA if name.startswith("grad:")]
    assert len(named) >= 4
    for name in named:
        layer, part = name.split(".")
        expected = ours(config, name, DATA[f"grad:{name}"])
        found = layer_of(gradient, layer)[parts[part]]
        np.testing.assert_allclose(found, expected, **TOLERANCE[dtype])


def count(config):
    abstract = nnx.eval_shape(lambda: CNN(config, rngs=nnx.Rngs(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(abstract, nnx.Param)))


def test_models_have_the_published_and_the_computed_numbers_of_parameters():
    assert count(CNNConfig.lenet5()) == 61_706  # LeCun et al. 1998, with full connections
    norms = 2 * (32 + 64 + 64)
    kernels = 9 * (1 * 32 + 32 * 64 + 64 * 64)
    assert count(CNNConfig.digits()) == kernels + norms + (2 * 2 * 64 + 1) * 10
    odd = CNNConfig.digits(image=(11, 9, 3), head="mean", batch_norm=False)
    assert count(odd) == 9 * (3 * 32 + 32 * 64 + 64 * 64) + 32 + 64 + 64 + (64 + 1) * 10


@functools.cache
def small(**changes):
    """Make a model in one compilation, and compile its calls."""
    config = CNNConfig.tiny(**changes)
    model = nnx.merge(*nnx.split(nnx.jit(lambda: CNN(config, rngs=nnx.Rngs(0)))()))
    apply, params, extra = pure(model)
    return jax.jit(apply, static_argnames=("train", "features")), params, extra


X = np.random.default_rng(0).normal(size=(8, 6, 5, 2))


def test_the_network_is_its_layers_one_after_another():
    apply, params, extra = small(unit=models.maxout(pieces=2), hidden=(4,))
    params = jax.tree.map(lambda a: np.asarray(a, float), params)
    (logits, seen), _ = apply(params, extra, X, features=True)
    assert set(seen) == {"stages.0", "stages.1", "head.hidden.0"}
    first, second = (params["stages"][i]["affine"] for i in (0, 1))
    h = np.asarray(ops.conv(X, first["kernel"], padding="SAME"))
    h = h.reshape(8, 6, 5, 3, 2).max(-1)  # the pieces of a unit lie side by side
    np.testing.assert_allclose(seen["stages.0"], h, rtol=1e-9)
    h = h[:, :, :4].reshape(8, 3, 2, 2, 2, 3).max((2, 4))  # the odd column is dropped
    h = np.asarray(ops.conv(h, second["kernel"], padding="SAME")).reshape(8, 3, 2, 4, 2).max(-1)
    np.testing.assert_allclose(seen["stages.1"], h, rtol=1e-9)
    hidden, output = params["head"]["hidden"][0]["affine"], params["head"]["output"]
    h = (h.reshape(8, 24) @ np.asarray(hidden["kernel"])).reshape(8, 4, 2).max(-1)
    np.testing.assert_allclose(seen["head.hidden.0"], h, rtol=1e-9)
    np.testing.assert_allclose(logits, h @ output["kernel"], rtol=1e-9)


def test_with_the_mean_of_each_channel_other_sizes_are_taken():
    apply, params, extra = small(head="mean", stages=(Stage(3, padding="CIRCULAR"),))
    logits, _ = apply(params, extra, X)
    wide = np.tile(X, (1, 2, 3, 1))  # going round, it is the same image
    np.testing.assert_allclose(apply(params, extra, wide)[0], logits, rtol=1e-5)
    moved = np.roll(X, (1, 2), (1, 2))
    np.testing.assert_allclose(apply(params, extra, moved)[0], logits, rtol=1e-5)


def test_an_image_of_one_channel_needs_no_axis_for_it():
    apply, params, extra = small(image=(6, 5, 1))
    logits, _ = apply(params, extra, X[..., :1])
    np.testing.assert_array_equal(apply(params, extra, X[..., 0])[0], logits)


def test_a_first_layer_of_gabor_filters_learns_or_stays():
    options = {"stages": (Stage(4, 5, pool="max"), Stage(4)), "first_init": initializers.gabor()}
    for trained in (True, False):
        apply, params, extra = small(**options, first_trained=trained)
        where = params if trained else extra
        kernel = where["stages"][0]["affine"]["kernel"]
        np.testing.assert_allclose(kernel.sum((0, 1)), 0, atol=1e-5)  # no mean
        np.testing.assert_allclose(np.square(kernel).sum((0, 1, 2)), 2, rtol=1e-5)
        assert ("kernel" in params["stages"][0]["affine"]) == trained
        second = params["stages"][1]["affine"]["kernel"]
        assert abs(second.sum((0, 1))).max() > 0.1  # it is no bank of filters


@pytest.mark.slow
def test_a_batch_over_two_devices_is_one_batch():
    """Outputs, running statistics and gradients; dropout by the keys of the examples."""
    apply, params, extra = small(batch_norm=True, dropout=0.5)
    keys = jax.random.split(jax.random.key(1), 8)

    def objective(params, x, keys):
        logits, new = apply(params, extra, x, key=keys, train=True)
        return jnp.sin(logits).mean(), (new, logits)

    both = jax.value_and_grad(objective, has_aux=True)
    (_, (new, logits)), gradient = jax.jit(both)(params, X, keys)

    def shared(params, x, keys):
        out, gradient = both(params, x, keys)
        return out, jax.lax.pmean(gradient, "data")

    parts = X.reshape(2, 4, *X.shape[1:]), keys.reshape(2, 4)
    (_, (new2, logits2)), gradient2 = jax.pmap(shared, "data", in_axes=(None, 0, 0))(params, *parts)
    np.testing.assert_allclose(np.asarray(logits2).reshape(8, 3), logits, rtol=1e-4, atol=1e-5)
    for found, expected in ((new2, new), (gradient2, gradient)):
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a[0], b, rtol=1e-3, atol=1e-5)
            np.testing.assert_array_equal(a[0], a[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": (6, 5)}, r"image=...\) must be height, width and channels, got \(6, 5\)"),
        ({"image": (1, 1, 2)}, r"CNNConfig: max_pool: a window that reaches over \(2, 2\)"),
        ({"stages": (Stage(3, 9, padding=0),)}, r"CNNConfig: conv: a window that reaches over"),
        ({"stages": (Stage(0),)}, "features and window >= 1 and a pool that is"),
        ({"stages": (Stage(3, pool="min"),)}, "pool='min'"),
        ({"head": "max"}, r'head=...\) must be "flatten" or "mean"'),
        ({"dropout": 1.0}, r"dropout=...\) must lie in \[0, 1\), got 1.0"),
        ({"features_out": 0}, r"features_out=...\) must be >= 1, got 0"),
    ],
)
def test_what_cannot_be_built_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        CNNConfig.tiny(**changes)


@pytest.mark.parametrize("shape", [(8, 5, 6, 2), (8, 6, 5, 1), (8, 60)])
def test_images_of_another_shape_are_refused(shape):
    apply, params, extra = small()
    with pytest.raises(ValueError, match=r"CNN needs images \(batch, \*\(6, 5, 2\)\), got"):
        apply(params, extra, np.ones(shape))
