"""Bounds of log p(x) where log p(x) is known: a linear Gaussian model."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import objectives

N, D, K = 3, 4, 2
RNG = np.random.default_rng(0)
W = np.linalg.qr(RNG.standard_normal((D, D)))[0][:, :K] * [2.0, 0.7]  # so that posteriors factorise
NOISE = 0.3
X = RNG.standard_normal((N, D))
KEYS = jax.random.split(jax.random.key(0), N)


def nll(z):
    """-log p(x | z), x ~ N(W z, NOISE I)."""
    off = X - z @ W.T
    return 0.5 * ((off**2).sum(-1) / NOISE + D * math.log(2 * math.pi * NOISE))


def log_p():
    covariance = W @ W.T + NOISE * np.eye(D)
    quadratic = (X @ np.linalg.inv(covariance) * X).sum(1)
    return -0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * covariance)[1])


def exact():
    precision = (W**2).sum(0) / NOISE + 1
    mean = X @ W / NOISE / precision
    return jnp.asarray(mean), jnp.broadcast_to(-jnp.log(precision)[None], mean.shape)


def wrong():
    mean, log_variance = exact()
    return mean + 0.3, log_variance + 0.5


def mean_over_draws(bound, draws, seed=1):
    keys = jax.random.split(jax.random.key(seed), (draws, N))
    values = np.asarray(jax.jit(jax.vmap(bound))(keys))
    return values.mean(0), values.std(0) / math.sqrt(draws)


@pytest.mark.parametrize("samples", [1, 3, 70])
def test_with_the_true_posterior_the_weighted_bound_is_log_p(samples):
    found = objectives.iwae(exact(), nll, key=KEYS, samples=samples)
    np.testing.assert_allclose(found, log_p(), rtol=1e-12)


def test_the_elbo_is_log_p_less_the_divergence_from_the_posterior():
    (mean, log_variance), (at, log_v) = wrong(), exact()
    s, v = np.exp(log_variance), np.exp(log_v)
    divergence = 0.5 * ((mean - at) ** 2 / v + s / v - 1 - log_variance + log_v).sum(1)
    bound = lambda key: objectives.elbo(wrong(), nll, key=key, samples=8)  # noqa: E731
    found, error = mean_over_draws(bound, 4000)
    assert (np.abs(found - (log_p() - divergence)) < 5 * error).all()
    assert (divergence > 20 * error).all()


def test_the_weighted_bound_grows_from_the_elbo_to_log_p():
    found = [
        mean_over_draws(lambda key, k=k: objectives.iwae(wrong(), nll, key=key, samples=k), draws)
        for k, draws in ((1, 20_000), (5, 4000), (50, 1000))
    ]
    bound = lambda key: objectives.elbo(wrong(), nll, key=key)  # noqa: E731
    elbo, error = mean_over_draws(bound, 20_000, seed=2)
    assert (np.abs(found[0][0] - elbo) < 5 * (error + found[0][1])).all()
    for (low, low_error), (high, high_error) in zip(found[:-1], found[1:], strict=True):
        assert (high - low > 2 * (low_error + high_error)).all()
    assert (found[-1][0] < log_p()).all()
    many = objectives.iwae(wrong(), nll, key=KEYS, samples=20_000)
    np.testing.assert_allclose(many, log_p(), atol=0.05)


def test_a_bound_is_what_its_samples_make_it_whatever_is_computed_together():
    """With the draws of the documented key, written out; and gradients through them."""
    samples = 70  # more than are decoded at a time
    noise = jax.vmap(lambda k: jax.random.normal(k, (samples, K)), out_axes=1)(KEYS)

    def by_hand(posterior):
        mean, log_variance = posterior
        z = mean[None] + jnp.exp(log_variance / 2)[None] * noise
        log_q = -0.5 * (noise**2 + log_variance[None] + math.log(2 * math.pi)).sum(-1)
        log_prior = -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
        weights = jnp.exp(-jax.vmap(nll)(z) + log_prior - log_q)
        return jnp.log(weights.mean(0)).sum()

    def ours(posterior):
        return objectives.iwae(posterior, nll, key=KEYS, samples=samples).sum()

    expected, found = (jax.jit(jax.value_and_grad(f))(wrong()) for f in (by_hand, ours))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), found, expected)


def test_the_gradient_of_the_elbo_is_that_of_its_expectation():
    def expected(posterior):
        """Its closed form: log p less KL(q || true posterior)."""
        (mean, log_s), (at, log_v) = posterior, exact()
        ratio = jnp.exp(log_s - log_v)
        return -0.5 * ((mean - at) ** 2 / jnp.exp(log_v) + ratio - log_s).sum()

    def ours(posterior, key):
        return objectives.elbo(posterior, nll, key=key, samples=64).sum()

    keys = jax.random.split(jax.random.key(3), (500, N))
    each = jax.jit(jax.vmap(jax.grad(ours), (None, 0)))(wrong(), keys)
    for found, truth in zip(each, jax.grad(expected)(wrong()), strict=True):
        error = 5 * np.asarray(found).std(0) / math.sqrt(500)
        assert (np.abs(np.asarray(found).mean(0) - truth) < error).all()


def test_an_example_has_its_own_draws_and_32_bits_stay():
    posterior = jax.tree.map(lambda a: a.astype(jnp.float32), wrong())
    whole = objectives.iwae(posterior, lambda z: (z**2).sum(-1), key=KEYS, samples=5)
    last = jax.tree.map(lambda a: a[2:], posterior)
    alone = objectives.iwae(last, lambda z: (z**2).sum(-1), key=KEYS[2:], samples=5)
    np.testing.assert_array_equal(alone, whole[2:])
    assert whole.dtype == jnp.float32


@pytest.mark.parametrize("bound", [objectives.elbo, objectives.iwae])
def test_what_makes_no_sense_is_refused(bound):
    mean, log_variance = exact()
    with pytest.raises(ValueError, match=r"\(samples=...\) must be >= 1, got 0"):
        bound((mean, log_variance), nll, key=KEYS, samples=0)
    with pytest.raises(ValueError, match=r"two arrays \(b, d\), got \(3, 2\) and \(2, 2\)"):
        bound((mean, log_variance[:2]), nll, key=KEYS)
    with pytest.raises(ValueError, match=r"each of \(3,\) examples, got \(2,\)"):
        bound((mean, log_variance), nll, key=KEYS[:2])
