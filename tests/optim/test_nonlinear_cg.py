import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import fmin_cg

from fdl import optim
from tests.optim.problems import (
    FUNCTIONS,
    exact_search,
    fixed_steps,
    linear_cg,
    path,
    quadratic,
)

USUAL = {("pr+", "beale"), ("dy", "wood")}  # the others by --slow, hz in test_minimize
RULES = ["hz", "pr+", "pr", "fr", "prfr", "hs", "dy", "hs-dy"]


def beta(rule, g, p, d, eta=0.01):
    """The literature's formulas; p is the gradient before g, d the last direction, downhill."""
    y = g - p
    fr, pr, hs, dy = g @ g / (p @ p), g @ y / (p @ p), g @ y / (d @ y), g @ g / (d @ y)
    hz = (y - 2 * d * (y @ y) / (d @ y)) @ g / (d @ y)
    least = -1 / (np.linalg.norm(d) * min(eta, np.linalg.norm(p)))
    return {
        "hz": max(hz, least),
        "pr+": max(0, pr),
        "pr": pr,
        "fr": fr,
        "prfr": min(fr, max(-fr, pr)),
        "hs": hs,
        "dy": dy,
        "hs-dy": max(0, min(hs, dy)),
    }[rule]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_linear_conjugate_gradients_on_a_quadratic(rule):
    a, b, best = quadratic(12, condition=8.0)
    tx = optim.nonlinear_cg(rule=rule, linesearch=exact_search(a))
    points, _ = path(tx, lambda x: x @ a @ x / 2 - b @ x, np.zeros(12), 12)
    np.testing.assert_allclose(points, linear_cg(a, b, np.zeros(12), 12), atol=1e-8)
    np.testing.assert_allclose(points[-1], best, atol=1e-8)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["wood", pytest.param("logistic", marks=pytest.mark.slow)])
def test_directions_are_those_of_the_formulas(rule, name):
    fun, x0 = FUNCTIONS[name]
    grad = jax.jit(jax.grad(fun))
    tx = optim.scale_by_nonlinear_cg(rule)
    rng = np.random.default_rng(0)
    x, state, last = x0, tx.init(x0), None
    restarts = 0
    for k in range(8):
        g = np.array(grad(x))
        direction, state = tx.update(jnp.asarray(g), state, x)
        d = -np.array(direction)
        if last is not None:
            expected = -g + beta(rule, g, *last) * last[1]
            if expected @ g >= 0:  # not downhill
                expected, restarts = -g, restarts + 1
            np.testing.assert_allclose(d, expected, rtol=1e-9, atol=1e-12)
        last = g, d if k else -g
        x = x + rng.uniform(0.01, 0.1) * d / np.linalg.norm(d)
    assert restarts < 4


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("growth", [1.0, 1e6])  # with 1e6 |g_| is below eta, in the bound of hz
def test_rules_are_the_formulas_for_any_vectors(rule, growth):
    rng = np.random.default_rng(0)
    tx = optim.scale_by_nonlinear_cg(rule, eta=0.1)
    update, seen = jax.jit(tx.update), []
    for _ in range(60):
        g, p, d = rng.normal(size=(3, 3)) * np.array([[growth**0.5], [growth**-0.5], [1.0]])
        state = tx.init(g)._replace(count=1, since=1, updates=p, direction=-d)
        found, after = update(g, state, g)
        b = beta(rule, g, p, d, eta=0.1)
        down = (-g + b * d) @ g < -1e-12 * np.linalg.norm(g) * np.linalg.norm(-g + b * d)
        np.testing.assert_allclose(found, g - b * d if down else g, rtol=1e-9, atol=1e-9)
        assert after.since == (2 if down else 1)
        seen.append(down)
    assert any(seen)


def test_with_the_steps_of_scipy_it_goes_the_way_of_scipy():
    fun, x0 = FUNCTIONS["logistic"]
    f, g = jax.jit(fun), jax.jit(jax.grad(fun))
    *_, points = fmin_cg(
        f, x0, lambda x: np.array(g(x)), gtol=1e-4, disp=False, full_output=True, retall=True
    )
    points = np.array(points)[:6]
    d, before, steps = None, None, []
    for k in range(len(points) - 1):
        gradient = np.array(g(points[k]))
        if d is None:
            d = -gradient
        else:
            d = -gradient + beta("pr+", gradient, before, d) * d
        steps.append((points[k + 1] - points[k]) @ d / (d @ d))
        before = gradient
    direction = optim.scale_by_nonlinear_cg("pr+")
    first, _ = direction.update(g(x0), direction.init(x0), x0, value=f(x0))
    steps[0] *= float(np.linalg.norm(g(x0)) / np.linalg.norm(first))
    tx = optim.nonlinear_cg(rule="pr+", linesearch=fixed_steps(steps))
    ours, _ = path(tx, fun, x0, len(steps))
    assert len(points) == 6
    np.testing.assert_allclose(ours, points, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        pytest.param(rule, name, marks=[] if (rule, name) in USUAL else [pytest.mark.slow])
        for rule in RULES
        for name in FUNCTIONS
    ],
)
def test_every_rule_finds_a_minimum(rule, name):
    fun, x0 = FUNCTIONS[name]
    found = optim.minimize(optim.nonlinear_cg(rule=rule), fun, x0, max_iter=2000)
    assert found.status == optim.Status.CONVERGED
    assert np.linalg.eigvalsh(jax.hessian(fun)(found.params)).min() > 0


@pytest.mark.parametrize(
    ("options", "anew"), [({"restart_every": 2}, [1, 2, 1, 2]), ({"powell_nu": 1e-9}, [1, 1, 1, 1])]
)
def test_restarts(options, anew):
    fun, x0 = FUNCTIONS["wood"]
    tx = optim.scale_by_nonlinear_cg("pr+", **options)
    x, state, since = x0, tx.init(x0), []
    for _ in range(4):
        g = jax.grad(fun)(x)
        d, state = tx.update(g, state, x)
        since.append(int(state.since))
        x = x - 1e-4 * d
    assert since == anew


def test_gradients_that_are_not_orthogonal_begin_anew():
    rng, seen = np.random.default_rng(0), []
    tx = optim.scale_by_nonlinear_cg("fr", powell_nu=0.3)
    update = jax.jit(tx.update)
    for _ in range(40):
        g, p = rng.normal(size=(2, 4))
        state = tx.init(g)._replace(count=1, since=1, updates=p, direction=g)  # surely downhill
        seen.append(abs(g @ p) >= 0.3 * g @ g)
        assert update(g, state, g)[1].since == (1 if seen[-1] else 2)
    assert 10 < sum(seen) < 30


def test_a_search_that_finds_nothing_begins_anew():
    tx = optim.scale_by_nonlinear_cg()
    g = jnp.array([3.0, 4.0])
    _, state = tx.update(g, tx.init(g), g)
    d, state = tx.update(g, state, g)
    assert state.since == 1
    np.testing.assert_allclose(d, g / 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "cd"}, r"nonlinear_cg\(rule=...\) must be one of hz, pr\+, .*, got 'cd'"),
        ({"restart_every": 0}, r"\(restart_every=...\) must be >= 1, got 0"),
        ({"powell_nu": 0.0}, r"\(powell_nu=...\) must be > 0, got 0"),
        ({"eta": 0.0}, r"\(eta=...\) must be > 0, got 0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        optim.nonlinear_cg(**options)
