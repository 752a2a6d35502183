"""Weights of a mixture against SciPy, and the conditions that a minimum on the simplex meets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.random import default_rng
from scipy.optimize import minimize

from fdl import averaging


@pytest.fixture
def likelihoods() -> np.ndarray:
    """Five members and 60 examples: two good at different ones, one mixed, two bad."""
    rng = default_rng(0)
    p = rng.uniform(0.05, 0.95, (5, 60))
    p[0, :40] **= 0.2
    p[1, 30:] **= 0.2
    p[3] *= 0.3
    p[4] *= 0.1
    return p


def negative_log_likelihood(w, p):
    return -np.log(w @ p).mean()


def test_weights_are_the_minimum_on_the_simplex(likelihoods):
    found = averaging.mixture_weights(jnp.log(likelihoods), tolerance=1e-9, max_steps=100_000)
    w = np.asarray(found.weights)
    best = minimize(
        negative_log_likelihood,
        np.full(5, 0.2),
        args=(likelihoods,),
        bounds=[(0, 1)] * 5,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    np.testing.assert_allclose(w, best.x, atol=1e-4)
    assert negative_log_likelihood(w, likelihoods) <= best.fun + 1e-9
    assert 0 <= float(found.gap) <= 1e-9 and int(found.steps) < 100_000


def test_weights_meet_the_conditions_of_karush_kuhn_and_tucker(likelihoods):
    w = averaging.mixture_weights(jnp.log(likelihoods), tolerance=1e-9, max_steps=100_000).weights
    gradient = jax.grad(lambda w: -jnp.log(w @ likelihoods).mean())(w)
    assert (w >= 0).all() and float(w.sum()) == pytest.approx(1, abs=1e-12)
    multiplier = gradient + 1  # of w_j >= 0; that of the sum is 1
    assert (multiplier > -1e-8).all()
    np.testing.assert_allclose(w * multiplier, 0, atol=1e-8)
    assert (w < 1e-6).any() and (w > 0.1).sum() >= 2  # both kinds occur


def test_the_gap_bounds_how_far_it_is(likelihoods):
    best = averaging.mixture_weights(jnp.log(likelihoods), tolerance=1e-10, max_steps=100_000)
    least = negative_log_likelihood(np.asarray(best.weights), likelihoods)
    last = np.inf
    for steps in (1, 3, 10, 30):
        some = averaging.mixture_weights(jnp.log(likelihoods), tolerance=1e-12, max_steps=steps)
        value = negative_log_likelihood(np.asarray(some.weights), likelihoods)
        assert value < last and least - 1e-12 <= value <= least + float(some.gap)
        assert int(some.steps) == steps
        last = value


def test_far_likelihoods_and_the_better_of_two():
    far = jnp.array([[-1000.0, -2000.0, -500.0], [-1001.0, -2001.0, -501.0]])
    weights = averaging.mixture_weights(far, tolerance=1e-9).weights
    np.testing.assert_allclose(weights, [1, 0], atol=1e-8)
    alike = averaging.mixture_weights(jnp.zeros((4, 3)))
    np.testing.assert_array_equal(alike.weights, np.full(4, 0.25))
    assert int(alike.steps) == 0


def test_rules_of_its_arguments():
    with pytest.raises(ValueError, match=r"must be of shape \(k, n\), got \(3,\)"):
        averaging.mixture_weights(jnp.zeros(3))
    with pytest.raises(ValueError, match=r"\(tolerance=...\) must be > 0, got 0"):
        averaging.mixture_weights(jnp.zeros((2, 3)), tolerance=0)
    with pytest.raises(ValueError, match=r"\(max_steps=...\) must be >= 1, got 0"):
        averaging.mixture_weights(jnp.zeros((2, 3)), max_steps=0)
