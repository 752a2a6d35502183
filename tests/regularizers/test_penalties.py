"""Penalties: closed forms of the penalised minimum (DLB 7.1, 7.3) and which leaves count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import losses, regularizers
from fdl.regularizers import everything

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4))
Y = X @ np.array([2.0, -1.0, 0.0, 0.5]) + 0.1 * RNG.normal(size=20)


def minimum(objective):
    """Solve a quadratic problem in four unknowns exactly, by one Newton step."""
    derivatives = jax.jit(lambda w: (jax.hessian(objective)(w), jax.grad(objective)(w)))
    return -np.linalg.solve(*derivatives(np.zeros(4)))


def test_l2_turns_least_squares_into_ridge_regression():
    def objective(w):
        fit = losses.half_squared_error(X @ w, Y).sum()
        return fit + regularizers.l2(w, 3.0, select=everything)

    ridge = np.linalg.solve(X.T @ X + 3.0 * np.eye(4), X.T @ Y)
    np.testing.assert_allclose(minimum(objective), ridge, rtol=1e-12)


def test_l2_shrinks_each_eigenvector_by_lambda_over_lambda_plus_alpha():
    hessian, best, alpha = X.T @ X, np.array([1.0, 2.0, -3.0, 0.5]), 7.0

    def objective(w):
        quadratic = 0.5 * (w - best) @ hessian @ (w - best)
        return quadratic + regularizers.l2(w, alpha, select=everything)

    eigenvalues, q = np.linalg.eigh(hessian)
    expected = q @ (eigenvalues / (eigenvalues + alpha) * (q.T @ best))
    np.testing.assert_allclose(minimum(objective), expected, rtol=1e-12)


def test_l2_makes_an_underdetermined_problem_solvable_and_tends_to_the_pseudo_inverse():
    x, y = X[:3], Y[:3]  # three equations, four unknowns

    def objective(w):
        fit = losses.half_squared_error(x @ w, y).sum()
        return fit + regularizers.l2(w, 1e-9, select=everything)

    np.testing.assert_allclose(minimum(objective), np.linalg.pinv(x) @ y, rtol=1e-6)


def test_separable_classes_have_a_logistic_solution_only_with_decay():
    """Without it the weight grows like log t; with it, alpha w = sigmoid(-w) at the end."""
    x, y = np.array([[-1.0], [1.0]]), np.array([0.0, 1.0])

    @jax.jit
    def descend(strength, steps):
        def objective(w):
            fit = losses.sigmoid_cross_entropy(x @ w, y).mean()
            return fit + regularizers.l2(w, strength, select=everything)

        step = lambda _, w: w - 1.0 * jax.grad(objective)(w)  # noqa: E731
        return jax.lax.fori_loop(0, steps, step, np.zeros(1))[0]

    free = [float(descend(0.0, 10**k)) for k in (3, 4, 5)]
    np.testing.assert_allclose(np.diff(free), np.log(10), rtol=2e-3)
    w = float(descend(0.01, 10**4))
    assert 0.01 * w == pytest.approx(1 / (1 + np.exp(w)), rel=1e-12)


PARAMS = {"kernel": np.array([[1.0, -2.0], [0.0, 3.0]]), "bias": np.array([5.0, -7.0])}


def test_values_and_gradients_are_those_of_the_weights_only():
    value, gradient = jax.jit(jax.value_and_grad(regularizers.l2))(PARAMS, 0.3)
    assert float(value) == pytest.approx(0.15 * 14)
    np.testing.assert_allclose(gradient["kernel"], 0.3 * PARAMS["kernel"], rtol=1e-15)
    np.testing.assert_array_equal(gradient["bias"], 0)
    value, gradient = jax.jit(jax.value_and_grad(regularizers.l1))(PARAMS, 0.3)
    assert float(value) == pytest.approx(0.3 * 6)
    np.testing.assert_allclose(gradient["kernel"], 0.3 * np.sign(PARAMS["kernel"]), rtol=1e-15)
    np.testing.assert_array_equal(gradient["bias"], 0)


def test_elastic_net_lies_between_its_ends():
    sample = jax.jit(jax.value_and_grad(regularizers.elastic_net), static_argnames="l1_ratio")
    for ratio in (0.0, 0.25, 1.0):
        value, gradient = sample(PARAMS, 0.4, l1_ratio=ratio)
        assert float(value) == pytest.approx(0.4 * (ratio * 6 + (1 - ratio) / 2 * 14))
        w = PARAMS["kernel"]
        expected = 0.4 * (ratio * np.sign(w) + (1 - ratio) * w)
        np.testing.assert_allclose(gradient["kernel"], expected, rtol=1e-14)


def test_penalty_of_bfloat16_weights_is_summed_in_float32():
    params = {"kernel": np.full((1000, 10), 0.1, jnp.bfloat16)}
    exact = 0.5 * 10_000 * float(jnp.bfloat16(0.1)) ** 2
    assert float(regularizers.l2(params, 1.0)) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: regularizers.l2(PARAMS, -0.1), r"l2\(strength=...\) must be >= 0, got -0.1"),
        (lambda: regularizers.l1(PARAMS, -1), r"l1\(strength=...\) must be >= 0, got -1"),
        (lambda: regularizers.l2(PARAMS, float("nan")), "must be >= 0, got nan"),
        (lambda: regularizers.elastic_net(PARAMS, 1.0, l1_ratio=2.0), "in .0, 1., got 2.0"),
        (lambda: regularizers.l2({"bias": np.ones(2)}, 1.0), "got none of: bias"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
