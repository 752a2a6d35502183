"""Newton-CG and Hessian-free: forcing terms, dense solves, the rule of the damping."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fdl import curvature, data, tree
from fdl.curvature import CGStatus
from fdl.optim import minimize
from fdl.optim.hessian_free import hessian_free, scale_by_hessian_free
from fdl.optim.newton_cg import newton_cg, scale_by_newton_cg

pytestmark = pytest.mark.usefixtures("compile_quickly")

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(40, 5)))
Y = jnp.asarray(np.eye(3)[RNG.integers(0, 3, 40)])


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Draw the same numbers in each test, whichever ran before."""
    global RNG
    RNG = np.random.default_rng(1)


def symmetric(values, seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))
    return q * np.asarray(values, float) @ q.T


def quadratic(a, b):
    return lambda x: 0.5 * x @ jnp.asarray(a, x.dtype) @ x - jnp.asarray(b, x.dtype) @ x


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def model(p, x):
    return jnp.tanh(x @ p["w"]) @ p["u"]


def loss(z, y):
    return -(y * jax.nn.log_softmax(z)).sum(-1).mean()


def divergence(a, z):
    return -(jax.nn.softmax(a) * jax.nn.log_softmax(z)).sum(-1).mean()


def network():
    rng = np.random.default_rng(1)
    params = {"u": jnp.asarray(rng.normal(size=(4, 3))), "w": jnp.asarray(rng.normal(size=(5, 4)))}
    return params, lambda p, x, y: loss(model(p, x), y)


def path(tx, f, x, steps):
    """The iterates of a complete optimizer, and the last state."""

    @jax.jit
    def step(x, state):
        value, grad = jax.value_and_grad(f)(x)
        updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=f)
        return optax.apply_updates(x, updates), state

    state, points = tx.init(x), [x]
    for _ in range(steps):
        x, state = step(x, state)
        points.append(x)
    return np.array(points), state


# --- the linear systems ------------------------------------------------------------------------


@pytest.mark.parametrize("tol", [0.5, 1e-2, 1e-6])
@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_the_residual_is_as_small_as_asked_for(tol, damping):
    a = symmetric(np.geomspace(0.1, 10, 12))
    f, x = quadratic(a, RNG.normal(size=12)), jnp.asarray(RNG.normal(size=12))
    g = np.asarray(jax.grad(f)(x))
    tx = scale_by_newton_cg(tol=tol, damping=damping, search=False)
    u, state = tx.update(jnp.asarray(g), tx.init(x), x, value_fn=f)
    left = np.linalg.norm(g - (a + damping * np.eye(12)) @ np.asarray(u)) / np.linalg.norm(g)
    assert left <= tol * 1.01
    assert 0 < state.hessian_products <= 24 and state.status == CGStatus.CONVERGED
    if tol == 1e-6:
        np.testing.assert_allclose(
            u, np.linalg.solve(a + damping * np.eye(12), g), rtol=1e-4, atol=1e-5
        )


@pytest.mark.slow
def test_forcing_terms_of_eisenstat_and_walker():
    f = lambda x: jnp.sum(jnp.cosh(x) + 0.1 * x**2) + 0.3 * jnp.sum(x[1:] * x[:-1])  # noqa: E731
    tx = scale_by_newton_cg(search=False)
    x = jnp.asarray(RNG.normal(size=30))
    state, before = tx.init(x), None
    for _ in range(6):
        g = jax.grad(f)(x)
        u, state = tx.update(g, state, x, value_fn=f)
        size = float(jnp.linalg.norm(g))
        np.testing.assert_allclose(state.grad_norm, size, rtol=1e-12)
        left = float(jnp.linalg.norm(g - jax.hessian(f)(x) @ u)) / size
        if before is not None and state.status == CGStatus.CONVERGED:
            assert left <= max(1e-10, 0.9 * (size / before) ** 2) * 1.01
        x, before = x - u, size
    assert before < 1e-6


