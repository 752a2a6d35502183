"""The divergence of two normal distributions against integration, sampling and its invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl.losses import gaussian_kl

RNG = np.random.default_rng(0)
MU, LOG_S, M, LOG_V = RNG.standard_normal((4, 3, 2))


def test_it_is_the_integral_of_the_log_ratio():
    """By Gauss-Hermite quadrature, which is exact: the log ratio is quadratic."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    weights = weights / weights.sum()
    z = MU[..., None] + np.exp(LOG_S / 2)[..., None] * nodes
    log_q = -((z - MU[..., None]) ** 2) / np.exp(LOG_S)[..., None] / 2 - LOG_S[..., None] / 2
    log_p = -((z - M[..., None]) ** 2) / np.exp(LOG_V)[..., None] / 2 - LOG_V[..., None] / 2
    expected = (weights * (log_q - log_p)).sum(-1).sum(-1)
    found = gaussian_kl(MU, LOG_S, prior_mean=M, prior_log_variance=LOG_V)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    standard = -(z**2) / 2
    expected = (weights * (log_q - standard)).sum(-1).sum(-1)
    np.testing.assert_allclose(gaussian_kl(MU, LOG_S), expected, rtol=1e-10)


def test_it_is_the_mean_log_ratio_of_samples():
    n = 100_000
    z = MU + np.exp(LOG_S / 2) * np.random.default_rng(1).standard_normal((n, *MU.shape))
    ratio = (-((z - MU) ** 2) / np.exp(LOG_S) / 2 - LOG_S / 2 + z**2 / 2).sum(-1)
    error = 5 * ratio.std(0) / np.sqrt(n)
    assert (np.abs(ratio.mean(0) - gaussian_kl(MU, LOG_S)) < error).all()


def test_it_is_zero_for_equals_and_the_same_in_other_units():
    zero = gaussian_kl(MU, LOG_S, prior_mean=MU, prior_log_variance=LOG_S)
    np.testing.assert_allclose(zero, 0, atol=1e-15)
    base = gaussian_kl(MU, LOG_S, prior_mean=M, prior_log_variance=LOG_V)
    assert (np.asarray(base) > 0).all()
    shift, log_scale = 3.0, np.log(7.0)
    moved = gaussian_kl(
        7 * (MU + shift),
        LOG_S + 2 * log_scale,
        prior_mean=7 * (M + shift),
        prior_log_variance=LOG_V + 2 * log_scale,
    )
    np.testing.assert_allclose(moved, base, rtol=1e-10)


def test_its_gradient_leads_to_the_prior():
    mean, log_variance = jax.jit(jax.grad(lambda a, b: gaussian_kl(a, b).sum(), (0, 1)))(
        jnp.asarray(MU), jnp.asarray(LOG_S)
    )
    np.testing.assert_allclose(mean, MU, rtol=1e-12)
    np.testing.assert_allclose(log_variance, np.expm1(LOG_S) / 2, rtol=1e-10)
    each = jax.vmap(gaussian_kl)(jnp.asarray(MU), jnp.asarray(LOG_S))
    np.testing.assert_allclose(each, gaussian_kl(MU, LOG_S), rtol=1e-12)


def test_near_the_prior_no_digits_are_lost():
    tiny = jnp.float32(1e-4)
    found = gaussian_kl(jnp.zeros(1, jnp.float32), tiny[None])
    assert float(found) == pytest.approx(1e-8 / 4, rel=0.2)  # s - 1 - log s would give noise
    assert gaussian_kl(jnp.ones(1, jnp.bfloat16), jnp.zeros(1, jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian_kl(0.0, 0.0), r"\(mean\) must be \(..., d\), got \(\)"),
        (lambda: gaussian_kl(MU, LOG_S[0]), r"\(log_variance\) must have .* got \(2,\)"),
        (lambda: gaussian_kl(MU, LOG_S, prior_mean=M[0]), r"\(prior_mean\) must have the shape"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
