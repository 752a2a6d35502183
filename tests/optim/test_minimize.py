import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdl import optim
from fdl.optim import Status
from tests.optim.probes import hidden_parameters_are_known
from tests.optim.problems import FUNCTIONS, rosenbrock, usual

SEARCHED = {"bfgs": optim.bfgs, "lbfgs": optim.lbfgs, "nonlinear_cg": optim.nonlinear_cg}


@pytest.mark.parametrize("name", SEARCHED)
@pytest.mark.parametrize("function", usual("rosenbrock", "logistic"))
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


def values_counted(f):
    """Return f, and a list that grows with each value of it that something reads.

    What a derivative reads of f on its way is no value: the compiler drops what is read by nobody.
    """
    seen = []

    def look(value):
        seen.append(value)
        return value

    @jax.custom_jvp
    def fun(x):
        value = f(x)
        return jax.pure_callback(look, jax.ShapeDtypeStruct(value.shape, value.dtype), value)

    @fun.defjvp
    def derivative(primals, tangents):
        return fun(*primals), jax.jvp(f, primals, tangents)[1]

    return fun, seen


def rosenbrock_residuals(x):
    return jnp.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def sum_of_squares(r):
    return jnp.sum(r**2)


NEWTON = {
    "newton": optim.newton(),
    "newton cholesky": optim.newton(mode="cholesky"),
    "newton_cg": optim.newton_cg(),
    "saddle_free_newton": optim.saddle_free_newton(),
    "saddle_free_newton krylov": optim.saddle_free_newton(rank=1),
    "hessian_free": optim.hessian_free(rosenbrock_residuals, sum_of_squares),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "newton" else [pytest.mark.slow]) for n in NEWTON]
)
def test_values_that_a_search_for_a_radius_asks_for_are_counted(name):
    fun, seen = values_counted(rosenbrock)
    tx = optax.chain(optax.identity(), NEWTON[name])
    found = optim.minimize(tx, fun, jnp.array([-1.2, 1.0]), max_iter=12)
    jax.block_until_ready(found)
    assert len(seen) == int(found.nfev)
    own = optax.tree.get(found.state, "function_values", 0)
    assert (own > found.nit // 2) == (name != "newton cholesky")
    assert found.nhev > 0 and found.njev <= found.nit + 1


def test_values_asked_for_by_a_transformation_count_against_the_limit():
    limit = {"max_evals": 12, "gtol": 0.0}
    found = optim.minimize(optim.newton(), rosenbrock, jnp.array([-1.2, 1.0]), **limit)
    assert found.status == Status.MAX_EVALS and 12 <= found.nfev < 20
    search = optax.tree.get(found.state, "function_values")
    assert search > 2 and found.nfev < 2 * found.nit + 1 + search


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
    exact = optim.minimize(optim.bfgs(), rosenbrock, x0, max_evals=int(few.nfev))
    assert (exact.status, exact.nit) == (Status.MAX_EVALS, 3)
    there = optim.minimize(optim.bfgs(), rosenbrock, jnp.ones(2))
    assert (there.status, there.nit, there.nfev) == (Status.CONVERGED, 0, 1)
    nowhere = optim.minimize(optim.bfgs(), lambda x: jnp.log(x).sum(), -jnp.ones(2))
    assert (nowhere.status, nowhere.nit) == (Status.NOT_FINITE, 0)
    np.testing.assert_array_equal(nowhere.params, -jnp.ones(2))
    kink = optim.minimize(optim.bfgs(), lambda x: jnp.abs(x).sum() + 1.0, jnp.array([0.3, 0.7]))
    assert kink.status in (Status.STALLED, Status.MAX_ITER)
    assert kink.value <= 2.0


def test_convergence_is_told_before_limits_and_what_is_not_finite_before_all():
    x0 = jnp.array([-1.2, 1.0])
    whole = optim.minimize(optim.bfgs(), rosenbrock, x0)
    nit, nfev = int(whole.nit), int(whole.nfev)
    for limit in ({"max_iter": nit}, {"max_evals": nfev}, {"max_iter": nit, "max_evals": 1}):
        found = optim.minimize(optim.bfgs(), rosenbrock, x0, **limit)
        expected = Status.MAX_EVALS if limit.get("max_evals") == 1 else Status.CONVERGED
        assert found.status == expected
    short = optim.minimize(optim.bfgs(), rosenbrock, x0, max_iter=nit - 1, max_evals=nfev - 1)
    assert (short.status, short.nit) == (Status.MAX_ITER, nit - 1)
    steep = optim.minimize(optim.bfgs(), lambda x: jnp.sqrt(x).sum(), jnp.zeros(2))
    assert np.isfinite(steep.value) and steep.status == Status.NOT_FINITE


def test_a_small_first_gradient_does_not_make_the_goal_smaller():
    flat = lambda x: 5e-4 * jnp.sum(x**2)  # noqa: E731
    found = optim.minimize(optim.bfgs(), flat, jnp.ones(2), gtol=1e-2)
    assert (found.status, found.nit) == (Status.CONVERGED, 0)


@pytest.mark.parametrize(("uphill", "status"), [(1, Status.STALLED), (2, Status.MAX_ITER)])
def test_two_searches_in_a_row_must_find_nothing(uphill, status):
    """Every update, or every second one, is turned uphill."""

    def update(updates, count, params=None, **extra_args):
        sign = jnp.where(count % uphill == 0, 1.0, -1.0)
        return 1e-3 * sign * updates, count + 1

    turned = optax.GradientTransformationExtraArgs(lambda params: jnp.zeros((), int), update)
    tx = optax.chain(turned, optim.scale_by_armijo())
    found = optim.minimize(tx, lambda x: jnp.sum(x**2), jnp.ones(2), max_iter=9)
    assert (found.status, found.nit) == (status, 2 if uphill == 1 else 9)


def test_complex_parameters_go_down_the_conjugate_of_the_gradient():
    target = jnp.array([1 + 2j, -0.5j])
    found = optim.minimize(optax.sgd(0.4), lambda z: jnp.sum(jnp.abs(z - target) ** 2), 0 * target)
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.params, target, atol=1e-6)


def test_a_search_over_a_part_of_the_parameters_does_not_stand_for_all():
    def fun(p):
        return jnp.sum((p["a"] - 1) ** 2) + jnp.sum((p["b"] + 2) ** 2)

    p0 = {"a": jnp.zeros(2), "b": jnp.zeros(2)}
    searched = optax.masked(optim.bfgs(), {"a": True, "b": False})
    rest = optax.masked(optax.sgd(0.3), {"a": False, "b": True})
    with hidden_parameters_are_known():
        found = optim.minimize(optax.chain(searched, rest), fun, p0)
    assert found.status == Status.CONVERGED
    assert jax.tree.structure(found.grad) == jax.tree.structure(p0)
    np.testing.assert_allclose(found.params["a"], 1.0, atol=1e-5)
    np.testing.assert_allclose(found.params["b"], -2.0, atol=1e-5)
    np.testing.assert_allclose(found.value, fun(found.params))


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
