"""What line searches share: the optax contract, the ray they look along, their first step."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fdl.optim import search
from fdl.optim.armijo import scale_by_armijo
from fdl.optim.hager_zhang import scale_by_hager_zhang
from fdl.optim.wolfe import scale_by_wolfe

SEARCHES = {
    "armijo": scale_by_armijo,
    "wolfe": scale_by_wolfe,
    "hager_zhang": scale_by_hager_zhang,
}
ALL = pytest.mark.parametrize(
    "name", ["wolfe", *(pytest.param(n, marks=pytest.mark.slow) for n in ("armijo", "hager_zhang"))]
)


def once(f, tx, x, u, state=None):
    """Search from x along u once; return the update and the state."""
    value, grad = jax.value_and_grad(f)(x)
    state = tx.init(x) if state is None else state
    return tx.update(u, state, x, value=value, grad=grad, value_fn=f)


def tree_function(p):
    return jnp.sum((p["a"] - 1) ** 4) + jnp.sum((p["a"].sum() + p["b"]) ** 2)


def tree_point(dtype=np.float64):
    return {"a": jnp.asarray([0.5, -0.2, 0.1], dtype), "b": jnp.asarray(2.0, dtype)}


def test_a_ray_has_the_values_and_slopes_of_central_differences():
    x = tree_point()
    u = jax.tree.map(lambda a: 0.3 * a + 0.1, x)
    value, grad = jax.value_and_grad(tree_function)(x)
    ray = search.make_ray(tree_function, x, u, value, grad)

    def phi(s):
        return tree_function(jax.tree.map(lambda a, b: a + s * b, x, u))

    for s in (0.0, 0.7, -1.3):
        reached, pull = ray.at(jnp.asarray(s))
        _, slope = pull()
        np.testing.assert_allclose(reached, phi(s), rtol=1e-14)
        np.testing.assert_allclose(slope, (phi(s + 1e-5) - phi(s - 1e-5)) / 2e-5, rtol=1e-8)
    np.testing.assert_allclose(ray.start.slope, ray.at(jnp.asarray(0.0))[1]()[1], rtol=1e-14)
    np.testing.assert_allclose(ray.slack, 16 * 2.0**-52 * value)


def looked_at(f, tx, x, u, state):
    seen = []

    def looked(x):
        jax.debug.callback(lambda x: seen.append(float(x)), x, ordered=True)
        return f(x)

    value, grad = jax.value_and_grad(f)(x)
    updates, state = tx.update(u, state, x, value=value, grad=grad, value_fn=looked)
    jax.block_until_ready(state)
    jax.effects_barrier()
    return np.array(seen) - float(x), updates, state


def test_the_first_trial_is_what_the_option_says():
    def f(x):
        return (x - 3.0) ** 2

    for initial in ("one", "keep", "interpolate"):
        tx = scale_by_wolfe(initial=initial, c2=0.9)
        x = jnp.zeros(())
        seen, u, state = looked_at(f, tx, x, jnp.asarray(10.0), tx.init(x))
        np.testing.assert_allclose(seen[0], 10.0)  # nothing is known yet
        np.testing.assert_allclose(u, 3.0)  # interpolated
        x = x + u - 1.0  # as if another link had moved it: the slope is -2, the direction 0.1
        seen, _, _ = looked_at(f, tx, x, jnp.asarray(0.1), state)
        # 2 (decrease 9) / (slope 0.2), and at most 10 x (last step 0.3)(slope 60) / 0.2
        expected = {"one": 1.0, "keep": 0.3, "interpolate": 2.02 * 9 / 0.2}[initial]
        np.testing.assert_allclose(seen[0], 0.1 * expected, rtol=1e-12)


def test_the_first_trial_does_not_grow_without_bounds():
    tx = scale_by_armijo(initial="interpolate")
    known = {"learning_rate": 0.5, "before": 1e9, "value": 0.0, "slope": -2.0}
    known = {k: jnp.asarray(v) for k, v in known.items()}
    state = tx.init(jnp.zeros(()))._replace(count=jnp.ones((), jnp.int32), **known)
    seen, _, _ = looked_at(lambda x: -x, tx, jnp.zeros(()), jnp.asarray(4.0), state)
    np.testing.assert_allclose(seen[0] / 4, 10 * 0.5 * 2 / 4)
    for bad in (0.0, np.nan, -1.0):
        odd = state._replace(learning_rate=jnp.asarray(bad))
        seen, _, _ = looked_at(lambda x: -x, tx, jnp.zeros(()), jnp.asarray(4.0), odd)
        np.testing.assert_allclose(seen[0] / 4, 1.0)


def test_what_is_missed_is_told():
    def f(x):
        return (x - 3.0) ** 2

    # 9 -> 8.41 where at least 0.45 x 0.6 is asked for; the slope -5.8 of -6 is above 0.9 x 6
    _, state = once(f, scale_by_armijo(c1=0.45), jnp.zeros(()), jnp.asarray(0.1))
    assert float(state.info.decrease_error) == 0 and float(state.info.curvature_error) == 0
    _, state = once(f, scale_by_wolfe(1, c2=0.9), jnp.zeros(()), jnp.asarray(0.1))
    np.testing.assert_allclose(state.info.curvature_error, 0.1 * (5.8 - 0.9 * 6), rtol=1e-12)
    _, state = once(f, scale_by_armijo(1, c1=0.45), jnp.zeros(()), jnp.asarray(5.7))
    np.testing.assert_allclose(state.info.decrease_error, 2.7**2 - 9 + 0.45 * 5.7 * 6, rtol=1e-12)
    assert not state.info.failed  # lower than the start, and better than nothing


@ALL
def test_under_flatten_the_search_is_the_same(name):
    x = tree_point()
    u = jax.tree.map(lambda g: -0.1 * g, jax.grad(tree_function)(x))
    plain, state = once(tree_function, SEARCHES[name](), x, u)
    flat, flat_state = once(tree_function, optax.flatten(SEARCHES[name]()), x, u)
    for a, b in zip(*map(jax.tree.leaves, (plain, flat)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    np.testing.assert_allclose(state.value, optax.tree.get(flat_state, "value"), rtol=1e-12)


@ALL
def test_where_parameters_are_hidden_values_of_the_caller_steer_the_step(name):
    tx = optax.masked(optax.chain(optax.sgd(1.0), SEARCHES[name]()), {"a": True, "b": False})
    x = tree_point()
    state = tx.init(x)
    steps, values = [], [5.0, 4.0, 4.5, 4.4]
    g = jax.tree.map(lambda a: jnp.full_like(a, 2.0), x)  # hidden leaves keep it
    for value in values:
        with pytest.warns(UserWarning, match="blockwise"):
            u, state = tx.update(g, state, x, value=value, grad=g, value_fn=tree_function)
        np.testing.assert_allclose(u["b"], 2.0)
        steps.append(float(-u["a"][0] / 2))
    first = 1 / (2 * 3**0.5)  # 1 / |u|
    assert 2 * first < 1
    np.testing.assert_allclose(steps, first * np.array([1, 2, 1, 2]).clip(max=1 / first))


@ALL
def test_numbers_of_python_are_parameters_too(name):
    # weak types under 64 bits: what is computed must not mix with float32
    x = jnp.asarray(3.0)
    assert x.weak_type
    u, state = once(lambda x: x**2, SEARCHES[name](), x, -x)
    assert u.dtype == state.value.dtype == np.float64
    assert abs(float(x + u)) < 3


# --- as a transformation -------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_value_and_gradient_come_from_the_state(name, dtype):
    tx = optax.chain(optax.sgd(0.3), SEARCHES[name](initial="keep"))

    def f(x):
        return jnp.sum((x["a"] - 1) ** 4) + jnp.sum((x["a"] + x["b"]) ** 2)

    x = {"a": jnp.zeros(3, dtype), "b": jnp.full((), 2.0, dtype)}
    look = jax.jit(optax.value_and_grad_from_state(f))
    update = jax.jit(lambda x, s, v, g: tx.update(g, s, x, value=v, grad=g, value_fn=f))
    state = tx.init(x)
    for _ in range(12):
        value, grad = look(x, state=state)
        np.testing.assert_allclose(value, f(x), rtol=20 * np.finfo(dtype).eps)
        for mine, true in zip(*map(jax.tree.leaves, (grad, jax.grad(f)(x))), strict=True):
            assert mine.dtype == dtype
            np.testing.assert_allclose(mine, true, rtol=1e-3, atol=50 * np.finfo(dtype).eps)
        updates, state = update(x, state, value, grad)
        x = optax.apply_updates(x, updates)
    assert float(f(x)) < 0.05 * float(f({"a": jnp.zeros(3), "b": 2.0}))
    assert update._cache_size() == 1


@ALL
def test_data_keywords_reach_the_objective_and_others_do_no_harm(name):
    def f(x, target, weight=1.0):
        return weight * jnp.sum((x - target) ** 2)

    x, u = jnp.zeros(2), jnp.ones(2)
    updates, state = SEARCHES[name]().update(
        u, SEARCHES[name]().init(x), x, value=4.5, grad=-3.0 * u, value_fn=f, target=1.5, key=None
    )
    np.testing.assert_allclose(updates, [1, 1])  # the slope has halved and more
    np.testing.assert_allclose(state.value, 0.5)
    np.testing.assert_allclose(state.grad, [-1, -1])


@ALL
def test_vmap_is_a_loop(name):
    def f(x):
        return jnp.sum((x - 1) ** 4) + jnp.sum(jnp.sin(3 * x))

    tx = optax.chain(optax.sgd(1.0), SEARCHES[name]())
    run = jax.jit(lambda x: once(f, tx, x, jax.grad(f)(x)))
    xs = jnp.asarray(np.random.default_rng(0).uniform(-3, 3, (16, 2)))
    many = jax.jit(jax.vmap(run))(xs)
    one = jax.tree.map(lambda *a: jnp.stack(a), *[run(x) for x in xs])
    for a, b in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@ALL
def test_a_complex_number_is_two_real_ones(name):
    def f(a, b):
        return (a - 1) ** 4 + 3 * (b + 2) ** 2 + a * b

    def complex_f(z):
        return f(jnp.real(z), jnp.imag(z))

    tx = SEARCHES[name]()
    z, x = jnp.asarray(0.3 - 0.4j), jnp.asarray([0.3, -0.4])
    real_grad = jax.grad(lambda x: f(*x))(x)
    u, state = once(complex_f, tx, z, -jnp.conj(jax.grad(complex_f)(z)))
    v, real = once(lambda x: f(*x), tx, x, -real_grad)
    np.testing.assert_allclose([u.real, u.imag], v, rtol=1e-12)
    np.testing.assert_allclose(state.value, real.value, rtol=1e-12)
    assert state.info.num_evals == real.info.num_evals
    np.testing.assert_allclose(state.grad, jax.grad(complex_f)(z + u), rtol=1e-10)


@ALL
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_steps": 0}, r"\(max_steps=...\) must be >= 1, got 0"),
        ({"c1": 0.5}, r"\(c1=...\) must be in \(0, 0.5\), got 0.5"),
        ({"c2": 1.0}, r"\(c2=...\) must be in .c1, 1\), got 1.0"),
        ({"c1": 0.4, "c2": 0.3}, r"\(c2=...\) must be in .c1, 1\), got 0.3"),
        ({"factor": 1.0}, r"\(factor=...\) must be in \(0, 1\), got 1.0"),
        ({"expand": 1.0}, r"\(expand=...\) must be > 1, got 1.0"),
        ({"eps": -1.0}, r"\(eps=...\) must be >= 0, got -1.0"),
        ({"theta": 0.0}, r"\(theta=...\) must be in \(0, 1\), got 0.0"),
        ({"gamma": 1.0}, r"\(gamma=...\) must be in \(0, 1\), got 1.0"),
        ({"initial": "two"}, r"must be one, keep or interpolate, got 'two'"),
    ],
)
def test_arguments_out_of_range(name, arguments, message):
    known = inspect.signature(SEARCHES[name]).parameters
    if not set(arguments) <= set(known):
        pytest.skip("no such argument")
    with pytest.raises(ValueError, match=message):
        SEARCHES[name](**arguments)


@ALL
def test_traced_constants_are_taken_as_they_are(name):
    """What is known only when it runs cannot be compared: neither with its range nor with c1."""
    make = SEARCHES[name]
    x, constants = jnp.ones(2), {} if name == "armijo" else {"c2": 0.3}

    @jax.jit
    def run(c1, constants):
        return once(lambda x: jnp.sum(x**4), make(c1=c1, **constants), x, -x)[0]

    np.testing.assert_allclose(run(0.2, constants), run(1e-3, constants), rtol=1e-12)


@ALL
def test_parameters_must_be_given(name):
    tx, x = SEARCHES[name](), jnp.ones(2)
    with pytest.raises(ValueError, match="params"):
        tx.update(x, tx.init(x), value=1.0, grad=x, value_fn=jnp.sum)


@ALL
def test_a_search_traces_the_objective_once(name):
    traced = []

    def f(x):
        traced.append(x)
        return jnp.sum(x**4)

    tx, x = SEARCHES[name](), jnp.ones(2)
    jax.make_jaxpr(lambda x: tx.update(-x, tx.init(x), x, value=2.0, grad=4 * x, value_fn=f))(x)
    assert len(traced) == 1
