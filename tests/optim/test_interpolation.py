"""Guesses of a minimum: exact on the polynomials they fit, whichever way round the points lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl.optim import interpolation
from fdl.optim.interpolation import Point

ORDERS = pytest.mark.parametrize("swap", [False, True], ids=["ahead", "behind"])


def polynomials(order: int, count: int = 200):
    """Polynomials with random coefficients, and two steps each."""
    rng = np.random.default_rng(order)
    scale = 10.0 ** rng.uniform(-6, 6, (count, 1))
    coefficients = rng.standard_normal((count, order + 1)) * scale
    steps = 10.0 ** rng.uniform(-3, 3, (count, 1)) * rng.uniform(0, 1, (count, 2))
    return zip(map(np.polynomial.Polynomial, coefficients), steps, strict=True)


def at(p: np.polynomial.Polynomial, step: float) -> Point:
    return Point(*(jnp.asarray(x) for x in (step, p(step), p.deriv()(step))))


def minimum(p: np.polynomial.Polynomial) -> float:
    """The local minimum of a polynomial, NaN if there is none."""
    found = [r.real for r in p.deriv().roots() if r.imag == 0 and p.deriv(2)(r.real) > 0]
    return found[0] if found else np.nan


@ORDERS
def test_quadratic_is_exact_on_parabolas(swap):
    for p, steps in polynomials(2):
        a, b = (at(p, s) for s in (steps[::-1] if swap else steps))
        extremum = p.deriv().roots()[0]
        np.testing.assert_allclose(
            interpolation.quadratic(a, b._replace(slope=jnp.nan)), extremum, rtol=1e-6
        )


@ORDERS
def test_secant_is_exact_where_the_slope_is_linear(swap):
    for p, steps in polynomials(2):
        a, b = (at(p, s) for s in (steps[::-1] if swap else steps))
        np.testing.assert_allclose(interpolation.secant(a, b), p.deriv().roots()[0], rtol=1e-6)


@ORDERS
def test_cubic_finds_the_minimum_of_cubics_and_not_the_maximum(swap):
    seen = {"minimum": 0, "none": 0}
    rng = np.random.default_rng(3)
    for _ in range(300):
        p = np.polynomial.Polynomial(rng.standard_normal(4) * 10.0 ** rng.uniform(-6, 6))
        steps = rng.uniform(-2, 2, 2)
        a, b = (at(p, s) for s in (steps[::-1] if swap else steps))
        truth, guess = minimum(p), interpolation.cubic(a, b)
        if np.isnan(truth):
            assert not np.isfinite(guess)
            seen["none"] += 1
        elif abs(truth) < 10:
            np.testing.assert_allclose(guess, truth, rtol=1e-6, atol=1e-6)
            seen["minimum"] += 1
    assert min(seen.values()) > 50


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_cubic_of_slopes_whose_squares_overflow(dtype):
    # a multiple of s^3 - 3 s + 2 has its minimum at 1, however large it is
    big = float(jnp.finfo(dtype).max) / 100
    a = Point(*(jnp.asarray(x, dtype) for x in (0.0, 2.0 * big, -3.0 * big)))
    b = Point(*(jnp.asarray(x, dtype) for x in (2.0, 4.0 * big, 9.0 * big)))
    np.testing.assert_allclose(interpolation.cubic(a, b), 1.0, rtol=1e-6)


def test_stretching_the_steps_stretches_the_guess():
    a, b = Point(0.3, 2.0, -1.5), Point(1.1, 1.7, 0.8)
    for guess in (interpolation.quadratic, interpolation.secant, interpolation.cubic):
        wide = [Point(8 * p.step, 5 * p.value, 5 * p.slope / 8) for p in (a, b)]
        np.testing.assert_allclose(guess(*wide), 8 * guess(a, b), rtol=1e-12)
        moved = [Point(p.step + 3, p.value - 7, p.slope) for p in (a, b)]
        np.testing.assert_allclose(guess(*moved), 3 + guess(a, b), rtol=1e-12)


def test_what_has_no_minimum_gives_no_finite_guess():
    flat = Point(jnp.asarray(0.0), jnp.asarray(1.0), jnp.asarray(0.0))
    line = Point(jnp.asarray(0.0), jnp.asarray(1.0), jnp.asarray(-1.0))
    assert not jnp.isfinite(interpolation.quadratic(line, Point(jnp.asarray(1.0), 0.0, jnp.nan)))
    assert not jnp.isfinite(interpolation.secant(line, line._replace(step=1.0)))
    assert not jnp.isfinite(interpolation.cubic(flat, flat._replace(step=1.0)))


def test_vmap_of_guesses_is_a_loop_over_them():
    p = np.polynomial.Polynomial([1.0, -2.0, 0.5, 0.4])
    starts, ends = np.linspace(0, 1, 5), np.linspace(1.5, 3, 5)
    one = [interpolation.cubic(at(p, a), at(p, b)) for a, b in zip(starts, ends, strict=True)]
    many = jax.jit(jax.vmap(interpolation.cubic))(at(p, starts), at(p, ends))
    np.testing.assert_allclose(many, one, rtol=1e-14)