def test_negative_curvature_is_followed_downhill():
    a = symmetric([-3.0, 0.5, 1.0, 2.0, 4.0, 9.0])
    f, x = quadratic(a, RNG.normal(size=6)), jnp.asarray(RNG.normal(size=6))
    g = jax.grad(f)(x)
    for search in (False, True):
        tx = scale_by_newton_cg(search=search)
        u, state = tx.update(g, tx.init(x), x, value_fn=f)
        assert state.status == CGStatus.NEGATIVE_CURVATURE
        assert g @ u > 0 and (not search or f(x - u) < f(x))
    np.testing.assert_allclose(state.radius, jnp.linalg.norm(u), rtol=1e-9)
    # -|x|^2 / 2 is unbounded: the step is lengthened by values alone, as far as trials go
    hill, x = quadratic(-np.eye(3), np.zeros(3)), jnp.array([1e-3, 0.0, 0.0])
    u, state = tx.update(jax.grad(hill)(x), tx.init(x), x, value_fn=hill)
    assert u[0] < -1e3 and (u[1:] == 0).all()


@pytest.mark.parametrize("kind", ["gauss_newton", "fisher"])
def test_gauss_newton_and_fisher_systems(kind):
    params, f = network()
    g = jax.grad(f)(params, X, Y)
    tx = scale_by_newton_cg(
        tol=1e-10,
        damping=0.1,
        curvature=kind,
        model_fn=model,
        loss_fn=loss if kind == "gauss_newton" else divergence,
        search=False,
    )
    u, _ = tx.update(g, tx.init(params), params, value_fn=f, grad=g, x=X, y=Y, unknown=3)
    dense = curvature.gauss_newton(lambda p: model(p, X), lambda z: loss(z, Y), params)
    flat, _ = tree.ravel(g)
    expected = np.linalg.solve(dense + 0.1 * np.eye(len(flat)), flat)
    np.testing.assert_allclose(tree.ravel(u)[0], expected, rtol=1e-6, atol=1e-9)


def test_a_given_product_takes_the_place_of_ours():
    f, x = quadratic(np.eye(3), np.ones(3)), jnp.zeros(3)
    tx = scale_by_newton_cg(search=False)
    u, _ = tx.update(
        jax.grad(f)(x), tx.init(x), x, value_fn=f, hvp_fn=lambda p, v: 4.0 * v, value=f(x)
    )
    np.testing.assert_allclose(u, -0.25, rtol=1e-12)


@pytest.mark.slow
def test_flattened_parameters_and_complex_ones():
    params, f = network()
    g = jax.grad(f)(params, X, Y)
    value = f(params, X, Y)
    tx = optax.flatten(newton_cg(curvature="gauss_newton", model_fn=model, loss_fn=loss))
    extras = {"value": value, "grad": g, "value_fn": f, "x": X, "y": Y}
    u, _ = tx.update(g, tx.init(params), params, **extras)
    assert f(optax.apply_updates(params, u), X, Y) < value
    z, goal = jnp.array([1 + 2j, -1j]), jnp.array([3 - 1j, 2.0])
    f = lambda z: jnp.sum(jnp.abs(z - goal) ** 2 * jnp.array([1.0, 50.0]))  # noqa: E731
    tx = scale_by_newton_cg(tol=1e-10)
    u, _ = tx.update(jnp.conj(jax.grad(f)(z)), tx.init(z), z, value_fn=f)
    np.testing.assert_allclose(z - u, goal, rtol=1e-9)


# --- complete optimizers -----------------------------------------------------------------------


def test_convergence_is_superlinear():
    f = lambda x: jnp.sum(jnp.cosh(x) + 0.1 * x**2) + 0.3 * jnp.sum(x[1:] * x[:-1]) + x[0]  # noqa: E731
    points, _ = path(newton_cg(), f, jnp.asarray(2 * RNG.normal(size=20)), 12)
    errors = np.linalg.norm(points - points[-1], axis=1)
    errors = errors[(errors < 0.5) & (errors > 1e-12)]
    ratios = errors[1:] / errors[:-1]
    assert len(ratios) >= 2 and ratios[-1] < 0.02 and ratios[-1] < ratios[0]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", [2, 30])
def test_rosenbrock_is_solved_by_few_gradients(n, dtype):
    x = jnp.resize(jnp.array([-1.2, 1.0], dtype), n)
    found = jax.jit(functools.partial(minimize, newton_cg(), rosenbrock, gtol=1e-6))(x)
    assert found.params.dtype == dtype and found.njev < (30 if n == 2 else 100)
    np.testing.assert_allclose(found.params, 1, atol=2e-2 if dtype == "float32" else 1e-3)
    assert found.nhev > found.nit


