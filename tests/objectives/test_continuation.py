"""Homotopies and smoothed polynomials: their two ends, closed forms, and the basin they lead to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl.objectives import homotopy, smoothed_polynomial

Z = np.linspace(-3, 3, 13)


def test_a_homotopy_begins_as_the_identity_and_ends_as_the_unit():
    np.testing.assert_array_equal(homotopy(jnp.tanh, 0.0)(Z), Z)
    np.testing.assert_allclose(homotopy(jnp.tanh, 1.0)(Z), np.tanh(Z), rtol=1e-14)
    found = jax.jit(lambda level: homotopy(jnp.tanh, level)(Z))(0.3)
    np.testing.assert_allclose(found, 0.7 * Z + 0.3 * np.tanh(Z), rtol=1e-14)


def test_without_bend_a_network_is_its_matrix_product():
    rng = np.random.default_rng(0)
    x, first, second = (rng.standard_normal(s) for s in ((5, 3), (3, 4), (4, 2)))
    out = homotopy(jnp.tanh, 0.0)(x @ first) @ second
    np.testing.assert_allclose(out, x @ (first @ second), rtol=1e-12)


@pytest.mark.parametrize("degree", [0, 1, 2, 5, 8])
@pytest.mark.parametrize("sigma", [0.0, 0.7, 2.0])
def test_a_smoothed_polynomial_is_the_mean_over_a_gaussian(degree, sigma):
    coefficients = np.random.default_rng(degree).standard_normal(degree + 1)
    # Gauss-Hermite quadrature of 10 nodes is exact up to degree 19
    node, weight = np.polynomial.hermite_e.hermegauss(10)
    expected = [weight @ np.polyval(coefficients, x + sigma * node) / weight.sum() for x in Z]
    found = np.polyval(np.asarray(smoothed_polynomial(coefficients, sigma)), Z)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_smoothing_twice_adds_the_variances():
    c = np.random.default_rng(1).standard_normal(7)
    twice = smoothed_polynomial(smoothed_polynomial(c, 0.6), 0.8)
    np.testing.assert_allclose(twice, smoothed_polynomial(c, 1.0), rtol=1e-12)


def test_descent_stays_in_the_bad_basin_of_a_double_well_and_continuation_leaves_it():
    well = np.array([1.0, 0.0, -2.0, 0.3, 0.0])  # x^4 - 2 x^2 + 0.3 x: the best minimum is x < 0

    def follow(sigmas):
        def step(x, sigma):
            return x - 0.02 * jax.grad(jnp.polyval, 1)(smoothed_polynomial(well, sigma), x), None

        return float(jax.jit(lambda s: jax.lax.scan(step, jnp.float64(1.5), s)[0])(sigmas))

    minima = np.sort(np.roots(np.polyder(well)).real)[[0, 2]]
    assert np.polyval(well, minima[0]) < np.polyval(well, minima[1])
    np.testing.assert_allclose(follow(np.zeros(2000)), minima[1], rtol=1e-9)
    sigmas = np.concatenate([np.linspace(1, 0, 1000), np.zeros(1000)])
    np.testing.assert_allclose(follow(sigmas), minima[0], rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: homotopy(jnp.tanh, 1.5), r"homotopy\(level=...\) must lie in \[0, 1\], got 1.5"),
        (
            lambda: smoothed_polynomial(np.ones((2, 2)), 1.0),
            r"must be \(n,\), n >= 1, got \(2, 2\)",
        ),
        (lambda: smoothed_polynomial(np.ones(2), -1.0), r"sigma=...\) must be >= 0, got -1.0"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
