"""The fit finds the Gabor functions that filters were made of, and little in noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import ops

fit_gabor = jax.jit(ops.fit_gabor)  # compiled once: all filters have the shape (24, 9, 9)
ROWS, COLUMNS = np.mgrid[-4:5, -4:5].astype(float)


def gabors(n, seed):
    rng = np.random.default_rng(seed)
    made = {
        "frequency": rng.uniform(0.6, 2.2, n),
        "orientation": rng.uniform(0, np.pi, n),
        "phase": rng.uniform(-np.pi, np.pi, n),
        "beta_x": 0.5 / rng.uniform(1.0, 2.5, n) ** 2,
        "beta_y": 0.5 / rng.uniform(1.0, 2.5, n) ** 2,
        "amplitude": rng.uniform(0.5, 3.0, n),
        "x0": rng.uniform(-2, 2, n),
        "y0": rng.uniform(-2, 2, n),
    }
    draw = jax.vmap(lambda p: ops.gabor(COLUMNS, ROWS, **p))
    return made, np.asarray(draw(made))


def test_filters_made_of_gabors_are_found_again():
    made, filters = gabors(24, 0)
    fit = fit_gabor(filters)
    residual = np.asarray(fit.residual)
    assert np.median(residual) < 1e-9 and (residual < 1e-4).all()
    again = np.asarray(fit.draw(9, 9))
    left = np.square(filters - again).sum((1, 2)) / np.square(filters).sum((1, 2))
    np.testing.assert_allclose(residual, left, atol=1e-5)
    found = residual < 1e-6
    np.testing.assert_allclose(fit.frequency[found], made["frequency"][found], rtol=0.02)
    # turned by half a circle, with the phase of the other sign, it is the same function
    turned = np.cos(2 * (np.asarray(fit.orientation) - made["orientation"]))
    np.testing.assert_allclose(turned[found], 1, atol=1e-3)


def test_scale_and_sign_of_a_filter_do_not_matter():
    _, filters = gabors(24, 1)
    filters = filters + 0.05 * np.random.default_rng(2).normal(size=filters.shape)
    one, other = fit_gabor(filters), fit_gabor(-300 * filters)
    np.testing.assert_allclose(one.residual, other.residual, rtol=1e-6)
    np.testing.assert_allclose(300 * one.amplitude, other.amplitude, rtol=1e-4)
    np.testing.assert_allclose(one.beta_x, other.beta_x, rtol=1e-4)


def test_little_of_noise_is_a_gabor():
    noise = np.random.default_rng(3).normal(size=(24, 9, 9))
    residual = np.asarray(fit_gabor(noise).residual)
    assert residual.mean() > 0.6 and (residual <= 1).all()


def test_what_is_wrong_is_said_in_one_line():
    with pytest.raises(ValueError, match=r"fit_gabor\(filters\) must be \(n, height, width\)"):
        ops.fit_gabor(jnp.ones((9, 9)))
    with pytest.raises(ValueError, match=r"fit_gabor\(steps=\.\.\.\) must be >= 1, got 0"):
        ops.fit_gabor(jnp.ones((1, 9, 9)), steps=0)
