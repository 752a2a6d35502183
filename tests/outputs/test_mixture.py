"""Mixtures of Gaussians: one component, quadrature, moments, far targets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from fdl import outputs

RNG = np.random.default_rng(2)
WEIGHTS = np.array([0.2, 0.5, 0.3])
MIXTURE = outputs.Mixture(
    jnp.log(WEIGHTS),
    jnp.array([[-3.0, 0.0], [0.0, 1.0], [4.0, -1.0]]),
    jnp.array([[0.5, 2.0], [1.0, 1.0], [0.2, 0.7]]),
)


def test_one_component_is_the_gaussian():
    raw, y = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 2))
    one = outputs.mixture(2, 1, floor=0.0).distribution(np.c_[RNG.normal(size=6), raw])
    variance = np.logaddexp(0, raw[:, 2:]) ** 2
    gaussian = outputs.Gaussian(jnp.asarray(raw[:, :2]), 1 / variance, -jnp.log(variance))
    np.testing.assert_allclose(one.nll(y), gaussian.nll(y), rtol=1e-12)
    np.testing.assert_allclose(one.variance(), gaussian.variance(), rtol=1e-12)


def test_the_density_is_the_weighted_sum_of_scipys_and_integrates_to_1():
    y = RNG.normal(size=(7, 2)) * 3
    log_pdf = [
        stats.norm.logpdf(y, m, s).sum(1) for m, s in zip(MIXTURE.loc, MIXTURE.scale, strict=True)
    ]
    expected = logsumexp(np.stack(log_pdf, 1) + np.log(WEIGHTS), axis=1)
    np.testing.assert_allclose(-MIXTURE.nll(y), expected, rtol=1e-12)
    grid = np.linspace(-12, 12, 24001)[:, None]
    line = outputs.Mixture(MIXTURE.log_weights, MIXTURE.loc[:, :1], MIXTURE.scale[:, :1])
    assert np.trapezoid(np.exp(-line.nll(grid)), grid[:, 0]) == pytest.approx(1, rel=1e-10)
    np.testing.assert_allclose(MIXTURE.responsibilities(y).sum(-1), 1, rtol=1e-12)


def test_the_mode_is_the_highest_centre():
    heights = [float(MIXTURE.nll(m)) for m in MIXTURE.loc]
    np.testing.assert_array_equal(MIXTURE.mode(), MIXTURE.loc[int(np.argmin(heights))])
    # neither the heaviest component nor the mean
    assert int(np.argmin(heights)) == 2
    np.testing.assert_allclose(MIXTURE.mean(), WEIGHTS @ np.asarray(MIXTURE.loc), rtol=1e-12)


def test_a_target_far_from_all_components_has_a_finite_loss_and_gradient():
    far = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), MIXTURE)
    loss, slope = jax.value_and_grad(lambda m: m.nll(jnp.full(2, 1e4, jnp.float32)))(far)
    assert np.isfinite(loss)
    assert all(np.isfinite(a).all() for a in slope)