def test_values_never_rise_and_walls_hold():
    def f(x):
        inside = jnp.sum(x**2) < 9
        return jnp.where(inside, rosenbrock(x) - jnp.log(x[0] + 1.5), jnp.nan)

    points, _ = path(newton_cg(), f, jnp.array([-1.2, 1.0]), 30)
    values = np.array([f(x) for x in points])
    assert np.isfinite(points).all() and np.isfinite(values).all()
    assert (np.diff(values) <= 1e-13 * np.abs(values[:-1])).all() and values[-1] < 0.1


@pytest.mark.slow
def test_starts_in_parallel_go_the_ways_of_a_loop():
    starts = jnp.asarray(np.random.default_rng(5).uniform(-2, 2, size=(6, 2)))
    run = functools.partial(minimize, newton_cg(), rosenbrock, max_iter=40)
    found = jax.jit(jax.vmap(run))(starts)
    one = jax.jit(run)(starts[3])
    np.testing.assert_allclose(found.params[3], one.params, rtol=1e-9)
    assert found.nit[3] == one.nit


# --- Hessian-free ------------------------------------------------------------------------------


@pytest.mark.parametrize("probes", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_hessian_free_solves_the_damped_system(probes):
    params, f = network()
    g = jax.grad(f)(params, X, Y)
    tx = scale_by_hessian_free(model, loss, damping=0.5, max_cg=40, probes=probes)
    u, state = tx.update(g, tx.init(params), params, value_fn=f, grad=g, x=X, y=Y)
    dense = np.asarray(curvature.gauss_newton(lambda p: model(p, X), lambda z: loss(z, Y), params))
    flat, _ = tree.ravel(g)
    expected = np.linalg.solve(dense + 0.5 * np.eye(len(flat)), flat)
    # Martens' rule stops early, and backtracking takes an earlier iterate where f is less there
    np.testing.assert_allclose(-state.last, expected, atol=5e-3 * np.abs(expected).max())
    after = f(optax.apply_updates(params, jax.tree.map(jnp.negative, u)), X, Y)
    exact = tree.ravel(params)[1](tree.ravel(params)[0] - expected)
    assert after <= f(exact, X, Y) + 1e-4 and after < f(params, X, Y)


def test_damping_follows_levenberg_and_marquardt():
    # loss(model(x)) is the quadratic that the method believes in: all that is promised is found
    tx = scale_by_hessian_free(lambda x: x, lambda z: 0.5 * jnp.sum((z - 1) ** 2), damping=0.3)
    f = lambda x: 0.5 * jnp.sum((x - 1) ** 2)  # noqa: E731
    x = jnp.zeros(3)
    _, state = tx.update(jax.grad(f)(x), tx.init(x), x, value_fn=f)
    np.testing.assert_allclose(state.damping, 0.3 * 2 / 3, rtol=1e-12)
    # f is steeper than the model on the way: little of what was promised is found
    g = lambda x: f(x) + 40 * jnp.sum(jnp.maximum(x - 0.1, 0) ** 2)  # noqa: E731
    _, state = tx.update(jax.grad(g)(x), tx.init(x), x, value_fn=g)
    np.testing.assert_allclose(state.damping, 0.3 * 3 / 2, rtol=1e-12)
    # in between it stays
    h = lambda x: f(x) + 0.28 * jnp.sum(x**2)  # noqa: E731
    _, state = tx.update(jax.grad(h)(x), tx.init(x), x, value_fn=h)
    np.testing.assert_allclose(state.damping, 0.3, rtol=1e-12)


@pytest.mark.slow
def test_the_next_system_starts_at_the_last_solution():
    a = jnp.asarray(np.geomspace(0.01, 100, 40))
    outputs, value = (lambda x: jnp.sqrt(a) * x), (lambda z: 0.5 * jnp.sum(z**2))
    f = lambda x: value(outputs(x))  # noqa: E731
    x, g = jnp.ones(40), a
    warm = scale_by_hessian_free(outputs, value, damping=1e-3, decay=1.0, probes=0)
    _, state = warm.update(g, warm.init(x), x, value_fn=f)
    first = int(state.hessian_products)
    state = state._replace(damping=jnp.float64(1e-3))
    _, again = warm.update(g, state, x, value_fn=f)
    assert again.hessian_products - first < first


def test_hessian_free_solves_least_squares():
    outputs = lambda x: jnp.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])  # noqa: E731
    tx = hessian_free(outputs, lambda z: jnp.sum(z**2))
    f = lambda x: jnp.sum(outputs(x) ** 2)  # noqa: E731
    found = jax.jit(functools.partial(minimize, tx, f, gtol=1e-8))(jnp.array([-1.2, 1.0]))
    np.testing.assert_allclose(found.params, 1, atol=1e-6)
    assert found.njev < 60


