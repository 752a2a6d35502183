"""Constrained minima: known solutions, quadratic programs in closed form, problems without any."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fdl.optim import ConstrainedStatus, augmented_lagrangian, lbfgs, penalty_method

pytestmark = pytest.mark.usefixtures("compile_quickly")


class Problem(NamedTuple):
    """One of Hock and Schittkowski 1981; bounds are inequalities here."""

    fun: object
    x0: list
    best: float
    solution: list
    inequality: object = None
    equality: object = None


PROBLEMS = {
    1: Problem(
        lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2,
        [-2, 1],
        0,
        [1, 1],
        inequality=lambda x: -1.5 - x[1],
    ),
    6: Problem(
        lambda x: (1 - x[0]) ** 2,
        [-1.2, 1],
        0,
        [1, 1],
        equality=lambda x: 10 * (x[1] - x[0] ** 2),
    ),
    7: Problem(
        lambda x: jnp.log(1 + x[0] ** 2) - x[1],
        [2, 2],
        -np.sqrt(3),
        [0, np.sqrt(3)],
        equality=lambda x: (1 + x[0] ** 2) ** 2 + x[1] ** 2 - 4,
    ),
    21: Problem(
        lambda x: 0.01 * x[0] ** 2 + x[1] ** 2 - 100,
        [-1, -1],
        -99.96,
        [2, 0],
        inequality=lambda x: (10 - 10 * x[0] + x[1], 2 - x[0], jnp.abs(x) - 50),
    ),
    35: Problem(
        lambda x: (
            9
            - (jnp.array([8, 6, 4]) * x).sum()
            + (jnp.array([2, 2, 1]) * x**2).sum()
            + 2 * x[0] * x[1]
            + 2 * x[0] * x[2]
        ),
        [0.5, 0.5, 0.5],
        1 / 9,
        [4 / 3, 7 / 9, 4 / 9],
        inequality=lambda x: {"plane": x[0] + x[1] + 2 * x[2] - 3, "sign": -x},
    ),
    43: Problem(
        lambda x: (x**2).sum() + x[2] ** 2 - 5 * x[0] - 5 * x[1] - 21 * x[2] + 7 * x[3],
        [0, 0, 0, 0],
        -44,
        [0, 1, 2, -1],
        inequality=lambda x: jnp.stack(
            [
                (x**2).sum() + x[0] - x[1] + x[2] - x[3] - 8,
                (x**2).sum() + x[1] ** 2 + x[3] ** 2 - x[0] - x[3] - 10,
                2 * x[0] ** 2 + x[1] ** 2 + x[2] ** 2 + 2 * x[0] - x[1] - x[3] - 5,
            ]
        ),
    ),
    71: Problem(
        lambda x: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2],
        [1, 5, 5, 1],
        17.0140173,
        [1, 4.7429994, 3.8211503, 1.3794082],
        inequality=lambda x: (25 - x.prod(), 1 - x, x - 5),
        equality=lambda x: (x**2).sum() - 40,
    ),
}
QUICK = {6, 35}
ALL = [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in PROBLEMS]


def solve(method, problem, **options):
    fun, x0, _, _, g, h = problem

    @jax.jit
    def run(x0):
        return method(fun, x0, inequality=g, equality=h, **options)

    return run(jnp.asarray(x0, float))


def residuals(problem, found):
    """Compute the KKT conditions from the functions themselves."""

    def lagrangian(x):
        value = problem.fun(x)
        pairs = (
            (problem.inequality, found.inequality_multipliers),
            (problem.equality, found.equality_multipliers),
        )
        for constraint, multipliers in pairs:
            if constraint is not None:
                terms = jax.tree.map(lambda m, c: (m * c).sum(), multipliers, constraint(x))
                value += sum(jax.tree.leaves(terms))
        return value

    x = found.params
    g = jax.tree.leaves(problem.inequality(x)) if problem.inequality else []
    h = jax.tree.leaves(problem.equality(x)) if problem.equality else []
    mu = jax.tree.leaves(found.inequality_multipliers)
    assert all((m >= 0).all() for m in mu)
    largest = lambda parts: max([float(jnp.max(p)) for p in parts], default=0.0)  # noqa: E731
    return (
        float(jnp.abs(jax.grad(lagrangian)(x)).max()),
        max(0.0, largest(g), largest([jnp.abs(c) for c in h])),
        largest([jnp.abs(m * c) for m, c in zip(mu, g, strict=True)]),
    )


@pytest.mark.parametrize("number", ALL)
def test_known_solutions_are_found_and_the_reported_residuals_are_true(number):
    problem = PROBLEMS[number]
    found = solve(augmented_lagrangian, problem, tol=1e-7)
    assert found.status == ConstrainedStatus.CONVERGED
    assert float(found.value) == pytest.approx(problem.best, abs=2e-7)
    np.testing.assert_allclose(found.params, problem.solution, atol=2e-4 if number == 1 else 2e-6)
    reported = [float(r) for r in (found.stationarity, found.feasibility, found.complementarity)]
    assert max(reported) <= 1e-7
    np.testing.assert_allclose(residuals(problem, found), reported, atol=1e-10)


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=pytest.mark.slow) for n in (7, 21, 35, 71)]
)
def test_the_penalty_method_comes_to_the_same_point_with_a_far_larger_penalty(number):
    problem = PROBLEMS[number]
    rough = solve(penalty_method, problem, tol=1e-5)
    assert rough.status == ConstrainedStatus.CONVERGED
    np.testing.assert_allclose(rough.params, problem.solution, atol=2e-5)
    assert max(residuals(problem, rough)) <= 1.01e-5
    fine = solve(augmented_lagrangian, problem, tol=1e-5)
    assert rough.penalty >= 10 * fine.penalty


RNG = np.random.default_rng(0)
ROOT = RNG.standard_normal((8, 4))
Q, C = ROOT.T @ ROOT, RNG.standard_normal(4)
A, B = RNG.standard_normal((2, 4)), RNG.standard_normal(2)


def quadratic(x):
    return 0.5 * x @ Q @ x - C @ x


def test_a_quadratic_program_with_equalities_is_one_linear_system():
    """[Q A'; A 0] [x; lambda] = [c; b]"""
    system = np.block([[Q, A.T], [A, np.zeros((2, 2))]])
    expected = np.linalg.solve(system, np.concatenate([C, B]))
    problem = Problem(quadratic, [0] * 4, 0, [], equality=lambda x: A @ x - B)
    found = solve(augmented_lagrangian, problem, tol=1e-8)
    np.testing.assert_allclose(found.params, expected[:4], atol=1e-8)
    np.testing.assert_allclose(found.equality_multipliers, expected[4:], atol=1e-7)
    assert found.inequality_multipliers == ()


def test_the_multiplier_of_a_norm_ball_is_the_strength_of_the_penalty_with_the_same_minimum():
    limit = 0.5 * np.linalg.norm(np.linalg.solve(Q, C))
    problem = Problem(quadratic, [0] * 4, 0, [], inequality=lambda x: x @ x - limit**2)
    found = solve(augmented_lagrangian, problem, tol=1e-8)
    mu, w = float(found.inequality_multipliers), np.asarray(found.params)
    assert mu > 0 and np.linalg.norm(w) == pytest.approx(limit, abs=1e-7)
    np.testing.assert_allclose(Q @ w - C + 2 * mu * w, 0, atol=1e-8)
    np.testing.assert_allclose(np.linalg.solve(Q + 2 * mu * np.eye(4), C), w, atol=1e-7)


@pytest.mark.slow
def test_a_constraint_that_is_not_active_has_no_multiplier():
    problem = Problem(quadratic, [0] * 4, 0, [], inequality=lambda x: x @ x - 1e3)
    found = solve(augmented_lagrangian, problem, tol=1e-8)
    assert found.inequality_multipliers == 0
    np.testing.assert_allclose(found.params, np.linalg.solve(Q, C), atol=1e-8)


@pytest.mark.slow
def test_a_multiplier_is_the_gain_of_loosening_its_constraint():
    """Many problems at once: the limit is an argument, vmap maps over it."""

    def solved(limit):
        return augmented_lagrangian(
            lambda x, limit: quadratic(x),
            jnp.zeros(4),
            limit,
            inequality=lambda x, limit: x.sum() - limit,
            tol=1e-8,
        )

    middle = np.linalg.solve(Q, C).sum() - 1.0
    found = jax.jit(jax.vmap(solved))(middle + jnp.array([-1e-3, 0, 1e-3, 2.0]))
    assert (found.status == ConstrainedStatus.CONVERGED).all()
    slope = -(found.value[2] - found.value[0]) / 2e-3
    mu = found.inequality_multipliers
    assert float(slope) == pytest.approx(float(mu[1]), rel=1e-5)
    assert mu[1] > 0 and mu[3] == 0


def test_a_problem_without_feasible_points_is_reported_at_its_least_violation():
    found = solve(
        augmented_lagrangian,
        Problem(lambda x: (x**2).sum(), [3, 1], 0, [], inequality=lambda x: (x[0] + 1, 1 - x[0])),
    )
    assert found.status == ConstrainedStatus.INFEASIBLE
    assert float(found.feasibility) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(found.params, 0, atol=1e-6)


@pytest.mark.slow
def test_what_rounding_does_not_allow_is_reported():
    found = solve(augmented_lagrangian, PROBLEMS[35], tol=1e-14)
    assert found.status in (ConstrainedStatus.STALLED, ConstrainedStatus.MAX_PENALTY)
    assert found.nit < 50
    np.testing.assert_allclose(found.params, PROBLEMS[35].solution, atol=1e-6)


def test_where_the_objective_is_not_defined_is_reported():
    problem = Problem(lambda x: jnp.sqrt(x[0]), [-1.0], 0, [], inequality=lambda x: x[0] - 3)
    found = solve(augmented_lagrangian, problem)
    assert found.status == ConstrainedStatus.NOT_FINITE and found.nit == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lbfgs", "adam"])
def test_any_optimizer_solves_the_free_problems(name):
    tx = {"lbfgs": lbfgs(), "adam": optax.adam(0.02)}[name]
    options = {"lbfgs": {"tol": 1e-7}, "adam": {"tol": 1e-3, "inner_iter": 5000}}[name]
    found = solve(augmented_lagrangian, PROBLEMS[35], tx=tx, **options)
    assert found.status == ConstrainedStatus.CONVERGED
    np.testing.assert_allclose(found.params, PROBLEMS[35].solution, atol=10 * options["tol"])


def test_trees_and_float32_keep_their_form():
    start = {"a": jnp.zeros(2, jnp.float32), "b": jnp.float32(3.0)}
    found = augmented_lagrangian(
        lambda p: (p["a"] ** 2).sum() + p["b"] ** 2,
        start,
        equality=lambda p: {"sum": p["a"].sum() + p["b"] - 3},
        tol=1e-3,
    )
    assert jax.tree.map(lambda a: (a.shape, a.dtype), found.params) == jax.tree.map(
        lambda a: (a.shape, a.dtype), start
    )
    np.testing.assert_allclose(found.params["a"], 1, atol=1e-3)
    assert float(found.equality_multipliers["sum"]) == pytest.approx(-2, abs=3e-3)
    assert found.status == ConstrainedStatus.CONVERGED and found.value.dtype == jnp.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"augmented_lagrangian\(inequality=, equality=...\) must be given"),
        ({"equality": jnp.sum, "tol": 0.0}, r"\(tol=...\) must be > 0, got 0.0"),
        ({"equality": jnp.sum, "growth": 1.0}, r"\(growth=...\) must be > 1, got 1.0"),
        ({"equality": jnp.sum, "penalty": -1}, r"\(penalty=...\) must be > 0, got -1"),
        ({"equality": jnp.sum, "max_iter": 0}, r"\(max_iter=...\) must be >= 1, got 0"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        augmented_lagrangian(quadratic, np.zeros(4), **options)
