"""Noise on weights: its moments, the penalty that it amounts to, one draw for all devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl.regularizers import everything, weight_noise

PARAMS = {"kernel": np.full((3, 2), 2.0), "bias": np.ones(2), "out": {"kernel": np.zeros((2, 2))}}
KEYS = jax.random.split(jax.random.key(0), 5000)


def test_weights_get_independent_noise_and_biases_none():
    noisy = jax.jit(jax.vmap(lambda k: weight_noise(k, PARAMS, 0.3, axis=None)))(KEYS)
    assert (noisy["bias"] == 1).all()
    z = np.concatenate(
        [(noisy["kernel"] - 2).reshape(-1, 6), noisy["out"]["kernel"].reshape(-1, 4)], axis=1
    )
    np.testing.assert_allclose(z.mean(0), 0, atol=5 * 0.3 / np.sqrt(5000))
    np.testing.assert_allclose(np.cov(z.T), 0.09 * np.eye(10), atol=5 * 0.09 * np.sqrt(2 / 5000))
    assert (weight_noise(KEYS[0], PARAMS, 0.3, select=everything)["bias"] != 1).all()


def test_in_expectation_it_is_a_penalty_on_the_slope_in_the_weights():
    """Of a linear unit: E (x (w + e) - y)^2 = (x w - y)^2 + scale^2 |x|^2."""
    x, w, y = np.array([1.0, -2.0, 0.5]), {"kernel": np.array([[0.3], [0.1], [0.7]])}, 0.2

    def error(w):
        return (x @ w["kernel"][:, 0] - y) ** 2

    each = jax.jit(jax.vmap(lambda k: error(weight_noise(k, w, 0.1, axis=None))))(KEYS)
    expected = error(w) + 0.01 * (x**2).sum()
    assert abs(each.mean() - expected) < 5 * each.std() / np.sqrt(5000)
    assert 0.01 * (x**2).sum() > 10 * each.std() / np.sqrt(5000)


def test_all_devices_draw_from_the_first_example_of_the_batch():
    whole = weight_noise(KEYS[:8], PARAMS, 0.1)
    one = weight_noise(KEYS[0], PARAMS, 0.1)
    split = jax.vmap(lambda k: weight_noise(k, PARAMS, 0.1), axis_name="data")
    parts = split(KEYS[:8].reshape(4, 2))
    for a, b, c in zip(*(jax.tree.leaves(t) for t in (whole, one, parts)), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(c, np.broadcast_to(a, (4, *a.shape)))


def test_what_makes_no_sense_is_refused_and_dtypes_stay():
    with pytest.raises(ValueError, match=r"weight_noise\(scale=...\) must be >= 0, got -1"):
        weight_noise(KEYS[0], PARAMS, -1)
    half = weight_noise(KEYS[0], {"kernel": jnp.ones((2, 2), jnp.bfloat16)}, 0.5)
    assert half["kernel"].dtype == jnp.bfloat16
