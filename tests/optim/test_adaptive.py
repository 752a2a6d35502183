"""AdaGrad, RMSProp and Adam: algorithms 8.4 to 8.7 written out, optax where it coincides."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fdl.optim.adaptive import adagrad, rmsprop_nesterov, scale_by_adagrad, scale_by_rmsprop
from fdl.optim.momentum import eval_params

START = np.array([1.5, -2.0, 0.7, 0.0])  # the last has no gradient until step 10
CURVATURE = np.array([1.0, 6.0, 0.3, 2.0])
STEPS = 40


def slope(k):
    return np.where(k < 10, 0.0, 1.0)


def gradient(theta, k):
    g = CURVATURE * np.sinh(theta)
    g[:2] += theta[1::-1] / 4
    g[3] = slope(k) * (theta[3] - 1)
    return g


def in_jax(theta, k):
    g = jnp.asarray(CURVATURE) * jnp.sinh(theta)
    g = g.at[:2].add(theta[1::-1] / 4)
    return g.at[3].set(jnp.where(k < 10, 0.0, 1.0) * (theta[3] - 1))


def rate_at(step):
    return 0.06 / (1 + 0.1 * step)


def momentum_at(step):
    return 0.9 - 0.5 / (2.0 + step)


def as_schedule(f):
    return lambda count: f(count.astype(float))


RATE, MOMENTUM = as_schedule(rate_at), as_schedule(momentum_at)


def adagrad_written_out(delta):
    """Algorithm 8.4."""
    theta, r, path = START.copy(), np.zeros(4), []
    for k in range(STEPS):
        g = gradient(theta, k)
        r = r + g * g
        theta = theta - rate_at(k) / (delta + np.sqrt(r)) * g
        path.append(theta)
    return np.array(path)


def rmsprop_written_out(rho, delta):
    """Algorithm 8.5."""
    theta, r, path = START.copy(), np.zeros(4), []
    for k in range(STEPS):
        g = gradient(theta, k)
        r = rho * r + (1 - rho) * g * g
        theta = theta - rate_at(k) / np.sqrt(delta + r) * g
        path.append(theta)
    return np.array(path)


def rmsprop_nesterov_written_out(rho):
    """Algorithm 8.6; where r is 0 there was no gradient, and no velocity comes of it."""
    theta, r, v, path = START.copy(), np.zeros(4), np.zeros(4), []
    for k in range(STEPS):
        g = gradient(theta + momentum_at(k) * v, k)
        r = rho * r + (1 - rho) * g * g
        v = momentum_at(k) * v - rate_at(k) / np.sqrt(np.where(r == 0, 1, r)) * g
        theta = theta + v
        path.append(theta)
    return np.array(path)


def adam_written_out(rho1, rho2, delta):
    """Algorithm 8.7."""
    theta, s, r, path = START.copy(), np.zeros(4), np.zeros(4), []
    for k in range(STEPS):
        g = gradient(theta, k)
        s = rho1 * s + (1 - rho1) * g
        r = rho2 * r + (1 - rho2) * g * g
        s_hat, r_hat = s / (1 - rho1 ** (k + 1)), r / (1 - rho2 ** (k + 1))
        theta = theta - rate_at(k) * s_hat / (np.sqrt(r_hat) + delta)
        path.append(theta)
    return np.array(path)


def run(tx, recover=lambda state, params: params, start=START, steps=STEPS, g=in_jax):
    def step(carry, k):
        theta, state = carry
        updates, state = tx.update(g(theta, k).astype(theta.dtype), state, theta)
        theta = optax.apply_updates(theta, updates)
        return (theta, state), recover(state, theta)

    scan = jax.jit(lambda s: jax.lax.scan(step, (s, tx.init(s)), jnp.arange(steps))[1])
    return np.asarray(scan(start))


def same(found, expected, atol=1e-12):
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def test_the_derivative_in_jax_is_that_of_the_transcriptions():
    for k in (0, 20):
        same(in_jax(START, k), gradient(START, k), 1e-14)


@pytest.mark.parametrize("delta", [1e-7, 1e-2, 0.0])
def test_adagrad_is_algorithm_8_4(delta):
    expected = adagrad_written_out(delta or 1e-300)  # with 0 what has no gradient stays
    same(run(adagrad(RATE, delta=delta)), expected)


def test_rmsprop_is_algorithm_8_5():
    tx = optax.chain(scale_by_rmsprop(0.8, 1e-6), optax.scale_by_learning_rate(RATE))
    same(run(tx), rmsprop_written_out(0.8, 1e-6))


def test_rmsprop_with_nesterov_momentum_is_algorithm_8_6():
    tx = rmsprop_nesterov(RATE, MOMENTUM, decay=0.8)
    same(run(tx, eval_params), rmsprop_nesterov_written_out(0.8))


def test_what_is_left_to_optax_is_the_book_s():
    same(run(optax.rmsprop(RATE, 0.8, 1e-6)), rmsprop_written_out(0.8, 1e-6))
    same(run(optax.adam(RATE, 0.9, 0.99, 1e-4)), adam_written_out(0.9, 0.99, 1e-4))


def test_rmsprop_with_momentum_and_a_constant_rate_is_that_of_optax():
    theirs = optax.rmsprop(RATE, 0.8, 1e-6, momentum=0.7, nesterov=True)
    same(run(rmsprop_nesterov(RATE, 0.7, decay=0.8, delta=1e-6)), run(theirs))


def test_optax_s_adagrad_starts_and_guards_differently():
    theirs = optax.adagrad(RATE, initial_accumulator_value=0.0, eps=1e-16)
    same(run(adagrad(RATE, delta=0.0))[:, :3], run(theirs)[:, :3], 1e-9)
    assert np.abs(run(adagrad(RATE)) - run(optax.adagrad(RATE))).max() > 1e-3


@pytest.mark.parametrize("name", ["adagrad", "rmsprop"])
def test_with_a_constant_rate_they_are_those_of_torch(name):
    torch = pytest.importorskip("torch")
    theta = torch.tensor(START, requires_grad=True)
    if name == "adagrad":
        theirs, ours = torch.optim.Adagrad([theta], lr=0.1, eps=1e-7), adagrad(0.1, delta=1e-7)
    else:
        theirs = torch.optim.RMSprop([theta], lr=0.1, alpha=0.8, eps=0.0)
        ours = optax.chain(scale_by_rmsprop(0.8, 0.0), optax.scale_by_learning_rate(0.1))
    path = []
    for k in range(10, STEPS):
        theta.grad = torch.tensor(gradient(theta.detach().numpy(), k))
        theirs.step()
        path.append(theta.detach().numpy().copy())
    same(run(ours, steps=STEPS - 10, g=lambda theta, k: in_jax(theta, k + 10)), path)


def test_the_first_update_is_the_sign_and_later_ones_do_not_see_the_scale():
    g = np.array([3.0, -1e-3, 1e4])
    updates, _ = scale_by_adagrad(0.0).update(g, scale_by_adagrad(0.0).init(g))
    same(updates, np.sign(g))
    scale = np.array([10.0, 1e-3, 4.0, 1.0])  # theta = scale * phi, a rate for each phi
    for tx in (adagrad(RATE, delta=0.0), rmsprop_nesterov(RATE, MOMENTUM)):
        plain = run(tx, g=lambda theta, k: in_jax(theta, k))
        scaled = run(tx, g=lambda theta, k: scale * in_jax(theta, k))
        same(scaled, plain)


@pytest.mark.parametrize(
    ("dtype", "atol"), [(np.float32, 1e-5), (jnp.bfloat16, 0.15), (np.float16, 0.03)]
)
def test_in_fewer_bits_the_path_is_the_same_up_to_rounding(dtype, atol):
    start = START.astype(dtype)
    for tx, recover, expected in (
        (adagrad(RATE), lambda s, p: p, adagrad_written_out(1e-7)),
        (rmsprop_nesterov(RATE, MOMENTUM), eval_params, rmsprop_nesterov_written_out(0.9)),
    ):
        found = run(tx, recover, start=start, steps=12)
        assert found.dtype == dtype
        same(found.astype(float), expected[:12], atol)


def test_squares_of_small_gradients_do_not_vanish_in_half_precision():
    g = jnp.full(2, 2e-5, jnp.float16)  # its square is 0 in float16
    tx = scale_by_adagrad(0.0)
    updates, _ = tx.update(g, tx.init(g), g)
    np.testing.assert_array_equal(updates, np.ones(2, np.float16))


def test_complex_gradients_are_divided_by_their_modulus():
    g = np.array([3 + 4j, -2j])
    for tx in (scale_by_adagrad(0.0), scale_by_rmsprop(0.0, 0.0)):
        updates, state = tx.update(g, tx.init(g), g)
        same(updates, g / np.abs(g))
        assert state.squares.dtype == np.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adagrad(-1.0), r"adagrad\(learning_rate=...\) must be >= 0, got -1.0"),
        (lambda: adagrad(delta=-1.0), r"adagrad\(delta=...\)"),
        (lambda: scale_by_adagrad(-1.0), r"scale_by_adagrad\(delta=...\)"),
        (lambda: scale_by_rmsprop(1.0), r"scale_by_rmsprop\(decay=...\) must be in \[0, 1\)"),
        (lambda: scale_by_rmsprop(0.5, -1.0), r"scale_by_rmsprop\(delta=...\)"),
        (lambda: rmsprop_nesterov(-1.0), r"rmsprop_nesterov\(learning_rate=...\)"),
        (lambda: rmsprop_nesterov(momentum=2), r"rmsprop_nesterov\(momentum=...\)"),
        (lambda: rmsprop_nesterov(decay=2), r"rmsprop_nesterov\(decay=...\)"),
        (lambda: rmsprop_nesterov(delta=-2), r"rmsprop_nesterov\(delta=...\)"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
