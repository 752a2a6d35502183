"""Newton's method: dense solves, optimality of its steps, order, invariance, saddles."""

import functools
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fdl import curvature, tree
from fdl.optim import minimize, trust_region
from fdl.optim.newton import make_model, modified_cholesky, newton, scale_by_newton
from fdl.optim.saddle_free import saddle_free_newton, scale_by_saddle_free_krylov

pytestmark = pytest.mark.usefixtures("compile_quickly")

RNG = np.random.default_rng(0)
FIXTURE = np.load(Path(__file__).parents[1] / "fixtures" / "hessian" / "data.npz")
MODES = ["shift", "abs", "cholesky", "plain"]


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Draw the same numbers in each test, whichever ran before."""
    global RNG
    RNG = np.random.default_rng(1)


def symmetric(values, seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))
    return q * np.asarray(values, float) @ q.T


def direction(tx, f, x, **extra):
    updates, state = tx.update(jax.grad(f)(x), tx.init(x), x, value_fn=f, **extra)
    return updates, state


def path(tx, f, x, steps):
    """The iterates of a complete optimizer."""

    @jax.jit
    def step(x, state):
        value, grad = jax.value_and_grad(f)(x)
        updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=f)
        return optax.apply_updates(x, updates), state

    state, points = tx.init(x), [x]
    for _ in range(steps):
        x, state = step(x, state)
        points.append(x)
    return np.array(points)


def quadratic(a, b):
    return lambda x: 0.5 * x @ jnp.asarray(a, x.dtype) @ x - jnp.asarray(b, x.dtype) @ x


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


# --- directions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "rtol"), [("float64", 1e-9), pytest.param("float32", 2e-4, marks=pytest.mark.slow)]
)
def test_steps_of_pytorch(dtype, rtol):
    # H + 5 I and |H| + 0.1 I of a network, solved by NumPy
    h = jnp.asarray(FIXTURE["hessian"], dtype)
    x, g = jnp.zeros(len(h), dtype), jnp.asarray(FIXTURE["grad"], dtype)
    f = lambda x: 0.5 * x @ h @ x + g @ x  # noqa: E731
    found, _ = direction(scale_by_newton(5.0), f, x)
    np.testing.assert_allclose(-found, FIXTURE["damped_newton_step"], rtol=rtol, atol=rtol / 100)
    found, _ = direction(scale_by_newton(0.1, mode="abs"), f, x)
    np.testing.assert_allclose(-found, FIXTURE["saddle_free_step"], rtol=rtol, atol=rtol / 100)
    krylov = scale_by_saddle_free_krylov(len(h), damping=0.1, radius=None)
    found, _ = direction(krylov, f, x)
    np.testing.assert_allclose(-found, FIXTURE["saddle_free_step"], rtol=rtol, atol=rtol / 10)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_every_mode_is_the_dense_solve_where_the_hessian_is_positive(mode, damping):
    a, b, x = (
        symmetric(np.geomspace(0.1, 10, 6)),
        RNG.normal(size=6),
        jnp.asarray(RNG.normal(size=6)),
    )
    found, _ = direction(scale_by_newton(damping, mode=mode), quadratic(a, b), x)
    expected = np.linalg.solve(a + damping * np.eye(6), a @ x - b)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_indefinite_hessians():
    values = np.array([-2.0, -0.5, 0.1, 1.0, 3.0, 8.0])
    a, b, x = symmetric(values), RNG.normal(size=6), jnp.asarray(RNG.normal(size=6))
    f, g = quadratic(a, b), a @ x - b
    e, q = np.linalg.eigh(a)
    plain, _ = direction(scale_by_newton(0.2, mode="plain"), f, x)
    np.testing.assert_allclose(plain, np.linalg.solve(a + 0.2 * np.eye(6), g), rtol=1e-9)
    absolute, _ = direction(scale_by_newton(0.2, mode="abs"), f, x)
    np.testing.assert_allclose(absolute, q @ (q.T @ g / (np.abs(e) + 0.2)), rtol=1e-9)
    shift, _ = direction(scale_by_newton(5.0), f, x)  # enough to be definite: nothing is raised
    np.testing.assert_allclose(shift, np.linalg.solve(a + 5 * np.eye(6), g), rtol=1e-9)
    for mode in ("shift", "abs", "cholesky"):
        found, _ = direction(scale_by_newton(mode=mode), f, x)
        assert g @ found > 0, mode
    # A^-1 g for a positive definite A = H + m I with m just above 2
    raised, _ = direction(scale_by_newton(0.0), f, x)
    m = (q.T @ g) / (q.T @ raised) - e
    np.testing.assert_allclose(m, m[0], rtol=1e-4)
    assert 2 < m[0] < 2.01


@pytest.mark.parametrize("values", [[1, 2, 3, 4, 5], [-4, -1, 0, 1, 9], [0, 0, 0, 0, 0]])
def test_modified_cholesky(values):
    a = symmetric(values)
    lower, d = (np.asarray(v) for v in modified_cholesky(jnp.asarray(a)))
    error = lower * d @ lower.T - a
    np.testing.assert_allclose(error - np.diag(np.diag(error)), 0, atol=1e-12)
    assert (d > 0).all() and (np.diag(error) > -1e-12).all()
    np.testing.assert_array_equal(np.triu(lower, 1), 0)
    if min(values) > 0:  # N&W: nothing is added where the factors are well behaved
        np.testing.assert_allclose(np.diag(error), 0, atol=1e-12)
        np.testing.assert_allclose(lower * np.sqrt(d), np.linalg.cholesky(a), rtol=1e-12)
    elif any(values):
        assert np.abs(np.diag(error)).max() < 10 * np.abs(values).max()


def test_factors_of_the_modified_cholesky_are_bounded():
    # N&W 3.50: |l_ij| sqrt(d_j) <= beta, where the plain factor would have 1e8 in it
    a = np.array([[1e-8, 1.0, 0.3], [1.0, 0.5, -2.0], [0.3, -2.0, 1.0]])
    lower, d = (np.asarray(v) for v in modified_cholesky(jnp.asarray(a)))
    beta = np.sqrt(max(1.0, 2.0 / np.sqrt(8)))
    assert (np.abs(np.tril(lower, -1)) * np.sqrt(d) <= beta * (1 + 1e-12)).all()
    error = lower * d @ lower.T - a
    np.testing.assert_allclose(error - np.diag(np.diag(error)), 0, atol=1e-12)
    assert np.abs(error).max() < 20


# --- the trust region --------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [1e-3, 0.5, 3.0, 1e3])
@pytest.mark.parametrize("least", [-3.0, -1e-9, 0.0, 0.5])
def test_steps_meet_the_conditions_of_more_and_sorensen(radius, least):
    values = np.array([least, 1.0, 2.0, 7.0])
    for seed in range(20):
        g = np.random.default_rng(seed).normal(size=4)
        g[0] *= [1.0, 1e-6, 0.0][seed % 3]  # nearly hard and hard cases too
        model = trust_region.Model(
            jnp.asarray(values), jnp.asarray(values), jnp.asarray(g), jnp.eye(4)
        )
        y = np.asarray(jax.jit(trust_region.solve)(model, radius, 0.0))
        assert np.linalg.norm(y) <= radius * (1 + 1e-9)
        # (e + m) y = -g with one m >= max(0, -e_min), and m > 0 only at the edge
        m = -y @ (values * y + g) / (y @ y)
        assert m >= max(0.0, -least) - 1e-6 * (1 + m)
        residual = (values + m) * y + g
        assert np.abs(residual).max() <= 1e-5 * (np.abs(g).max() + np.abs(m * y).max())
        if m > 1e-6 * (1 + abs(least)):
            np.testing.assert_allclose(np.linalg.norm(y), radius, rtol=1e-2)


def test_the_search_grows_shrinks_and_survives_walls():
    one = jnp.ones(1)
    model = trust_region.Model(one, one, -one, jnp.eye(1))  # promises a minimum at 1
    far = lambda s: jnp.sum((s - 1e4) ** 2) / 1e4  # falls far beyond it  # noqa: E731
    found = trust_region.search(far, far(0 * one), model, jnp.float64(10.0), jnp.float64(0.0))
    assert found.step[0] > 1000 and found.radius >= found.step[0]
    flat = trust_region.Model(0 * one, 0 * one, -one, jnp.eye(1))
    line = lambda s: -jnp.sum(s) + 1e-6 * jnp.sum(s**2)  # noqa: E731
    found = trust_region.search(line, line(0 * one), flat, jnp.float64(1.0), jnp.float64(0.0))
    assert found.step[0] > 1e4 and found.evals > 10  # the radius was doubled again and again
    wall = lambda s: jnp.where(s[0] > 1e-5, jnp.nan, -s[0])  # noqa: E731
    found = trust_region.search(wall, wall(0 * one), model, jnp.float64(1.0), jnp.float64(0.0))
    assert 1e-7 < found.step[0] <= 1e-5
    up = lambda s: jnp.abs(s[0])  # the model is wrong in sign  # noqa: E731
    found = trust_region.search(up, up(0 * one), model, jnp.float64(1.0), jnp.float64(0.0))
    assert found.step[0] == 0 and 0 < found.radius < 1e-3


# --- order, invariance, saddles ----------------------------------------------------------------


def smooth(x):  # strictly convex, minimum at the solution of sinh(x) + A x = b
    a = jnp.asarray(symmetric([0.5, 1.0, 2.0]))
    return jnp.sum(jnp.cosh(x)) + 0.5 * x @ a @ x - jnp.array([1.0, -2.0, 3.0]) @ x


@pytest.mark.parametrize("mode", MODES)
def test_convergence_is_quadratic(mode):
    points = path(newton(mode=mode), smooth, jnp.array([2.0, -1.0, 0.5]), 12)
    errors = np.linalg.norm(points - points[-1], axis=1)
    errors = errors[(errors < 0.5) & (errors > 1e-13)]
    orders = np.log(errors[1:]) / np.log(errors[:-1])
    assert len(orders) >= 2 and (orders[-2:] >= 1.8).all(), errors


def test_iterates_do_not_depend_on_linear_coordinates():
    n, rng = 4, np.random.default_rng(1)
    u, _ = np.linalg.qr(rng.normal(size=(n, n)))
    w, _ = np.linalg.qr(rng.normal(size=(n, n)))
    a, b = u * np.geomspace(1, 1e4, n) @ w, rng.normal(size=n)

    def f(x):
        return jnp.sum(jnp.cosh(x)) + jnp.sum(x[1:] * x[:-1]) * 0.3 + x[0]

    start = np.array([1.5, -2.0, 0.5, 1.0])
    tx = newton(radius=None)
    plain = path(tx, f, jnp.asarray(start), 6)
    moved = path(tx, lambda y: f(a @ y + b), jnp.asarray(np.linalg.solve(a, start - b)), 6)
    np.testing.assert_allclose(moved @ a.T + b, plain, rtol=1e-8, atol=1e-8)
    # damping belongs to the coordinates
    damped = newton(damping=0.1, radius=None)
    plain = path(damped, f, jnp.asarray(start), 6)
    moved = path(damped, lambda y: f(a @ y + b), jnp.asarray(np.linalg.solve(a, start - b)), 6)
    assert np.abs(moved @ a.T + b - plain).max() > 1e-2


def saddle(x):
    return x[0] ** 2 - x[1] ** 2 + 0.25 * x[1] ** 4


def test_newton_is_attracted_by_a_saddle_that_saddle_free_newton_leaves():
    start = jnp.array([1.0, 1e-8])
    still = path(newton(mode="plain", linesearch=None), lambda x: x[0] ** 2 - x[1] ** 2, start, 5)
    np.testing.assert_allclose(still[-1], 0, atol=1e-15)
    for tx in (saddle_free_newton(), saddle_free_newton(rank=2), newton()):
        points = path(tx, saddle, start, 60)
        np.testing.assert_allclose(np.abs(points[-1]), [0, 2**0.5], atol=1e-6)
    # without a radius |H|^-1 doubles the distance along the negative curvature in every step
    free = newton(mode="abs", radius=None, linesearch=None)
    points = path(free, lambda x: x[0] ** 2 - x[1] ** 2, start, 5)
    np.testing.assert_allclose(points[:, 1], 1e-8 * 2.0 ** np.arange(6), rtol=1e-12)


@pytest.mark.slow
def test_krylov_is_the_exact_method_in_the_whole_space():
    a, b, x = (
        symmetric([-2, -0.5, 0.1, 1, 3, 8]),
        RNG.normal(size=6),
        jnp.asarray(RNG.normal(size=6)),
    )
    f = quadratic(a, b)
    exact, _ = direction(scale_by_newton(0.2, mode="abs"), f, x)
    found, state = direction(scale_by_saddle_free_krylov(6, damping=0.2, radius=None), f, x)
    np.testing.assert_allclose(found, exact, rtol=1e-8)
    assert state.hessian_products == 6
    # in a subspace: V' (|T| + m)^-1 V g, written out by NumPy
    found, _ = direction(scale_by_saddle_free_krylov(3, damping=0.2, radius=None), f, x)
    g = a @ x - b
    v, _ = np.linalg.qr(np.stack([g, a @ g, a @ a @ g], 1))
    e, q = np.linalg.eigh(v.T @ a @ v)
    np.testing.assert_allclose(found, v @ q @ (q.T @ v.T @ g / (np.abs(e) + 0.2)), rtol=1e-8)


@pytest.mark.slow
def test_krylov_remembers_the_last_direction():
    f = quadratic(symmetric(np.geomspace(1, 1e3, 10)), np.ones(10))
    tx = scale_by_saddle_free_krylov(2)
    x = jnp.zeros(10)
    u, state = tx.update(jax.grad(f)(x), tx.init(x), x, value_fn=f)
    x = x - u
    u, _ = tx.update(jax.grad(f)(x), state, x, value_fn=f)
    g, a = np.asarray(jax.grad(f)(x)), np.asarray(jax.hessian(f)(x))
    inside = np.stack([g, a @ g, np.asarray(state.last)], 1)
    coefficients = np.linalg.lstsq(inside, np.asarray(u))[0]
    np.testing.assert_allclose(inside @ coefficients, u, rtol=1e-6, atol=1e-12)
    assert abs(coefficients[2]) > 1e-3
    # the minimiser in that space: nothing of the gradient is left in it
    left = np.asarray(jax.grad(f)(x - u))
    np.testing.assert_allclose(left @ inside / np.linalg.norm(inside, axis=0), 0, atol=1e-6)


# --- complete optimizers -----------------------------------------------------------------------

GTOL = {"float64": 1e-8, "float32": 1e-4}
COMPLETE = {
    "newton": newton,
    "cholesky": functools.partial(newton, mode="cholesky"),
    "no radius": functools.partial(newton, radius=None),
    "saddle_free": saddle_free_newton,
    "krylov": functools.partial(saddle_free_newton, rank=3),
}
USUAL = {"newton", "saddle_free", "krylov"}  # the others by --slow


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(name, dtype, marks=[] if name in quick else [pytest.mark.slow])
        for dtype, quick in {"float64": USUAL, "float32": {"newton"}}.items()
        for name in COMPLETE
    ],
)
def test_rosenbrock_is_solved_by_few_gradients(name, dtype):
    found = minimize(
        COMPLETE[name](), rosenbrock, jnp.array([-1.2, 1.0, 0.5], dtype), gtol=GTOL[dtype]
    )
    np.testing.assert_allclose(found.params, 1, atol=1e-2 if dtype == "float32" else 1e-4)
    assert found.params.dtype == dtype
    assert found.njev <= 60 and found.value < 1e-4


@pytest.mark.parametrize(
    "name", [n if n in USUAL else pytest.param(n, marks=pytest.mark.slow) for n in COMPLETE]
)
def test_values_never_rise_and_walls_hold(name):
    def f(x):  # NaN outside a ball, and outside the domain of the logarithm
        inside = jnp.sum(x**2) < 9
        return jnp.where(inside, rosenbrock(x) - jnp.log(x[0] + 1.5), jnp.nan)

    points = path(COMPLETE[name](), f, jnp.array([-1.2, 1.0]), 30)
    values = np.array([f(x) for x in points])
    assert np.isfinite(points).all() and np.isfinite(values).all()
    assert (np.diff(values) <= 1e-13 * np.abs(values[:-1])).all()
    assert values[-1] < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("make", [newton, saddle_free_newton])
def test_a_curvature_lost_in_rounding_does_not_hold_the_step_back(make):
    def powell_badly_scaled(x):  # near the minimum curvatures of 1.6e10 and 2.5e-8
        a, b = 1e4 * x[0] * x[1] - 1, jnp.exp(-x[0]) + jnp.exp(-x[1]) - 1.0001
        return a * a + b * b

    found = minimize(make(), powell_badly_scaled, jnp.array([0.0, 1.0]), gtol=1e-10, max_iter=200)
    assert found.status == 0
    assert found.value < 1e-9


@pytest.mark.slow
def test_a_hessian_serves_several_updates():
    f = quadratic(symmetric([1, 2, 3]), np.ones(3))
    tx = scale_by_newton(every=3)
    x = jnp.zeros(3)
    state, costs = tx.init(x), []
    for _ in range(6):
        u, state = tx.update(jax.grad(f)(x), state, x, value_fn=f)
        x = x - 0.5 * u
        costs.append(int(state.hessian_products))
    assert costs == [3, 3, 3, 6, 6, 6]
    a = symmetric([1, 2, 3])
    np.testing.assert_allclose(x, (1 - 0.5**6) * np.linalg.solve(a, np.ones(3)), rtol=1e-10)
    # the Hessian of the first point is used at the second one
    cubic = lambda x: jnp.sum(x**3)  # noqa: E731
    _, state = tx.update(jnp.ones(3), tx.init(x), jnp.ones(3), value_fn=cubic)
    u, _ = tx.update(jnp.ones(3), state, 2 * jnp.ones(3), value_fn=cubic)
    np.testing.assert_allclose(u, 1 / 6, rtol=1e-12)


def test_a_known_hessian_is_used():
    x = {"b": jnp.ones(2), "a": jnp.float64(3.0)}
    f = lambda p: jnp.sum(p["b"] ** 2) + p["a"] ** 2  # noqa: E731
    tx = scale_by_newton(hessian_fn=lambda p: jnp.diag(jnp.array([4.0, 1.0, 1.0])))
    found, state = direction(tx, f, x)
    np.testing.assert_allclose(found["a"], 6 / 4)
    np.testing.assert_allclose(found["b"], 2.0)
    assert state.hessian_products == 0


@pytest.mark.slow
def test_trees_types_and_complex_numbers():
    p = {
        "w": jnp.ones((2, 2), jnp.bfloat16),
        "none": None,
        "b": (jnp.float32(2.0), jnp.zeros((0,))),
    }
    f = lambda p: jnp.sum(p["w"].astype(jnp.float32) ** 2) + p["b"][0] ** 2  # noqa: E731
    for tx in (newton(), saddle_free_newton(), saddle_free_newton(rank=2)):
        state = tx.init(p)
        value, grad = jax.value_and_grad(f)(p)
        u, new = jax.jit(functools.partial(tx.update, value_fn=f))(
            grad, state, p, value=value, grad=grad
        )
        assert jax.tree.map(jnp.result_type, u) == jax.tree.map(jnp.result_type, p)
        assert jax.tree.map(jnp.result_type, new) == jax.tree.map(jnp.result_type, state)
        assert f(optax.apply_updates(p, u)) < 0.2 * value
    z, goal = jnp.array([1 + 2j, -1j]), jnp.array([3 - 1j, 2.0])
    f = lambda z: jnp.sum(jnp.abs(z - goal) ** 2 * jnp.array([1.0, 50.0]))  # noqa: E731
    for make in (scale_by_newton(), scale_by_saddle_free_krylov(4, radius=None)):
        u, _ = make.update(jnp.conj(jax.grad(f)(z)), make.init(z), z, value_fn=f)
        np.testing.assert_allclose(z - u, goal, rtol=1e-9)


@pytest.mark.slow
def test_starts_in_parallel_go_the_ways_of_a_loop():
    starts = jnp.asarray(np.random.default_rng(5).uniform(-2, 2, size=(8, 2)))
    for tx in (newton(), saddle_free_newton(rank=2)):
        run = functools.partial(minimize, tx, rosenbrock, max_iter=40)
        found = jax.jit(jax.vmap(run))(starts)
        for i in (0, 5):
            one = jax.jit(run)(starts[i])
            np.testing.assert_allclose(found.params[i], one.params, rtol=1e-9)
            assert found.nit[i] == one.nit


def test_hidden_parameters_leave_the_gradient():
    p = {"a": jnp.ones(2), "b": jnp.ones(2)}
    f = lambda p: jnp.sum(p["a"] ** 2) + jnp.sum(p["b"] ** 2)  # noqa: E731
    tx = optax.masked(scale_by_newton(), {"a": True, "b": False})
    with pytest.warns(UserWarning, match="blockwise"):
        u, _ = tx.update(jax.grad(f)(p), tx.init(p), p, value_fn=f)
    np.testing.assert_allclose(u["a"], 2.0)


def test_what_is_not_finite_is_not_followed():
    f = lambda x: jnp.sum(x) + jnp.where(x[0] > 0, jnp.sum(jnp.sqrt(x - x)), 0.0)  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        u, _ = scale_by_newton().update(
            jnp.ones(2), scale_by_newton().init(jnp.ones(2)), jnp.ones(2), value_fn=f
        )
    assert jnp.isfinite(u).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: newton(damping=-1.0), r"\(damping=...\) must be >= 0, got -1.0"),
        (lambda: newton(radius=0.0), r"\(radius=...\) must be > 0, got 0.0"),
        (lambda: newton(every=0), r"\(every=...\) must be >= 1, got 0"),
        (lambda: newton(mode="other"), r"\(mode=...\) must be shift, abs, cholesky or plain, got"),
        (lambda: saddle_free_newton(rank=0), r"\(rank=...\) must be >= 1, got 0"),
        (lambda: saddle_free_newton(rank=2, radius=-1.0), r"\(radius=...\) must be > 0, got -1.0"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("tx", [scale_by_newton(), scale_by_saddle_free_krylov()])
def test_params_are_asked_for(tx):
    with pytest.raises(ValueError, match="params"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)), value_fn=rosenbrock)


def test_the_model_is_that_of_the_hessian():
    a, g = symmetric([-1, 2, 3]), RNG.normal(size=3)
    values, vectors = jnp.linalg.eigh(jnp.asarray(a))
    model = make_model(values, jnp.asarray(g), vectors, absolute=False)
    y = RNG.normal(size=3)
    step = np.asarray(model.basis) @ y
    promised = model.slopes @ y + 0.5 * jnp.sum(model.bent * y * y)
    np.testing.assert_allclose(promised, g @ step + 0.5 * step @ a @ step, rtol=1e-12)
    assert tree.norm(curvature.hessian(quadratic(a, g), jnp.zeros(3)) - a) < 1e-12
