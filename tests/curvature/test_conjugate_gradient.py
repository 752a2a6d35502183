"""Conjugate gradients: NumPy's solve, the textbook loop, theorems about their steps, exits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse.linalg

from fdl import tree
from fdl.curvature import CGStatus, conjugate_gradient, jacobi

RNG = np.random.default_rng(0)
Q, _ = np.linalg.qr(RNG.normal(size=(12, 12)))
B = RNG.normal(size=12)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Draw the same numbers in each test, whichever ran before."""
    global RNG
    RNG = np.random.default_rng(1)


def matrix(values):
    return Q * np.asarray(values) @ Q.T


def solve(a, b, **options):
    a, b = jnp.asarray(a), jnp.asarray(b)
    return jax.jit(lambda a, b: conjugate_gradient(lambda v: a @ v, b, **options))(a, b)


def name(found):
    return CGStatus(int(found.status)).name


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-9), ("float32", 1e-4)])
def test_solution_in_as_many_steps_as_dimensions(dtype, rtol):
    a = matrix(np.linspace(1, 10, 12)).astype(dtype)
    found = solve(a, B.astype(dtype), rtol=rtol / 10, max_steps=12)
    assert name(found) == "CONVERGED" and found.steps <= 12 and found.x.dtype == dtype
    np.testing.assert_allclose(found.x, np.linalg.solve(a, B), rtol=10 * rtol)
    left = np.linalg.norm(B - a @ np.asarray(found.x))
    np.testing.assert_allclose(found.residual_norm, left, atol=1e-3 * rtol + 1e-6 * (rtol > 1e-6))


@pytest.mark.parametrize("distinct", [1, 2, 3])
def test_steps_are_the_number_of_distinct_eigenvalues(distinct):
    found = solve(matrix(np.resize([1.0, 5.0, 20.0][:distinct], 12)), B, rtol=1e-10)
    assert found.steps == distinct


def textbook(a, b, x, m_inverse, steps):
    """Saad 2003, algorithm 9.1, as a plain loop."""
    r = b - a @ x
    z = m_inverse * r
    p, iterates = z, []
    for _ in range(steps):
        ap = a @ p
        alpha = (r @ z) / (ap @ p)
        x, new = x + alpha * p, r - alpha * ap
        z_new = m_inverse * new
        p = z_new + (new @ z_new) / (r @ z) * p
        r, z = new, z_new
        iterates.append(x)
    return np.array(iterates)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_iterates_are_those_of_the_textbook(preconditioned):
    a, x0 = matrix(np.geomspace(1, 100, 12)), RNG.normal(size=12)
    m_inverse = 1 / np.diag(a) if preconditioned else np.ones(12)
    keep = (1, 2, 5, 7, 11)
    found = solve(
        a, B, x0=jnp.asarray(x0), preconditioner=jacobi(jnp.diag(a)) if preconditioned else None,
        rtol=0.0, max_steps=8, keep=keep,
    )  # fmt: skip
    assert name(found) == "MAX_STEPS" and found.steps == 8
    expected = textbook(a, B, x0, m_inverse, 8)
    np.testing.assert_allclose(found.kept[:4], expected[[0, 1, 4, 6]], rtol=1e-9)
    np.testing.assert_allclose(found.kept[4], found.x)  # stopped before step 11
    np.testing.assert_allclose(found.x, expected[-1], rtol=1e-9)


def test_scipy_agrees():
    a = matrix(np.geomspace(1, 100, 12))
    iterates = []
    scipy.sparse.linalg.cg(a, B, rtol=0.1, callback=lambda x: iterates.append(x.copy()))
    found = solve(a, B, rtol=0.1)
    assert found.steps == len(iterates) < 12  # later ones are a matter of rounding
    np.testing.assert_allclose(found.x, iterates[-1], rtol=1e-8)


def test_a_good_preconditioner_saves_steps_and_an_exact_one_all_but_one():
    scale = np.geomspace(1, 1e3, 12)
    a = scale[:, None] * (np.eye(12) + 0.1 * matrix(np.ones(12))) * scale
    plain = solve(a, B, rtol=1e-8, max_steps=500)
    scaled = solve(a, B, rtol=1e-8, preconditioner=jacobi(jnp.asarray(np.diag(a))))
    assert scaled.steps == 1 < plain.steps
    np.testing.assert_allclose(scaled.x, np.linalg.solve(a, B), rtol=1e-6)
    steep = np.eye(12) + 0.1 * np.outer(B, B)
    a = scale[:, None] * steep * scale
    scaled = solve(a, B, rtol=1e-8, preconditioner=jacobi(jnp.asarray(np.diag(a))), max_steps=500)
    assert scaled.steps < solve(a, B, rtol=1e-8, max_steps=500).steps
    np.testing.assert_allclose(scaled.x, np.linalg.solve(a, B), rtol=1e-6)


