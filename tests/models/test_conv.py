"""Convolutional layers against Flax's, and the transposed ones against them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fdl import models, ops
from fdl.models import Conv, ConvTranspose
from fdl.pure import pure

X = np.random.default_rng(0).normal(size=(2, 9, 8, 4))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": 2, "padding": "SAME"},
        {"padding": ((1, 0), (2, 3)), "dilation": (2, 1)},
        {"padding": "CIRCULAR", "groups": 2},
        {"padding": "VALID", "groups": 4, "use_bias": False},
    ],
)
def test_a_convolutional_layer_is_that_of_flax(options):
    init = {"bias_init": nnx.initializers.normal(1.0), "rngs": nnx.Rngs(0)}
    ours = Conv(4, 8, (3, 2), **options, **init)
    names = {"dilation": "kernel_dilation", "groups": "feature_group_count"}
    theirs = {names.get(name, name): value for name, value in options.items()}
    flax = nnx.Conv(4, 8, (3, 2), **({"padding": "VALID"} | theirs), **init)
    assert ours.kernel.shape == flax.kernel.shape
    flax.kernel.set_value(ours.kernel[...])
    if options.get("use_bias", True):
        flax.bias.set_value(ours.bias[...])
    else:
        assert ours.bias is None
    np.testing.assert_allclose(ours(jnp.asarray(X)), flax(jnp.asarray(X)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"strides": 2, "padding": 1, "output_padding": (0, 1)},
        {"dilation": 2, "padding": (2, 0)},
        {"strides": (3, 1)},
    ],
)
def test_a_transposed_layer_is_the_adjoint(options):
    """<conv(x), y> = <x, transposed(y)>, and the bias is added to every position."""
    more = options.pop("output_padding", 0)
    back = ConvTranspose(
        6, 4, (3, 3), **options, output_padding=more, use_bias=False, rngs=nnx.Rngs(0)
    )
    there = Conv(4, 6, (3, 3), **options, use_bias=False, rngs=nnx.Rngs(0))
    there.kernel.set_value(jnp.swapaxes(back.kernel[...], 2, 3))
    y = np.random.default_rng(1).normal(size=(2, 4, 5, 6))
    x = np.random.default_rng(2).normal(size=back(jnp.asarray(y)).shape)
    forth = np.vdot(there(jnp.asarray(x)), y)
    np.testing.assert_allclose(np.vdot(x, back(jnp.asarray(y))), forth, rtol=1e-9)
    shifted = ConvTranspose(6, 4, (3, 3), bias_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
    shifted.kernel.set_value(0 * shifted.kernel[...])
    np.testing.assert_array_equal(shifted(jnp.asarray(y)), 1)


def test_a_fixed_kernel_is_state_and_not_a_parameter():
    apply, params, extra = pure(Conv(4, 2, (3, 3), trained=False, rngs=nnx.Rngs(0)))
    assert set(params) == {"bias"} and set(extra) == {"kernel"}
    out, after = apply(params, extra, X, train=True)
    np.testing.assert_allclose(out, ops.conv(X, extra["kernel"]), rtol=1e-12)
    np.testing.assert_array_equal(after["kernel"], extra["kernel"])


def test_a_layer_computes_in_the_precision_that_is_asked_for():
    layer = Conv(4, 2, (3, 3), dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert layer.kernel[...].dtype == jnp.float32
    y = layer(jnp.asarray(X))
    assert y.dtype == jnp.bfloat16
    exact = ops.conv(X, np.asarray(layer.kernel[...], float))
    np.testing.assert_allclose(np.asarray(y, float), exact, atol=0.03)


def test_two_filters_in_quadrature_do_not_see_the_phase_of_a_grating():
    """DLB 9.10: the energy of a pair of Gabor filters is a complex cell."""
    y, x = np.mgrid[-12:13, -12:13].astype(float)
    options = {"frequency": 1.2, "orientation": 0.6, "beta_x": 0.03, "beta_y": 0.03}
    pair = [ops.gabor(x, y, phase=p, **options) for p in (0.0, np.pi / 2)]
    layer = Conv(1, 2, (25, 25), use_bias=False, rngs=nnx.Rngs(0))
    layer.kernel.set_value(jnp.stack(pair, -1)[:, :, None])
    rows, columns = np.mgrid[:31, :29].astype(float)
    phases = np.linspace(0, 2 * np.pi, 8)[:, None, None]
    waves = np.cos(1.2 * (columns * np.cos(0.6) + rows * np.sin(0.6)) + phases)
    simple = layer(jnp.asarray(waves[..., None]))
    energy = np.square(simple).sum(-1)
    assert np.ptp(energy) / energy.mean() < 0.01  # over phases and positions
    assert np.ptp(simple[..., 0]) > 1.5 * np.abs(simple[..., 0]).max()  # one alone sees it


@pytest.mark.parametrize("layer", [Conv, ConvTranspose])
def test_groups_that_do_not_divide_are_refused(layer):
    with pytest.raises(ValueError, match=rf"{layer.__name__}\(groups=...\) must divide the chan"):
        layer(4, 6, (3, 3), groups=4, rngs=nnx.Rngs(0))


def test_weights_have_the_variance_of_their_fan():
    layer = models.Conv(64, 64, (3, 3), groups=2, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(np.var(layer.kernel[...]), 1 / (9 * 32), rtol=0.03)
    assert jax.tree.leaves(nnx.state(layer, nnx.Param))[0].shape == (64,)
