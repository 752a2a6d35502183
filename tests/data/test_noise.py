"""Noise at inputs is a penalty on slopes, noise on labels is their smoothing, in expectation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import losses
from fdl.data import input_noise, label_noise, masking_noise, salt_and_pepper

N = 20_000
KEYS = jax.random.split(jax.random.key(0), N)


def noisy(x, scale):
    return np.asarray(jax.jit(lambda k, x: input_noise(k, x, scale=scale))(KEYS[: len(x)], x))


def test_input_noise_has_the_deviation_asked_for():
    z = noisy(jnp.ones((N, 3)), 0.5) - 1
    np.testing.assert_allclose(z.mean(0), 0, atol=5 * 0.5 / np.sqrt(N))
    np.testing.assert_allclose(np.cov(z.T), 0.25 * np.eye(3), atol=5 * 0.25 * np.sqrt(2 / N))


def test_ridge_regression_is_regression_on_noisy_copies():
    rng = np.random.default_rng(0)
    x, y, scale = rng.standard_normal((50, 2)), rng.standard_normal(50), 0.4
    copies = noisy(jnp.tile(x, (N // 50, 1)), scale)
    found = np.linalg.lstsq(copies, np.tile(y, N // 50), rcond=None)[0]
    ridge = np.linalg.solve(x.T @ x + 50 * scale**2 * np.eye(2), x.T @ y)
    np.testing.assert_allclose(found, ridge, atol=0.01)
    assert np.abs(ridge - np.linalg.lstsq(x, y, rcond=None)[0]).max() > 0.02


def test_small_input_noise_adds_the_squared_slope_to_the_error():
    f, x, y, scale = lambda x: jnp.sin(2 * x), 0.3, 0.1, 0.02
    off = noisy(jnp.full((N, 1), x), scale)
    raised = ((f(off) - y) ** 2).mean() - (f(x) - y) ** 2
    slope, bend = jax.grad(f)(x), jax.grad(jax.grad(f))(x)
    # E (f + e f' + e^2 f''/2 - y)^2 to second order; at a minimum f - y is 0 and the slope is left
    expected = scale**2 * (slope**2 + (f(x) - y) * bend)
    deviation = 2 * scale * abs((f(x) - y) * slope) / np.sqrt(N)
    assert abs(raised - expected) < 5 * deviation
    at_minimum = ((f(off) - f(x)) ** 2).mean()
    np.testing.assert_allclose(at_minimum, scale**2 * slope**2, rtol=0.05)


def test_label_noise_reaches_all_other_classes_alike():
    y = jnp.asarray(np.arange(N) % 4, jnp.int32)
    found = np.asarray(jax.jit(lambda k, y: label_noise(k, y, rate=0.3, classes=4))(KEYS, y))
    assert found.dtype == np.int32
    table = np.histogram2d(np.arange(N) % 4, found, bins=4, range=[[0, 4], [0, 4]])[0] / (N / 4)
    expected = np.asarray(losses.smooth_labels(jnp.eye(4), 0.3, convention="others"))
    np.testing.assert_allclose(table, expected, atol=5 * np.sqrt(0.25 / (N / 4)))


def test_masking_hides_the_share_asked_for_and_leaves_the_rest():
    x = jnp.asarray(np.linspace(1, 2, 3))[None] * jnp.ones((N, 1))
    found = np.asarray(jax.jit(lambda k: masking_noise(k, x, rate=0.3, value=-1))(KEYS))
    hidden = found == -1
    np.testing.assert_array_equal(found[~hidden], np.asarray(x)[~hidden])
    np.testing.assert_allclose(hidden.mean(0), 0.3, atol=5 * np.sqrt(0.21 / N))
    np.testing.assert_allclose(np.cov(hidden.T), 0.21 * np.eye(3), atol=5 * 0.21 / np.sqrt(N))


def test_salt_and_pepper_are_equally_likely():
    x = jnp.full((N, 2), 0.5)
    run = jax.jit(lambda k: salt_and_pepper(k, x, rate=0.2, low=-1, high=2))
    found = np.asarray(run(KEYS))
    for value, share in ((-1, 0.1), (2, 0.1), (0.5, 0.8)):
        np.testing.assert_allclose((found == value).mean(0), share, atol=5 * np.sqrt(0.2 / N))


def test_no_noise_changes_nothing_and_an_example_has_its_own():
    x, y = jnp.arange(6.0).reshape(3, 2), jnp.array([0, 1, 2])
    np.testing.assert_array_equal(input_noise(KEYS[:3], x, scale=0.0), x)
    np.testing.assert_array_equal(label_noise(KEYS[:3], y, rate=0.0, classes=3), y)
    np.testing.assert_array_equal(masking_noise(KEYS[:3], x, rate=0.0), x)
    np.testing.assert_array_equal(salt_and_pepper(KEYS[:3], x, rate=0.0), x)
    for noisy in (masking_noise, salt_and_pepper):
        whole = noisy(KEYS[:3], x, rate=0.5)
        np.testing.assert_array_equal(noisy(KEYS[1:3], x[1:], rate=0.5), whole[1:])
        assert noisy(KEYS[:3], x.astype(jnp.bfloat16), rate=0.5).dtype == jnp.bfloat16
    whole = input_noise(KEYS[:3], x, scale=1.0)
    np.testing.assert_array_equal(input_noise(KEYS[2:3], x[2:], scale=1.0), whole[2:])
    assert input_noise(KEYS[:3], x.astype(jnp.bfloat16), scale=0.1).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: input_noise(KEYS[:2], jnp.ones(2), scale=-1), r"\(scale=...\) must be >= 0"),
        (lambda: input_noise(KEYS[:2], jnp.ones(2, int), scale=1), "must be floating point"),
        (lambda: input_noise(KEYS[:3], jnp.ones(2), scale=1), r"each of \(2,\) .* got \(3,\)"),
        (lambda: masking_noise(KEYS[:2], jnp.ones(2), rate=2), r"in \[0, 1\], got 2"),
        (lambda: masking_noise(KEYS[:3], jnp.ones(2), rate=1), r"each of \(2,\) .* got \(3,\)"),
        (lambda: salt_and_pepper(KEYS[:2], jnp.ones(2), rate=-1), r"in \[0, 1\], got -1"),
        (lambda: salt_and_pepper(KEYS[:2], jnp.ones(2), rate=1, low=1), "low < high, got 1 and"),
        (lambda: salt_and_pepper(KEYS[:2], jnp.ones(2, int), rate=1), "must be floating point"),
        (lambda: label_noise(KEYS[:2], jnp.ones(2), rate=0.1, classes=2), "must be integers"),
        (lambda: label_noise(KEYS[:2], jnp.ones(2, int), rate=2, classes=2), r"in \[0, 1\], got 2"),
        (lambda: label_noise(KEYS[:2], jnp.ones(2, int), rate=0.1, classes=1), "must be >= 2"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
