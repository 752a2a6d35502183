"""Averaged over noise, a loss is a loss with a penalty: dropout, noisy inputs, noisy weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.random import default_rng

from fdl import averaging
from fdl.models import Dropout

pytestmark = pytest.mark.usefixtures("compile_quickly")

N, D, DRAWS = 20, 4, 4000


@pytest.fixture
def problem():
    rng = default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=s)) for s in ((N, D), (D,), (N,)))


def assert_expectation(loss, expected, *, penalty):
    """Compare the mean over many draws with its closed form, which must not be near the loss."""
    keys = jax.random.split(jax.random.key(0), DRAWS)
    draws = jax.jit(lambda keys: averaging.monte_carlo(loss, keys))(keys)
    error = float(draws.std() / DRAWS**0.5)
    assert abs(float(draws.mean() - expected)) < 4 * error
    assert penalty > 20 * error  # else any answer would do


@pytest.mark.parametrize("rate", [0.5, 0.2])
def test_dropout_of_linear_regression_is_a_ridge_scaled_by_the_inputs(problem, rate):
    """E |y - D(X) w|^2 = |y - X w|^2 + rate / (1 - rate) sum_i (X'X)_ii w_i^2."""
    x, w, y = problem
    dropout = Dropout(rate)

    def loss(key):
        keys = jax.random.split(key, N)
        return jnp.square(y - dropout(x, rngs=keys) @ w).sum()

    penalty = rate / (1 - rate) * (jnp.diag(x.T @ x) * w**2).sum()
    expected = jnp.square(y - x @ w).sum() + penalty
    assert_expectation(loss, expected, penalty=penalty)


def test_noise_on_the_inputs_of_linear_regression_is_a_ridge(problem):
    """E |y - (X + nu e) w|^2 = |y - X w|^2 + n nu^2 |w|^2."""
    x, w, y = problem
    nu = 0.3

    def loss(key):
        return jnp.square(y - (x + nu * jax.random.normal(key, x.shape)) @ w).sum()

    penalty = N * nu**2 * jnp.square(w).sum()
    assert_expectation(loss, jnp.square(y - x @ w).sum() + penalty, penalty=penalty)


def f(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


@pytest.mark.parametrize("where", ["inputs", "weights"])
def test_small_noise_punishes_the_squared_gradient_by_what_is_noisy(problem, where):
    """E (y - f)^2 = (y - f)^2 + nu^2 |df/d.|^2, f being fitted; the rest is of order nu^4."""
    x, rng = problem[0], default_rng(1)
    params = {"w": jnp.asarray(rng.normal(size=(D, 3))), "v": jnp.asarray(rng.normal(size=3))}
    nu, y = 0.02, f(params, x)  # no residual, whose product with the Hessian would count, too
    given = x if where == "inputs" else params

    def value(noisy):
        return f(params, noisy) if where == "inputs" else f(noisy, x)

    def loss(key):
        leaves, form = jax.tree.flatten(given)
        keys = jax.random.split(key, len(leaves))
        noisy = [a + nu * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
        return jnp.square(y - value(jax.tree.unflatten(form, noisy))).sum()

    jacobian = jax.jacrev(value)(given)
    penalty = nu**2 * sum(jnp.square(j).sum() for j in jax.tree.leaves(jacobian))
    assert_expectation(loss, penalty, penalty=penalty)


def test_monte_carlo_of_noise_never_repeats_a_draw():
    keys = jax.random.split(jax.random.key(0), 100)
    drawn = averaging.monte_carlo(lambda key: jax.random.normal(key, (3,)), keys)
    assert len(np.unique(drawn)) == 300
