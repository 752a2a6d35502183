"""Gaussian smoothing: closed forms, samples that are fixed, minima that are left behind."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fdl.optim.continuation import graduated, smoothed

KEY = jax.random.key(0)
N = 40_000  # samples; the tolerances below are 5 standard errors


def test_a_linear_function_is_not_changed_at_all():
    a = np.array([1.0, -3.0, 0.5])
    f = smoothed(lambda x: x @ a + 2, 10.0, KEY, 2)
    np.testing.assert_allclose(f(np.ones(3)), 0.5, rtol=1e-13)
    np.testing.assert_allclose(jax.grad(f)(np.ones(3)), a, rtol=1e-13)


@pytest.mark.slow
def test_a_quadratic_function_is_raised_by_half_the_trace():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((4, 4))
    h, b, x, s = root @ root.T, rng.standard_normal(4), rng.standard_normal(4), 0.7

    def f(x):
        return x @ h @ x / 2 + b @ x

    smooth = smoothed(f, s, KEY, N)
    # z'Hz / 2 has variance tr(H^2) / 2; pairs are N / 2 independent samples
    error = 5 * s**2 * np.sqrt(np.trace(h @ h) / 2 / (N / 2))
    assert abs(smooth(x) - f(x) - s**2 * np.trace(h) / 2) < error
    # the gradient has no error: the odd part cancels; the Hessian neither
    np.testing.assert_allclose(jax.grad(smooth)(x), h @ x + b, rtol=1e-10, atol=1e-10)
    few = smoothed(f, s, KEY, 8)
    np.testing.assert_allclose(jax.hessian(few)(x), h, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("k", "s"), [(1.0, 0.5), (3.0, 0.5), (2.0, 1.5)])
def test_a_wave_is_damped_by_its_frequency(k, s):
    smooth = smoothed(lambda x: jnp.sin(k * x), s, KEY, N)
    damped = np.exp(-((k * s) ** 2) / 2)
    for x in (-1.0, 0.2, 2.0):
        assert abs(smooth(x) - damped * np.sin(k * x)) < 5 / np.sqrt(N)
        assert abs(jax.grad(smooth)(x) - damped * k * np.cos(k * x)) < 5 * k / np.sqrt(N)


def test_without_noise_it_is_the_objective_itself():
    def f(p):
        return jnp.cosh(p["a"]).sum() * p["b"]

    p = {"a": np.array([0.3, -1.0]), "b": np.array(2.0)}
    smooth = smoothed(f, 0.0, KEY, 4)
    np.testing.assert_allclose(smooth(p), f(p), rtol=1e-15)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-14),
        jax.grad(smooth)(p),
        jax.grad(f)(p),
    )


def test_leaves_have_independent_noise_and_complex_numbers_two():
    def f(p):
        return (p["a"] * p["b"]).sum() + jnp.abs(p["z"]) ** 2 + (p["z"] ** 2).real

    p = {"a": np.zeros(3), "b": np.zeros(3), "z": np.zeros((), complex)}
    # E a b = 0; E |z|^2 = 2 s^2, E z^2 = 0
    assert abs(smoothed(f, 0.5, KEY, N)(p) - 0.5) < 5 * 3 / np.sqrt(N)


def wavy(x):
    """0.05 x^2 - cos 2x: a local minimum every pi or so, the best one at 0."""
    return (0.05 * x**2 - jnp.cos(2 * x)).sum()


def descend(tx, x, steps=300, f=wavy):
    tx = optax.with_extra_args_support(tx)

    def step(carry, _):
        x, state = carry
        value, grad = jax.value_and_grad(f)(x)
        updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=f)
        return (optax.apply_updates(x, updates), state), None

    return jax.jit(lambda x: jax.lax.scan(step, (x, tx.init(x)), length=steps)[0][0])(x)


def test_it_leaves_a_local_minimum_where_plain_descent_stays():
    start = np.array([5.0, -8.0, 3.3])
    plain = np.asarray(descend(optax.sgd(0.1), start))
    assert (np.abs(plain) > 2.9).all() and wavy(plain) > wavy(0 * plain) + 1
    # at the start s = 2: the waves are damped by exp(-8), what is left is 0.05 x^2
    slowly = optax.linear_schedule(2.0, 0.0, 900)
    found = descend(graduated(optax.sgd(0.1), slowly), start, 1000)
    np.testing.assert_allclose(found, 0.0, atol=1e-6)


def test_it_ends_on_the_objective_itself():
    """Once s is 0 the steps are those of the inner transformation."""
    start = np.array([0.4])
    tx = graduated(optax.sgd(0.1, 0.9), optax.piecewise_constant_schedule(0.0, {}))
    np.testing.assert_allclose(descend(tx, start), descend(optax.sgd(0.1, 0.9), start), atol=1e-12)


def test_a_search_sees_one_function_and_steps_see_different_ones():
    seen = []

    def spy_update(updates, state, params=None, *, value, grad, value_fn, **extra):
        np.testing.assert_allclose(value_fn(params), value, rtol=1e-15)
        np.testing.assert_array_equal(value_fn(params + 1), value_fn(params + 1))
        jax.tree.map(np.testing.assert_array_equal, jax.grad(value_fn)(params), grad)
        np.testing.assert_array_equal(updates, grad)
        seen.append(float(value))
        return updates, state

    spy = optax.GradientTransformationExtraArgs(lambda p: optax.EmptyState(), spy_update)
    x = jnp.array([0.5, 2.0])
    for seed in (0, 0, 1):
        tx = graduated(spy, 0.5, 8, seed)
        state = tx.init(x)
        for _ in range(3):
            _, state = tx.update(x, state, x, value_fn=wavy)
    first, again, other = np.reshape(seen, (3, 3))
    np.testing.assert_array_equal(first, again)  # a function of (seed, count)
    assert all(a != b for a, b in pairwise(first)) and (first != other).all()


@pytest.mark.slow
def test_an_inner_line_search_lowers_the_smoothed_objective():
    # the samples of step 0 by hand: its decrease is seen by the same function
    inner = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(20))
    x = jnp.array([5.0, -8.0])
    tx = graduated(inner, 1.0, 64)
    updates, _ = tx.update(x, tx.init(x), x, value_fn=wavy)
    smooth = smoothed(wavy, 1.0, jax.random.fold_in(KEY, 0), 64)
    assert smooth(x + updates) < smooth(x)
    along = jax.grad(smooth)(x)
    np.testing.assert_allclose(updates / -along, (updates / -along)[0], rtol=1e-10)


def test_data_of_the_objective_are_bound():
    def f(x, data):
        return (x * data).sum()

    tx = graduated(optax.sgd(1.0), 0.3, 2)
    x = jnp.ones(2)
    updates, _ = tx.update(x, tx.init(x), x, value_fn=f, data=jnp.array([3.0, 4.0]), other=1)
    np.testing.assert_allclose(updates, [-3.0, -4.0], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16])
def test_in_fewer_bits_the_smoothing_is_the_same(dtype):
    smooth = smoothed(lambda x: jnp.sin(2 * x.astype(float)), 0.5, KEY, N)
    x = jnp.asarray(0.75, dtype)
    grad = jax.grad(smooth)(x)
    assert grad.dtype == dtype
    assert float(grad) == pytest.approx(np.exp(-0.5) * 2 * np.cos(1.5), abs=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: smoothed(wavy, -1.0, KEY, 2), r"smoothed\(sigma=...\) must be >= 0, got -1.0"),
        (lambda: smoothed(wavy, 1.0, KEY, 3), r"smoothed\(n_samples=...\) must be even"),
        (lambda: graduated(optax.sgd(1.0), -1.0), r"graduated\(sigma=...\) must be >= 0"),
        (lambda: graduated(optax.sgd(1.0), 1.0, 0), r"graduated\(n_samples=...\) must be even"),
        (
            lambda: graduated(optax.sgd(1.0), 1.0).update(1.0, None, value_fn=wavy),
            r"update\(params=...\) must be given",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
