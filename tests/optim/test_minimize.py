import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdl import optim
from fdl.optim import Status
from tests.optim.problems import FUNCTIONS, rosenbrock

SEARCHED = {"bfgs": optim.bfgs, "lbfgs": optim.lbfgs, "nonlinear_cg": optim.nonlinear_cg}


@pytest.mark.parametrize("name", SEARCHED)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_gradient_of_the_end_is_small_and_is_the_gradient_there(name, function):
    fun, x0 = FUNCTIONS[function]
    found = optim.minimize(SEARCHED[name](), fun, x0, gtol=1e-7)
    value, grad = jax.value_and_grad(fun)(found.params)
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.value, value, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.grad, grad, rtol=1e-9, atol=1e-9)
    first = np.abs(jax.grad(fun)(x0)).max()
    assert found.grad_norm == np.abs(found.grad).max() <= 1e-7 * max(1, first)
    assert found.nhev == 0 and found.nit < found.njev <= found.nfev


@pytest.mark.parametrize("name", SEARCHED)
def test_evaluations_are_counted_as_they_run(name):
    counts = {"value": 0, "grad": 0}

    @jax.custom_vjp
    def counted(x):
        return rosenbrock(x)

    def bump(what):
        counts[what] += 1

    def forward(x):
        jax.debug.callback(bump, "value")
        return jax.vjp(rosenbrock, x)

    def backward(pull, cotangent):
        jax.debug.callback(bump, "grad")
        return pull(cotangent)

    counted.defvjp(forward, backward)
    found = optim.minimize(SEARCHED[name](), counted, jnp.array([-1.2, 1.0]))
    jax.effects_barrier()
    assert counts == {"value": int(found.nfev), "grad": int(found.njev)}


@pytest.mark.parametrize(
    "name",
    ["bfgs", *(pytest.param(n, marks=pytest.mark.slow) for n in ("lbfgs", "nonlinear_cg", "adam"))],
)
def test_many_starts_at_once_are_as_one_after_another(name):
    tx = optax.adam(0.1) if name == "adam" else SEARCHED[name]()

    def run(x):
        return optim.minimize(tx, rosenbrock, x, max_iter=6)  # rounding grows tenfold a step

    starts = np.random.default_rng(0).normal(size=(16, 2))
    together = jax.jit(jax.vmap(run))(starts)
    one = jax.jit(run)
    for i, start in enumerate(starts):
        alone = one(start)
        np.testing.assert_allclose(together.params[i], alone.params, rtol=1e-9, atol=1e-9)
        assert (together.nit[i], together.status[i]) == (alone.nit, alone.status)


def test_an_optimizer_without_a_search_takes_the_steps_of_a_plain_loop():
    fun, x0 = FUNCTIONS["wood"]
    tx = optax.adam(0.05)
    found = optim.minimize(tx, fun, x0, max_iter=25)
    x, state = jnp.asarray(x0), tx.init(jnp.asarray(x0))
    for _ in range(25):
        u, state = tx.update(jax.grad(fun)(x), state, x)
        x = x + u
    np.testing.assert_allclose(found.params, x, rtol=1e-12)
    assert (found.status, found.nit, found.nfev, found.njev) == (Status.MAX_ITER, 25, 26, 26)


def test_why_it_stops():
    x0 = jnp.array([-1.2, 1.0])
    few = optim.minimize(optim.bfgs(), rosenbrock, x0, max_iter=3)
    assert (few.status, few.nit) == (Status.MAX_ITER, 3)
    assert few.value < rosenbrock(x0)
    short = optim.minimize(optim.bfgs(), rosenbrock, x0, max_evals=10)
    assert short.status == Status.MAX_EVALS and 10 <= short.nfev < 15
    there = optim.minimize(optim.bfgs(), rosenbrock, jnp.ones(2))
    assert (there.status, there.nit, there.nfev) == (Status.CONVERGED, 0, 1)
    nowhere = optim.minimize(optim.bfgs(), lambda x: jnp.log(x).sum(), -jnp.ones(2))
    assert (nowhere.status, nowhere.nit) == (Status.NOT_FINITE, 0)
    np.testing.assert_array_equal(nowhere.params, -jnp.ones(2))
    kink = optim.minimize(optim.bfgs(), lambda x: jnp.abs(x).sum() + 1.0, jnp.array([0.3, 0.7]))
    assert kink.status in (Status.STALLED, Status.MAX_ITER)
    assert kink.value <= 2.0


def test_arguments_reach_the_function_and_a_search_may_be_inside_anything():
    def fun(p, scale, *, shift=1.0):
        return jnp.sum(scale * (p["w"] - shift) ** 2) + p["b"] ** 2

    tx = optax.named_chain(("clip", optax.clip(10.0)), ("bfgs", optim.bfgs()))
    found = optim.minimize(tx, fun, {"w": jnp.zeros(2), "b": jnp.ones(())}, jnp.array([1.0, 5.0]))
    np.testing.assert_allclose(found.params["w"], 1.0, atol=1e-6)
    np.testing.assert_allclose(found.params["b"], 0.0, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optim.minimize(optim.bfgs(), rosenbrock, {"a": jnp.arange(2)}), "int64 in a"),
        (lambda: optim.minimize(optim.bfgs(), rosenbrock, jnp.ones(2), gtol=-1), "gtol.* >= 0"),
        (lambda: optim.minimize(optim.bfgs(), rosenbrock, jnp.ones(2), max_evals=0), ">= 1, got 0"),
    ],
)
def test_arguments_are_checked(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def inside(radius):
    return lambda x: jnp.where(x @ x < radius**2, rosenbrock(x), jnp.nan)


def runner(make, radius):
    return jax.jit(lambda x: optim.minimize(make(), inside(radius), x, max_iter=80))


RUNS = {
    (name, radius): runner(make, radius) for name, make in SEARCHED.items() for radius in (1.6, 3.0)
}


@settings(max_examples=25, deadline=None)
@given(
    which=st.sampled_from(sorted(RUNS)),
    x=st.tuples(*[st.floats(-1.1, 1.1, allow_subnormal=False)] * 2),
)
def test_it_never_rises_and_never_leaves_where_the_function_is_defined(which, x):
    start = jnp.array(x)
    found = RUNS[which](start)
    before = rosenbrock(start)
    assert np.isfinite(found.params).all() and np.isfinite(found.value)
    assert found.value <= before * (1 + 1e-12)
    assert found.params @ found.params < which[1] ** 2