def test_negative_curvature_ends_it_with_the_direction():
    a = matrix([-3.0, *np.linspace(1, 2, 11)])
    found = solve(a, B, rtol=1e-12)
    assert name(found) == "NEGATIVE_CURVATURE"
    d = np.asarray(found.direction)
    np.testing.assert_allclose(d @ a @ d / (d @ d), found.curvature, rtol=1e-10)
    assert found.curvature <= 0
    model = lambda x: 0.5 * x @ a @ x - B @ x  # noqa: E731
    assert found.steps >= 1 and model(np.asarray(found.x)) <= 0
    first = solve(-np.eye(12), B)  # at the first product: x is still 0, d is b
    assert name(first) == "NEGATIVE_CURVATURE" and first.steps == 1
    np.testing.assert_array_equal(first.x, np.zeros(12))
    np.testing.assert_array_equal(first.direction, B)
    np.testing.assert_allclose(first.curvature, -1)
    assert name(solve(np.zeros((12, 12)), B)) == "NEGATIVE_CURVATURE"  # a flat function


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_products_that_are_not_finite_leave_the_last_iterate(bad):
    a = matrix(np.linspace(1, 10, 12))
    operator = lambda v: jnp.where(jnp.abs(v[0]) < 1e-3, bad, jnp.asarray(a) @ v)  # noqa: E731
    found = conjugate_gradient(operator, jnp.asarray(B).at[0].set(1e-4))
    assert name(found) == "NOT_FINITE" and (np.asarray(found.x) == 0).all()
    assert name(solve(a, np.where(np.arange(12) == 3, bad, B))) == "NOT_FINITE"


def test_edges():
    nothing = solve(np.eye(12), np.zeros(12))
    assert name(nothing) == "CONVERGED" and nothing.steps == 0
    at_solution = solve(np.eye(12), B, x0=jnp.asarray(B))
    assert at_solution.steps == 0
    empty = conjugate_gradient(lambda v: v, {"a": None, "b": jnp.zeros((0, 2))})
    assert name(empty) == "CONVERGED"
    flat = solve(np.diag([1.0, 0.0]), np.array([2.0, 0.0]))  # semi-definite, but b is in range
    assert name(flat) == "CONVERGED"
    np.testing.assert_allclose(flat.x, [2.0, 0.0])
    absolute = solve(matrix(np.linspace(1, 10, 12)), B, rtol=0.0, atol=0.5)
    assert name(absolute) == "CONVERGED" and absolute.residual_norm <= 0.5


def test_the_rule_of_martens_stops_where_the_model_stalls():
    n, rng = 200, np.random.default_rng(3)
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    a, b = q * np.geomspace(1, 100, n) @ q.T, rng.normal(size=n)
    steps = 300
    found = solve(a, b, rtol=0.0, rule="martens", max_steps=steps)
    models = [0.0]  # the rule, written out beside a plain loop
    for i, x in enumerate(textbook(a, b, np.zeros(n), np.ones(n), steps), 1):
        models.append(0.5 * x @ a @ x - b @ x)
        k = max(10, int(np.ceil(0.1 * i)))
        if i > k and models[i] < 0 and (models[i] - models[i - k]) / models[i] < k * 5e-4:
            break
    assert name(found) == "CONVERGED" and found.steps == i < steps
    np.testing.assert_allclose(found.x, x, rtol=1e-5)


@pytest.mark.slow
def test_trees_bfloat16_and_vmap():
    b = {"w": jnp.ones((2, 3), jnp.bfloat16), "b": [jnp.float32(2.0), None]}
    found = conjugate_gradient(lambda v: jax.tree.map(lambda a: 4 * a, v), b)
    assert jax.tree.map(jnp.result_type, found.x) == jax.tree.map(jnp.result_type, b)
    assert found.residual_norm.dtype == jnp.float32
    np.testing.assert_allclose(tree.ravel(found.x)[0], [0.5] + [0.25] * 6)
    a = jnp.asarray(matrix(np.linspace(1, 10, 12)))
    many = jnp.asarray(RNG.normal(size=(3, 12)))
    found = jax.vmap(lambda b: conjugate_gradient(lambda v: a @ v, b, rtol=1e-10))(many)
    np.testing.assert_allclose(found.x, np.linalg.solve(a, many.T).T, rtol=1e-7)
    one = conjugate_gradient(lambda v: a @ v, many[1], rtol=1e-10)
    np.testing.assert_allclose(found.x[1], one.x, rtol=1e-12)
    assert found.steps[1] == one.steps


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": 0}, r"\(max_steps=...\) must be >= 1, got 0"),
        ({"rule": "other"}, r"\(rule=...\) must be residual or martens, got 'other'"),
        ({"keep": (3, 2)}, r"\(keep=...\) must ascend"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        conjugate_gradient(lambda v: v, jnp.ones(3), **options)
