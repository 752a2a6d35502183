"""Tangent propagation: PyTorch's Jacobian products, penalty and gradient; what it leaves free."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from fdl import regularizers

TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}


def network(weights, x):
    h = jnp.tanh(x @ weights["0.weight"].T + weights["0.bias"][None])
    return h @ weights["2.weight"].T + weights["2.bias"][None]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_products_penalty_and_gradient_are_those_of_pytorch(dtype, fixture_dir):
    folder = fixture_dir("tangent")
    arrays = np.load(folder / "data.npz")
    weights = load_file(folder / "weights.safetensors")
    weights = {name: jnp.asarray(w, dtype) for name, w in weights.items()}
    images, v = jnp.asarray(arrays["images"], dtype), jnp.asarray(arrays["tangents"], dtype)
    x = images.reshape(len(images), -1)

    @jax.jit
    def products(weights):
        along = regularizers.directional_derivatives(lambda x: network(weights, x), x, v)
        penalty = lambda w: regularizers.tangent_prop(  # noqa: E731
            lambda x: network(w, x), x, v, strength=1.0
        )
        return along, *jax.value_and_grad(penalty)(weights)

    along, value, gradient = products(weights)
    np.testing.assert_allclose(along, arrays["jv"], **TOLERANCE[dtype])
    np.testing.assert_allclose(value, arrays["tangent_prop_penalty"], **TOLERANCE[dtype])
    np.testing.assert_allclose(gradient["0.weight"], arrays["grad_W0"], **TOLERANCE[dtype])


def test_what_ignores_the_tangents_is_free_and_what_follows_them_costs_its_square():
    x = np.random.default_rng(0).normal(size=(5, 3))
    v = np.broadcast_to(np.array([[1.0, -1.0, 0.0]]), (5, 1, 3))
    total = lambda x: x[:, :2].sum(-1, keepdims=True)  # noqa: E731
    assert float(regularizers.tangent_prop(total, x, v, strength=3.0)) == 0
    slope = lambda x: 2 * x[:, :1]  # noqa: E731
    assert float(regularizers.tangent_prop(slope, x, v, strength=3.0)) == pytest.approx(12)


def test_directions_of_another_shape_are_refused():
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"\(b, k, ...\) over x \(2, 3\), got \(2, 3\)"):
        regularizers.tangent_prop(jnp.sin, x, x, strength=1.0)
    with pytest.raises(ValueError, match=r"strength=...\) must be >= 0, got -1"):
        regularizers.tangent_prop(jnp.sin, x, x[:, None], strength=-1)
