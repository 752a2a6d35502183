"""Sparse weights, the identity, gates: counts, moments, and what a deep net makes of variances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import initializers
from fdl.initializers import gate_bias, identity, sparse

KEY = jax.random.key(0)


@pytest.mark.parametrize("shape", [(64, 300), (3, 3, 16, 300)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, jnp.bfloat16])
def test_each_unit_has_exactly_k_inputs_drawn_alike(shape, dtype):
    w = sparse(15, 2.0)(KEY, shape, dtype)
    assert w.shape == shape and w.dtype == dtype
    w = np.asarray(w, float).reshape(-1, shape[-1])
    assert ((w != 0).sum(0) == 15).all()
    values = w[w != 0]
    assert values.var() == pytest.approx(4, rel=4 * np.sqrt(2 / values.size))
    often = (w != 0).sum(1)  # each input is chosen as often as any other
    expected = 300 * 15 / len(w)
    assert np.abs(often - expected).max() < 5 * np.sqrt(expected)


def test_identity_keeps_a_recurrent_state():
    h = np.abs(np.random.default_rng(0).normal(size=5))
    w = np.asarray(identity()(KEY, (5, 5), np.float64))
    state = h
    for _ in range(100):
        state = np.maximum(w @ state, 0)
    np.testing.assert_array_equal(state, h)


def test_gates_are_laid_out_one_after_another():
    np.testing.assert_array_equal(
        gate_bias(-1, 1, 0.5)(KEY, (6,), np.float64), [-1, -1, 1, 1, 0.5, 0.5]
    )


def spread_after(init, layers=50, width=200):
    """Root mean square of the activations of each layer of a deep net of rectifiers."""
    x = jax.random.normal(jax.random.key(1), (256, width))

    def layer(h, key):
        h = jax.nn.relu(h @ init(key, (width, width), np.float64))
        return h, jnp.sqrt(jnp.square(h).mean())

    keys = jax.random.split(KEY, layers)
    return np.asarray(jax.jit(lambda: jax.lax.scan(layer, x, keys)[1])())


@pytest.mark.parametrize("name", ["he_normal", "he_uniform", "orthogonal"])
def test_fifty_layers_of_rectifiers_keep_their_scale(name):
    init = getattr(initializers, name)
    root_mean_square = spread_after(init(2**0.5) if name == "orthogonal" else init())
    assert ((root_mean_square > 0.5) & (root_mean_square < 2)).all()


def test_a_small_fixed_deviation_vanishes_over_fifty_layers():
    assert spread_after(initializers.normal(0.01))[-1] < 1e-40


@pytest.mark.parametrize(
    ("init", "fan", "shape"),
    [
        (initializers.he_normal(), 9 * 16, (3, 3, 16, 400)),  # convolution: positions count
        (initializers.he_normal(), 9 * 4, (3, 3, 4, 1000)),  # in groups: the inputs of one group
        (initializers.variance_scaling(2 / 1.25, "fan_in", "normal"), 125, (100, 500)),  # leaky 1/2
    ],
)
def test_variance_is_two_over_the_inputs_of_a_unit(init, fan, shape):
    w = np.asarray(init(KEY, shape, np.float64))
    assert w.var() == pytest.approx(2 / fan, rel=3.5 * np.sqrt(2 / w.size))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sparse(0), r"sparse\(k=...\) must be an integer >= 1, got 0"),
        (lambda: sparse(15)(KEY, (10, 3)), r"at least k inputs, got \(10, 3\)"),
        (lambda: identity()(KEY, (2, 3)), r"must be \(n, n\), got \(2, 3\)"),
        (lambda: gate_bias(), "got none"),
        (lambda: gate_bias(0, 1)(KEY, (3,)), r"must be \(2 \* units,\), got \(3,\)"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
