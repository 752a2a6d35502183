import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fdl import optim
from tests.optim.problems import (
    FUNCTIONS,
    exact_search,
    fixed_steps,
    linear_cg,
    path,
    quadratic,
    usual,
)


@pytest.mark.parametrize("name", usual("beale", "wood"))
def test_with_room_for_all_pairs_it_is_bfgs(name):
    """BFGS whose first matrix is scaled by the newest pair, as L-BFGS does it, after each step."""
    fun, x0 = FUNCTIONS[name]
    steps = np.full(7, 0.05)
    points, _ = path(optim.lbfgs(memory_size=8, linesearch=fixed_steps(steps)), fun, x0, 7)
    gradients = [np.array(jax.grad(fun)(x)) for x in points]
    for k in range(2, 7):
        s, y = points[k] - points[k - 1], gradients[k] - gradients[k - 1]
        m = np.eye(len(x0)) * (s @ y) / (y @ y)
        for i in range(k):
            s, y = points[i + 1] - points[i], gradients[i + 1] - gradients[i]
            assert s @ y > 0
            left = np.eye(len(x0)) - np.outer(s, y) / (s @ y)
            m = left @ m @ left.T + np.outer(s, s) / (s @ y)
        expected = -steps[k] * m @ gradients[k]
        np.testing.assert_allclose(points[k + 1] - points[k], expected, rtol=1e-8, atol=1e-12)


