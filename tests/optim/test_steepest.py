"""The first step along the gradient, and when a direction leads down."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl.optim import steepest


def test_length_is_each_of_its_four_terms_where_it_rules():
    def length(x, g, value=None):
        return float(steepest.length(jnp.asarray(x), jnp.asarray(g), value))

    x, g = np.array([1.0, 0.0]), np.array([3.0, 4.0])
    np.testing.assert_allclose(length(x, g), 1 / 5)
    np.testing.assert_allclose(length(x, g / 50), 1)
    np.testing.assert_allclose(length(x, g, 2.5), 4 * 2.5 / 25)
    np.testing.assert_allclose(length(x, g, -2.5), 4 * 2.5 / 25)
    np.testing.assert_allclose(length(x, g, 1e6), 1)
    np.testing.assert_allclose(length(x, 100 * g, 1e9), 10 / 500)
    np.testing.assert_allclose(length(7 * x, 100 * g, 1e9), 70 / 500)
    np.testing.assert_allclose(length(x, g, 1e-9), 1e-3 / 5)
    np.testing.assert_allclose(length(x, g, 0.0), 1 / 5)
    np.testing.assert_allclose(length(x, g, np.nan), 1 / 5)
    assert length(x, 0 * g, 2.0) == 1.0  # at a stationary point, and no NaN


def test_a_sum_of_squares_is_left_behind_by_two_of_its_newton_steps_to_zero():
    # f = |x|^2 / 2: the gradient is x, the step to the zero of the tangent parabola is 1
    x = jnp.full(100, 3.0)
    f = 0.5 * jnp.sum(x**2)
    tangent = 2 * f / jnp.sum(x**2)  # where the parabola that touches zero has its zero
    np.testing.assert_allclose(steepest.length(x, x, f), min(1.0, 2 * tangent))
    np.testing.assert_allclose(steepest.length(x, 10 * x, 10 * f), 2 * tangent / 10)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.float16])
def test_halves_do_not_overflow(dtype):
    x = jnp.full(300, 200.0, dtype)  # its square sums to 1.2e7, beyond float16
    length = steepest.length(x, x)
    assert length.dtype == np.float32
    np.testing.assert_allclose(length, 1 / (200 * 300**0.5), rtol=1e-3)


def test_length_sees_the_tree_as_one_vector():
    tree = {"w": jnp.ones((2, 2)), "z": jnp.asarray(1 + 2j)}
    vector = jnp.asarray([1.0, 1.0, 1.0, 1.0, 1.0, 2.0])
    np.testing.assert_allclose(
        steepest.length(tree, tree, 0.5), steepest.length(vector, vector, 0.5)
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_downhill_is_the_sign_of_the_cosine(dtype):
    rng = np.random.default_rng(0)
    g, d = (jnp.asarray(a, dtype) for a in rng.standard_normal((2, 200, 3)))
    for scale in (1e-12, 1.0, 1e12):
        down = jax.vmap(steepest.downhill)(g, dtype(scale) * d)
        np.testing.assert_array_equal(down, (np.asarray(g) * np.asarray(d)).sum(1) > 0)


def test_what_is_level_zero_or_not_finite_does_not_lead_down():
    g = jnp.asarray([1.0, 0.0])
    for d in ([0.0, 1.0], [1e-13, 1.0], [0.0, 0.0], [jnp.nan, 0.0], [jnp.inf, 0.0]):
        assert not steepest.downhill(g, jnp.asarray(d))
    assert steepest.downhill(g, jnp.asarray([1e-11, 1.0]))
    for bad in (jnp.nan, jnp.inf):
        assert not steepest.downhill(bad * g, g)
        for d in ([1.0, bad], [bad, 1.0], [bad, bad]):
            assert not steepest.downhill(g, jnp.asarray(d))
            assert not steepest.downhill(jnp.asarray([1.0, 1.0]), jnp.asarray(d))


def test_least_curvature_is_above_the_rounding_of_the_cosine():
    assert steepest.least_curvature(jnp.dtype("float64")) == 1e-10
    np.testing.assert_allclose(
        steepest.least_curvature(jnp.dtype("float32")), np.finfo(np.float32).eps ** 0.5
    )
