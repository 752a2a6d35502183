"""Residual networks: published sizes, identities, invariances, devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from fdl import losses, ops, train
from fdl.errors import InputError
from fdl.models import ResNet, ResNetConfig, StandardisedConv
from fdl.models.resnet import Block
from fdl.pure import pure
from fdl.train import parallel

pytestmark = pytest.mark.usefixtures("compile_quickly")

RNG = np.random.default_rng(0)


def images(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def parameters(config):
    module = nnx.eval_shape(lambda: ResNet(config, rngs=nnx.Rngs(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


@pytest.mark.parametrize(
    ("preset", "published"),
    [
        (ResNetConfig.resnet18, 11_689_512),
        (ResNetConfig.resnet34, 21_797_672),
        (ResNetConfig.resnet50, 25_557_032),
        pytest.param(ResNetConfig.resnet101, 44_549_160, marks=pytest.mark.slow),
        pytest.param(ResNetConfig.resnet152, 60_192_808, marks=pytest.mark.slow),
        (ResNetConfig.resnet50_v2, 25_549_352),  # timm's resnetv2_50
    ],
)
def test_networks_have_as_many_parameters_as_the_published_ones(preset, published):
    assert parameters(preset()) == published


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (ResNetConfig.cifar(20), 0.27),
        pytest.param(ResNetConfig.cifar(56), 0.85, marks=pytest.mark.slow),
        pytest.param(ResNetConfig.cifar(110), 1.7, marks=pytest.mark.slow),
        pytest.param(ResNetConfig.cifar_v2(164), 1.7, marks=pytest.mark.slow),
    ],
)
def test_cifar_networks_have_the_sizes_of_the_papers(config, millions):
    assert round(parameters(config) / 1e6, 2 if millions < 1 else 1) == millions


def test_the_first_stride_of_the_paper_moves_no_parameter():
    assert parameters(ResNetConfig.resnet50(stride_first=True)) == 25_557_032


def on_host(key, shape, dtype):
    """Draw normal numbers without compiling anything."""
    del key
    return jnp.asarray(RNG.normal(size=shape) / np.sqrt(np.prod(shape[:-1])), dtype)


def small(**changes):
    return ResNetConfig.tiny(**({"kernel_init": on_host, "output_init": on_host} | changes))


def run(apply, params, extra, x, **how):
    return jax.jit(functools.partial(apply, **how))(params, extra, x)


def block_of(**changes):
    """Return a first block of 4 to `widths` channels as a pure function, and some input."""
    given = {"depths": (1,), "widths": (4,), "stem_width": 4}
    config = small(**(given | changes))
    return pure(Block(config, 0, first=True, rngs=nnx.Rngs(0))), images(2, 5, 7, 4)


@pytest.mark.parametrize("preactivation", [False, True])
@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_a_block_begins_as_the_identity(kind, preactivation):
    block, x = block_of(block=kind, preactivation=preactivation, zero_init=True)
    expected = x if preactivation else jax.nn.relu(x)
    np.testing.assert_array_equal(run(*block, x, train=True)[0], expected)


@pytest.mark.parametrize("preactivation", [False, True])
def test_a_block_of_zeros_still_learns(preactivation):
    """A scale of 0 in front of a rectifier would get no gradient at all."""
    (apply, params, extra), x = block_of(preactivation=preactivation, zero_init=True)

    def loss(params):
        return jnp.square(apply(params, extra, x, train=True)[0] - 1).sum()

    gradient = jax.jit(jax.grad(loss))(params)
    last = gradient["convs"][1]["kernel"] if preactivation else gradient["norms"][1]["scale"]
    assert float(jnp.abs(last).max()) > 0.1


def test_a_pre_activated_block_of_zero_scales_is_the_identity():
    (apply, params, extra), x = block_of(preactivation=True)
    params["norms"][1]["scale"] = jnp.zeros(4)
    np.testing.assert_array_equal(run(apply, params, extra, x)[0], x)


def test_zeros_take_the_place_of_a_projection():
    """Option A: every second position, and channels of zeros behind those that are there."""
    (apply, params, extra), x = block_of(
        strides=(2,), widths=(6,), shortcut="zeros", zero_init=True
    )
    y, _ = run(apply, params, extra, x)
    np.testing.assert_array_equal(y[..., :4], jax.nn.relu(x[:, ::2, ::2]))
    np.testing.assert_array_equal(y[..., 4:], np.zeros((2, 3, 4, 2)))
    assert "shortcut" not in params


def test_without_skips_a_block_is_a_chain():
    (apply, params, extra), x = block_of(strides=(2,), skip=False)
    h = x
    for i, stride in enumerate((2, 1)):  # with running statistics of 0 and 1 the norms do little
        h = ops.conv(h, params["convs"][i]["kernel"], strides=stride, padding=1)
        h = jax.nn.relu(h / np.sqrt(1 + 1e-5))
    np.testing.assert_allclose(run(apply, params, extra, x)[0], h, rtol=1e-5, atol=1e-6)
    assert "shortcut" not in params


@pytest.mark.parametrize(("first", "strides"), [(True, [2, 1, 1]), (False, [1, 2, 1])])
def test_the_stride_is_where_the_option_says(first, strides):
    config = small(depths=(1,), widths=(8,), block="bottleneck", strides=(2,), stride_first=first)
    block = Block(config, 0, first=True, rngs=nnx.Rngs(0))
    assert [conv.strides for conv in block.convs] == strides


@pytest.mark.parametrize("size", [(32, 32), (33, 47)])
def test_images_of_any_size_are_halved_as_often_as_the_paper_says(size):
    apply, params, extra = pure(ResNet(small(), rngs=nnx.Rngs(0)))
    x = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    (_, features), _ = jax.eval_shape(functools.partial(apply, features=True), params, extra, x)

    def halved(times):
        return tuple(functools.reduce(lambda n, _: -(-n // 2), range(times), n) for n in size)

    assert {name: h.shape[1:3] for name, h in features.items()} == {
        "stem": halved(2),
        "stages.0": halved(2),
        "stages.1": halved(3),
    }


def test_what_an_example_gets_does_not_depend_on_the_batch_around_it():
    apply, params, extra = pure(ResNet(small(stem="cifar"), rngs=nnx.Rngs(0)))
    x = images(3, 6, 6, 3)
    whole, _ = run(apply, params, extra, x)
    other, _ = run(apply, params, extra, x.at[1:].multiply(10))
    np.testing.assert_allclose(other[0], whole[0], rtol=1e-5, atol=1e-6)
    assert not np.allclose(other[1], whole[1], rtol=0.1)


def test_group_normalisation_trains_on_each_example_alone():
    config = small(stem="cifar", norm="group", groups=2, standardise=True)
    apply, params, extra = pure(ResNet(config, rngs=nnx.Rngs(0)))
    x = images(3, 6, 6, 3)
    whole, _ = run(apply, params, extra, x, train=True)
    other, _ = run(apply, params, extra, x.at[1:].multiply(10), train=True)
    np.testing.assert_allclose(other[0], whole[0], rtol=1e-5, atol=1e-6)
    assert not jax.tree.leaves(extra)


def test_neither_scale_nor_mean_of_a_standardised_kernel_matters():
    layer = StandardisedConv(3, 4, (3, 3), padding=1, kernel_init=on_host, rngs=nnx.Rngs(0))
    apply, params, extra = pure(layer)
    x = images(2, 5, 5, 3)
    before, _ = run(apply, params, extra, x)
    factors = np.array([1.0, 3.0, 0.5, 2.0])[None, None, None]
    moved, _ = run(apply, {"kernel": params["kernel"] * factors + factors}, extra, x)
    np.testing.assert_allclose(moved, before, rtol=2e-4, atol=1e-4)
    kernel = np.asarray(params["kernel"], np.float64).reshape(-1, 4)
    standard = (kernel - kernel.mean(0)) / kernel.std(0)
    centre = np.asarray(x, np.float64)[0, 1:4, 1:4].reshape(-1) @ standard
    np.testing.assert_allclose(before[0, 2, 2], centre, rtol=1e-4, atol=1e-4)


def test_a_new_head_leaves_the_rest_as_it_is():
    model = ResNet(small(), rngs=nnx.Rngs(0))
    new = model.with_outputs(7, rngs=nnx.Rngs(1))
    before, after = pure(model).params, pure(new).params
    assert after.pop("output")["kernel"].shape == (8, 7)
    assert before.pop("output")["kernel"].shape == (8, 3)
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert (new.config.features_out, model.config.features_out) == (7, 3)
    new.stem.conv.kernel.set_value(jnp.zeros_like(new.stem.conv.kernel[...]))
    assert float(jnp.abs(model.stem.conv.kernel[...]).max()) > 0


def test_computing_in_bfloat16_stays_near_and_keeps_float32_parameters():
    models = [
        ResNet(
            small(dtype=dtype, stem="cifar", kernel_init=fixed(), output_init=fixed()),
            rngs=nnx.Rngs(0),
        )
        for dtype in (None, jnp.bfloat16)
    ]
    x = images(2, 6, 6, 3)
    exact, half = (run(*pure(model), x)[0] for model in models)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), exact, atol=0.05)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(models[1]))} == {np.dtype("float32")}


def fixed():
    """Return an initialiser that draws the same numbers whenever it is made."""
    rng = np.random.default_rng(1)
    return lambda key, shape, dtype: jnp.asarray(
        rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])), dtype
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"depths": (1, 0)}, r"depths=...\) must be >= 1 for each stage, got \(1, 0\)"),
        ({"strides": (1,)}, r"strides=...\) must be >= 1 for each stage, got \(1,\)"),
        ({"depths": (), "widths": ()}, r"depths=...\) must be >= 1 for each stage, got \(\)"),
        ({"features_out": 0}, r"features_out=...\) must be >= 1, got 0"),
        ({"block": "wide"}, r"block=...\) must be one of basic, bottleneck, got 'wide'"),
        ({"padding": "same"}, r"padding=...\) must be one of symmetric, SAME, VALID, got 'same'"),
        ({"norm": "group", "groups": 3}, r"groups=3\) must divide all widths, got 4"),
        ({"shortcut": "zeros", "widths": (8, 4)}, r"needs widths that never fall, got \(8, 8, 4\)"),
    ],
)
def test_settings_that_make_no_network_are_refused(wrong, told):
    with pytest.raises(InputError, match=told):
        ResNetConfig.tiny(**wrong)


def test_depths_that_are_no_multiple_are_refused():
    with pytest.raises(InputError, match=r"cifar\(depth=...\) must be 6n \+ 2, got 21"):
        ResNetConfig.cifar(21)


def test_images_of_another_number_of_channels_are_refused():
    with pytest.raises(ValueError, match=r"needs \(batch, height, width, 3\), got \(2, 8, 8, 1\)"):
        ResNet(small(), rngs=nnx.Rngs(0))(images(2, 8, 8, 1))


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"preactivation": True, "block": "bottleneck"}])
def test_four_devices_train_as_one(changes):
    config = ResNetConfig.tiny(stem="cifar", activation=ops.tanh, **changes)
    apply, params, extra = pure(ResNet(config, rngs=nnx.Rngs(0)))
    batch = {"x": images(8, 8, 8, 3), "y": jnp.arange(8) % 3}

    def objective(params, extra, batch, key):
        del key
        logits, extra = apply(params, extra, batch["x"], train=True)
        loss = losses.softmax_cross_entropy(logits, batch["y"])
        return loss.mean(), (extra, {"loss": train.mean(loss)})

    tx = optax.sgd(0.1, momentum=0.9)
    step = train.make_step(objective, tx)
    ends = {}
    for name, devices in (("none", 1), ("pmap", 4), ("shard_map", 4)):
        runner = parallel.lift(step, name, devices=devices)
        state = runner.put(train.init_state(params, extra, tx, seed=0))
        for _ in range(3):
            state, _ = runner.step(state, batch)
        ends[name] = runner.get((state.params, state.extra))
    for name in ("pmap", "shard_map"):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5),
            ends[name],
            ends["none"],
        )