def test_short_memory_forgets_the_oldest_pairs():
    fun, x0 = FUNCTIONS["wood"]
    steps = np.full(9, 0.02)
    points, _ = path(optim.lbfgs(memory_size=3, linesearch=fixed_steps(steps)), fun, x0, 9)
    gradients = [np.array(jax.grad(fun)(x)) for x in points]
    s, y = points[8] - points[7], gradients[8] - gradients[7]
    m = np.eye(4) * (s @ y) / (y @ y)
    for i in (5, 6, 7):
        s, y = points[i + 1] - points[i], gradients[i + 1] - gradients[i]
        left = np.eye(4) - np.outer(s, y) / (s @ y)
        m = left @ m @ left.T + np.outer(s, s) / (s @ y)
    expected = -steps[8] * m @ gradients[8]
    np.testing.assert_allclose(points[9] - points[8], expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("memory_size", [1, 5])
def test_on_a_quadratic_it_is_linear_conjugate_gradients(memory_size):
    a, b, best = quadratic(12, condition=8.0)
    tx = optim.lbfgs(memory_size=memory_size, linesearch=exact_search(a))
    points, _ = path(tx, lambda x: x @ a @ x / 2 - b @ x, np.zeros(12), 12)
    np.testing.assert_allclose(points, linear_cg(a, b, np.zeros(12), 12), atol=1e-8)
    np.testing.assert_allclose(points[-1], best, atol=1e-8)


def test_it_goes_the_way_of_optax_where_all_pairs_are_good():
    fun, x0 = FUNCTIONS["logistic"]
    steps = np.full(8, 0.5)
    theirs = optax.lbfgs(memory_size=4, linesearch=fixed_steps(steps))
    ours = optax.chain(optim.scale_by_lbfgs(4), optax.scale(-1.0), fixed_steps(steps))
    first = 1 / min(1.0, 1 / np.linalg.norm(jax.grad(fun)(x0)))

    def run(tx):
        x, state = jnp.asarray(x0), tx.init(jnp.asarray(x0))
        points = []
        update = jax.jit(lambda g, s, x: tx.update(g, s, x, grad=g, value_fn=fun))  # no value
        for _ in range(8):
            u, state = update(jax.grad(fun)(x), state, x)
            x = x + u
            points.append(x)
        return np.array(points)

    assert first >= 1
    np.testing.assert_allclose(run(ours), run(theirs), rtol=1e-9, atol=1e-12)


def test_pairs_without_curvature_never_make_an_ascent_direction():
    """sum cos x near its top, with steps of fixed length: optax's memory turns uphill there."""
    fun = lambda x: jnp.sum(jnp.cos(x))  # noqa: E731
    tx = optim.scale_by_lbfgs()
    x = jnp.array([0.3, 0.4])
    state = tx.init(x)
    update = jax.jit(tx.update)
    for _ in range(60):
        g = jax.grad(fun)(x)
        d, state = update(g, state, x)
        assert d @ g > 0
        assert (state.rates >= 0).all() and state.scale > 0
        x = x - 0.1 * d / jnp.maximum(1.0, jnp.linalg.norm(d))
    assert fun(x) < -1.9


def test_a_search_that_finds_nothing_empties_the_memory():
    tx = optim.scale_by_lbfgs(3)
    x, g = jnp.zeros(2), jnp.array([3.0, 4.0])
    _, state = tx.update(g, tx.init(x), x)
    _, state = tx.update(g + 1, state, x + 0.5)
    assert state.pairs == 1
    d, state = tx.update(g + 1, state, x + 0.5)
    assert state.pairs == 0 and not state.rates.any()
    np.testing.assert_allclose(d, (g + 1) / np.linalg.norm(g + 1), rtol=1e-12)


def test_a_direction_that_does_not_lead_down_empties_the_memory():
    tx = optim.scale_by_lbfgs(3)
    x, g = jnp.zeros(2), jnp.array([3.0, 4.0])
    _, state = tx.update(g, tx.init(x), x)
    _, state = tx.update(g + 1, state, x + 0.5)
    uphill, across = state._replace(scale=jnp.asarray(-1.0)), jnp.array([3.0, -3.0])
    d, state = tx.update(across, uphill, x + jnp.array([0.5, 0.6]))  # s'y < 0: nothing is learned
    np.testing.assert_allclose(d, across / np.linalg.norm(across), rtol=1e-12)
    assert state.pairs == 0 and not state.rates.any()


def test_where_init_was_given_is_no_step():
    tx = optim.scale_by_lbfgs(3)
    g = jnp.array([3.0, 4.0])
    d, state = tx.update(g, tx.init(jnp.zeros(2)), jnp.ones(2))  # s'g > 0
    np.testing.assert_allclose(d, g / 5, rtol=1e-12)
    assert state.pairs == 0


def test_halves_are_remembered_and_summed_in_float32():
    """In numbers that halves can hold the direction is that of float32, then rounded."""
    rng, tx = np.random.default_rng(0), optim.scale_by_lbfgs(3)
    curvature = jnp.asarray(np.geomspace(1, 30, 200), "bfloat16").astype("float32")
    points = jnp.asarray(rng.normal(size=(5, 200)), "bfloat16").astype("float32")
    gradients = (points * curvature[None]).astype("bfloat16").astype("float32")
    update, ends = jax.jit(tx.update), []
    for kind in ("bfloat16", "float32"):
        state = tx.init(points[0].astype(kind))
        for x, g in zip(points, gradients, strict=True):
            d, state = update(g.astype(kind), state, x.astype(kind))
        assert d.dtype == kind and state.pairs == 4
        ends.append(d)
    np.testing.assert_array_equal(ends[0], ends[1].astype("bfloat16"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_pairs_that_are_not_finite_are_not_learned(bad):
    """1e200 is finite, its square is not."""
    tx = optim.scale_by_lbfgs(3)
    x, g = jnp.zeros(2), jnp.array([3.0, 4.0])
    _, state = tx.update(g, tx.init(x), x)
    _, state = tx.update(g + 1, state, x + 0.5)
    _, after = tx.update(g + jnp.array([0.0, bad]), state, x + 1.0)
    for leaf in jax.tree.leaves((after.steps, after.changes, after.rates, after.scale)):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() < 10


def test_trees_of_mixed_types_keep_their_types():
    p = {"a": jnp.ones(3, jnp.bfloat16), "b": jnp.ones(2), "c": jnp.ones(2, jnp.float32)}
    fun = lambda p: sum(jnp.sum((a.astype(float) - 0.5) ** 2) for a in jax.tree.leaves(p))  # noqa: E731
    found = optim.minimize(optim.lbfgs(), fun, p, gtol=1e-2)
    assert jax.tree.map(lambda a: a.dtype, found.params) == jax.tree.map(lambda a: a.dtype, p)
    assert all(np.abs(a.astype(float) - 0.5).max() < 0.01 for a in jax.tree.leaves(found.params))


@pytest.mark.parametrize("size", [0, -1, 2.0, True])
def test_memory_size_is_checked(size):
    with pytest.raises(ValueError, match=r"lbfgs\(memory_size=...\) must be an integer >= 1, got"):
        optim.lbfgs(memory_size=size)
