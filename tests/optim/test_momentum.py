"""Momentum and Nesterov: algorithms 8.2 and 8.3 written out, optax and torch where they agree."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fdl.optim.hyperparams import require
from fdl.optim.momentum import (
    NesterovState,
    eval_params,
    momentum,
    nesterov,
    scale_by_momentum,
    scale_by_nesterov,
)

START = np.array([1.5, -2.0, 0.7])
CURVATURE = np.array([1.0, 6.0, 0.3])
STEPS = 40


def objective(theta):
    return (CURVATURE * (jnp.cosh(theta) - 1)).sum() + theta[0] * theta[1] / 4


def gradient(theta):
    g = CURVATURE * np.sinh(theta)
    g[:2] += theta[1::-1] / 4
    return g


def rate_at(step):
    return 0.06 / (1 + 0.1 * step)


def momentum_at(step):
    return 0.9 - 0.5 / (2.0 + step)


def gradient_descent_with_momentum():
    """Algorithm 8.2, the step size and the momentum scheduled."""
    theta, v, path = START.copy(), np.zeros(3), []
    for k in range(STEPS):
        v = momentum_at(k) * v - rate_at(k) * gradient(theta)
        theta = theta + v
        path.append(theta)
    return np.array(path)


def gradient_descent_with_nesterov_momentum():
    """Algorithm 8.3, the step size and the momentum scheduled."""
    theta, v, path = START.copy(), np.zeros(3), []
    for k in range(STEPS):
        interim = theta + momentum_at(k) * v
        v = momentum_at(k) * v - rate_at(k) * gradient(interim)
        theta = theta + v
        path.append(theta)
    return np.array(path)


def run(tx, recover=lambda state, params: params, steps=STEPS, start=START, f=objective):
    @jax.jit
    def step(carry, _):
        theta, state = carry
        g = jax.grad(f)(theta)
        updates, state = tx.update(g, state, theta, value=f(theta), grad=g, value_fn=f)
        theta = optax.apply_updates(theta, updates)
        return (theta, state), recover(state, theta)

    return np.asarray(jax.lax.scan(step, (start, tx.init(start)), length=steps)[1])


def as_schedule(f):
    return lambda count: f(count.astype(float))


RATE, MOMENTUM = as_schedule(rate_at), as_schedule(momentum_at)


def test_the_derivative_used_by_the_transcriptions_is_right():
    np.testing.assert_allclose(gradient(START), jax.grad(objective)(START), rtol=1e-14)


def test_momentum_is_algorithm_8_2_with_schedules():
    expected = gradient_descent_with_momentum()
    np.testing.assert_allclose(run(momentum(RATE, MOMENTUM)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ["reformulated", "lookahead"])
def test_nesterov_is_algorithm_8_3_with_schedules(form):
    expected = gradient_descent_with_nesterov_momentum()
    found = run(nesterov(RATE, MOMENTUM, form=form), eval_params)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_the_reformulated_parameters_are_the_look_ahead_point():
    theta = gradient_descent_with_nesterov_momentum()
    velocity = np.diff(theta, axis=0)
    ahead = theta[1:] + np.array([momentum_at(k + 1) for k in range(1, STEPS)])[:, None] * velocity
    np.testing.assert_allclose(run(nesterov(RATE, MOMENTUM))[1:], ahead, rtol=0, atol=1e-12)


def test_a_scheduled_momentum_is_felt():
    constant = gradient_descent_with_nesterov_momentum() - run(nesterov(RATE, 0.8), eval_params)
    assert np.abs(constant).max() > 1e-2


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_with_constant_rate_they_are_those_of_optax(decay):
    plain, ahead = optax.sgd(0.05, decay), optax.sgd(0.05, decay, nesterov=True)
    np.testing.assert_allclose(run(momentum(0.05, decay)), run(plain), rtol=0, atol=1e-13)
    np.testing.assert_allclose(run(nesterov(0.05, decay)), run(ahead), rtol=0, atol=1e-13)


def test_with_a_decaying_rate_optax_goes_another_way():
    theirs = run(optax.sgd(RATE, 0.9, nesterov=True))
    assert np.abs(theirs - run(nesterov(RATE, 0.9))).max() > 1e-2


@pytest.mark.parametrize("ahead", [False, True])
def test_with_constant_rate_they_are_those_of_torch(ahead):
    torch = pytest.importorskip("torch")
    theta = torch.tensor(START, requires_grad=True)
    sgd = torch.optim.SGD([theta], lr=0.05, momentum=0.9, nesterov=ahead)
    path = []
    for _ in range(STEPS):
        theta.grad = torch.tensor(gradient(theta.detach().numpy()))
        sgd.step()
        path.append(theta.detach().numpy().copy())
    ours = (nesterov if ahead else momentum)(0.05, 0.9)
    np.testing.assert_allclose(run(ours), path, rtol=0, atol=1e-12)


def test_final_velocity_in_a_constant_gradient():
    tx = momentum(0.1, 0.75)
    path = run(tx, steps=120, start=np.zeros(2), f=lambda w: w @ jnp.array([1.0, -3.0]))
    np.testing.assert_allclose(path[-1] - path[-2], np.array([-0.1, 0.3]) / 0.25, rtol=1e-12)


def test_nesterov_on_a_quadratic_is_its_linear_recurrence():
    # theta_{t+1} = (1 + a)(1 - e h) theta_t - a (1 - e h) theta_{t-1}
    a, e, h = 0.8, 0.3, 0.7
    theta = [1.0, (1 - e * h) * 1.0]
    for _ in range(20):
        theta.append((1 - e * h) * ((1 + a) * theta[-1] - a * theta[-2]))
    found = run(nesterov(e, a), eval_params, 21, np.array([1.0]), lambda w: h * (w**2).sum() / 2)
    np.testing.assert_allclose(found[:, 0], theta[1:], rtol=1e-12)


@pytest.mark.parametrize("form", ["reformulated", "lookahead"])
def test_paths_are_shifted_and_scaled_with_the_problem(form):
    shift, scale = np.array([3.0, -1.0, 10.0]), 4.0
    plain = run(nesterov(RATE, MOMENTUM, form=form), eval_params)
    moved = run(
        nesterov(lambda c: RATE(c) * scale**2, MOMENTUM, form=form),
        eval_params,
        start=shift + scale * START,
        f=lambda w: objective((w - shift) / scale),
    )
    np.testing.assert_allclose((moved - shift) / scale, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ["reformulated", "lookahead"])
@pytest.mark.parametrize(
    ("dtype", "atol"), [(np.float32, 3e-5), (jnp.bfloat16, 0.2), (np.float16, 0.03)]
)
def test_in_fewer_bits_the_path_is_the_same_up_to_rounding(form, dtype, atol):
    def f(theta):
        return objective(theta.astype(float))

    found = run(nesterov(RATE, MOMENTUM, form=form), eval_params, 12, START.astype(dtype), f)
    assert found.dtype == dtype
    expected = gradient_descent_with_nesterov_momentum()[:12]
    np.testing.assert_allclose(found.astype(float), expected, rtol=0, atol=atol)


def test_a_velocity_in_bfloat16_would_stop_growing():
    # from 256 on a bfloat16 no longer moves by 1: a v + u with a = 0.999 must reach u / (1 - a)
    tx = scale_by_momentum(0.999)
    one = jnp.ones((), jnp.bfloat16)
    state = jax.lax.fori_loop(0, 8000, lambda _, s: tx.update(one, s)[1], tx.init(one))
    np.testing.assert_allclose(state.velocity, (1 - 0.999**8000) / (1 - 0.999), rtol=1e-3)


def test_complex_parameters_move_as_pairs_of_real_ones():
    c = np.array([1 - 2j, 0.5 + 1j])

    def f(z):
        return (jnp.array([1.0, 3.0]) * jnp.abs(z - c) ** 2).sum()

    def real(w):
        return f(jax.lax.complex(w[0], w[1]))

    def step(tx, f, w, state):
        g = jax.grad(f)(w)
        updates, state = tx.update(g.conj(), state, w, value_fn=f, grad=g)
        return w + updates, state

    for form in ("reformulated", "lookahead"):
        tx = nesterov(0.05, MOMENTUM, form=form)
        z, w = np.zeros(2, complex), np.zeros((2, 2))
        in_z, in_w = tx.init(z), tx.init(w)
        for _ in range(10):
            z, in_z = step(tx, f, z, in_z)
            w, in_w = step(tx, real, w, in_w)
        np.testing.assert_allclose(np.stack([z.real, z.imag]), w, rtol=1e-12)


def test_a_batch_of_starts_goes_as_each_alone():
    starts = START + np.random.default_rng(0).standard_normal((5, 3)) / 4
    tx = nesterov(RATE, MOMENTUM)

    def after(start):
        def body(_, carry):
            theta, state = carry
            updates, state = tx.update(jax.grad(objective)(theta), state, theta)
            return theta + updates, state

        return jax.lax.fori_loop(0, 20, body, (start, tx.init(start)))[0]

    alone = np.stack([after(s) for s in starts])
    np.testing.assert_allclose(jax.vmap(after)(starts), alone, rtol=0, atol=1e-13)


def test_look_ahead_binds_the_data_of_the_objective_and_ignores_the_gradient_given():
    tx = nesterov(0.1, 0.5, form="lookahead")
    w = jnp.ones(2)
    updates, _ = tx.update(
        jnp.full(2, jnp.nan), tx.init(w), w, value_fn=lambda w, x: (w * x).sum(), x=3.0, y=1.0
    )
    np.testing.assert_allclose(updates, -0.3)


def test_theta_is_found_inside_any_state():
    theta = gradient_descent_with_nesterov_momentum()[4]
    injected = optax.inject_hyperparams(nesterov)(RATE, 0.9)
    plain = nesterov(RATE, 0.9)
    wrapped = optax.apply_if_finite(optax.chain(optax.clip(1e6), nesterov(RATE, MOMENTUM)), 3)
    np.testing.assert_allclose(run(wrapped, eval_params)[4], theta, atol=1e-12)
    np.testing.assert_allclose(run(injected, eval_params), run(plain, eval_params), atol=1e-12)


def test_a_partition_recovers_each_of_its_parts():
    params = {
        "a": jnp.ones(2),
        "b": {"c": jnp.full(2, 2.0), "d": jnp.full(2, 5.0)},
        "e": jnp.ones(1),
    }
    groups = {"slow": nesterov(0.1, 0.5), "fast": nesterov(0.2, 0.9), "not": optax.sgd(0.1)}
    tx = optax.partition(groups, {"a": "slow", "b": "fast", "e": "not"})
    state = tx.init(params)
    start = params
    for _ in range(2):
        updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
        params = optax.apply_updates(params, updates)
    theta = eval_params(state, params)
    # in a constant gradient theta moves by -e (1 + (1 + a)) in two steps
    moved = jax.tree.map(lambda new, old: float((new - old)[0]), theta, start)
    assert moved["a"] == pytest.approx(-0.1 * 2.5)
    assert moved["b"] == pytest.approx({"c": -0.2 * 2.9, "d": -0.2 * 2.9})
    assert moved["e"] == pytest.approx(-0.2)


def test_where_parameters_are_hidden_look_ahead_is_plain_momentum_and_says_so():
    params = {"w": START, "b": np.ones(2)}
    tx = optax.masked(nesterov(0.1, 0.5, form="lookahead"), {"w": True, "b": False})
    g = {"w": np.ones(3), "b": np.ones(2)}
    state = tx.init(params)
    with pytest.warns(UserWarning, match="blockwise"):
        for expected in (-0.1, -0.15):
            updates, state = tx.update(g, state, params, value_fn=lambda p: 0.0, grad=g)
            np.testing.assert_allclose(updates["w"], expected)
    theta = eval_params(state, params)
    np.testing.assert_array_equal(theta["w"], params["w"])


def test_injected_momentum_acts_one_step_later_and_stays_exact():
    tx = optax.inject_hyperparams(scale_by_nesterov)(0.5)
    phi = jnp.zeros(1)
    state, moved = tx.init(phi), []
    for a in (0.5, 0.8, 0.8, 0.8):
        state.hyperparams["momentum"] = jnp.asarray(a)
        updates, state = tx.update(jnp.ones(1), state, phi)
        phi = phi + updates
        moved.append(float(eval_params(state, phi)[0]))
    # v: 1, 0.5 + 1, then with 0.8
    v = [1.0, 1.5, 0.8 * 1.5 + 1, 0.8 * 2.2 + 1]
    np.testing.assert_allclose(moved, np.cumsum(v), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: momentum(-0.1), r"momentum\(learning_rate=...\) must be >= 0, got -0.1"),
        (lambda: momentum(0.1, 1.0), r"momentum\(momentum=...\) must be in \[0, 1\), got 1.0"),
        (lambda: nesterov(-1), r"nesterov\(learning_rate=...\)"),
        (lambda: nesterov(0.1, np.float32(2)), r"nesterov\(momentum=...\).*got 2.0"),
        (lambda: nesterov(0.1, form="x"), r"nesterov\(form=...\) must be .* got 'x'"),
        (lambda: scale_by_momentum(-0.5), r"scale_by_momentum\(momentum=...\)"),
        (lambda: scale_by_nesterov(1.5), r"scale_by_nesterov\(momentum=...\)"),
        (lambda: eval_params(optax.sgd(0.1).init(START), START), r"eval_params\(state=...\)"),
        (
            lambda: nesterov(form="lookahead").update(START, None, value_fn=objective),
            "params",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_traced_values_and_schedules_are_not_looked_at():
    require("f(x=...)", jnp.asarray(-1.0), ">= 0", lambda x: x >= 0)
    require("f(x=...)", RATE, ">= 0", lambda x: x >= 0)
    assert isinstance(nesterov(form="lookahead").init(START), NesterovState)