@pytest.mark.slow
def test_hessian_free_trains_a_deep_autoencoder_better_than_momentum():
    """Of logistic units, whose plateau at the mean of the data is what the method was made for.

    With tanh, and weights that keep the signal's size, the best momentum is as good or better.
    """
    x = jnp.asarray(data.digits(flat=True).train["x"][:300], jnp.float32)
    sizes = [64, 32, 16, 6, 16, 32, 64]
    keys = jax.random.split(jax.random.key(0), len(sizes))
    params = [
        {"w": jax.random.normal(k, (m, n), jnp.float32) / m**0.5, "b": jnp.zeros(n, jnp.float32)}
        for k, m, n in zip(keys, sizes, sizes[1:], strict=False)
    ]

    def decode(p):
        h = x
        for layer in p[:-1]:
            h = jax.nn.sigmoid(h @ layer["w"] + layer["b"][None])
        return h @ p[-1]["w"] + p[-1]["b"][None]

    def squares(z):
        return 0.5 * jnp.mean(jnp.sum((z - x) ** 2, -1))

    f = lambda p: squares(decode(p))  # noqa: E731
    tx = hessian_free(decode, squares, max_cg=50)

    def step(carry, _):
        p, state = carry
        value, grad = optax.value_and_grad_from_state(f)(p, state=state)
        u, state = tx.update(grad, state, p, value=value, grad=grad, value_fn=f)
        products = optax.tree.get(state, "hessian_products")
        return (optax.apply_updates(p, u), state), (value, products)

    (p, _), (values, products) = jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), length=25))(
        params
    )
    # a product costs two passes forward and two back: twice a gradient
    passes = int(2 * products[-1] + 25)

    def momentum(rate, decay):
        sgd = optax.sgd(rate, momentum=decay, nesterov=True)

        def go(carry, _):
            p, state = carry
            u, state = sgd.update(jax.grad(f)(p), state)
            return (optax.apply_updates(p, u), state), None

        return f(jax.lax.scan(go, (params, sgd.init(params)), length=passes)[0][0])

    reached = float(f(p))
    rates = np.array([0.01, 0.03, 0.1, 0.3] * 3)
    decays = np.repeat([0.9, 0.95, 0.99], 4)
    others = jax.jit(jax.vmap(momentum))(rates.astype("f"), decays.astype("f"))
    assert np.isfinite(reached) and (np.diff(values) <= 1e-5).all()
    mean = float(squares(x.mean(0)[None]))
    assert np.nanmin(others) < 0.95 * mean, "momentum has not left the plateau"
    assert reached < 0.9 * np.nanmin(others), (reached, others, passes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: newton_cg(max_cg=0), r"\(max_cg=...\) must be >= 1, got 0"),
        (lambda: newton_cg(tol=0.0), r"\(tol=...\) must be > 0, got 0.0"),
        (lambda: newton_cg(tol="other"), r"\(tol=...\) must be a number or eisenstat, got 'other'"),
        (lambda: newton_cg(damping=-1), r"\(damping=...\) must be >= 0, got -1"),
        (lambda: newton_cg(curvature="other"), r"\(curvature=...\) must be hessian, gauss_newton"),
        (lambda: newton_cg(curvature="fisher"), r"'fisher'\) must be given model_fn and loss_fn"),
        (lambda: hessian_free(model, loss, damping=0.0), r"\(damping=...\) must be > 0, got 0.0"),
        (lambda: hessian_free(model, loss, max_cg=0), r"\(max_cg=...\) must be >= 1, got 0"),
        (lambda: hessian_free(model, loss, decay=2.0), r"\(decay=...\) must be in \[0, 1\], got"),
        (lambda: hessian_free(model, loss, probes=-1), r"\(probes=...\) must be >= 0, got -1"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("tx", [scale_by_newton_cg(), scale_by_hessian_free(model, loss)])
def test_params_are_asked_for(tx):
    with pytest.raises(ValueError, match="params"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)), value_fn=rosenbrock)
