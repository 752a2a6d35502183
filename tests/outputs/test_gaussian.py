"""Gaussian units: closed forms, quadrature, what the parametrisations share, saturation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fdl import losses, outputs

RNG = np.random.default_rng(0)
Y = RNG.normal(size=(30, 2)) * np.array([0.5, 3.0]) + 1.0
WAYS = ("precision", "variance", "log_variance")


def test_unit_variance_has_the_gradient_of_half_the_squared_error():
    unit, raw = outputs.linear_gaussian(2), RNG.normal(size=Y.shape)
    ours = jax.grad(lambda raw: unit.distribution(raw).nll(Y).sum())(raw)
    theirs = jax.grad(lambda raw: losses.half_squared_error(raw, Y).sum())(raw)
    np.testing.assert_allclose(ours, theirs, rtol=1e-14)
    expected = stats.norm.logpdf(Y, raw, 1.0).sum(1)
    np.testing.assert_allclose(-unit.distribution(raw).nll(Y), expected, rtol=1e-12)


@pytest.mark.parametrize("by", WAYS)
def test_the_best_constant_variance_is_the_mean_squared_residual(by):
    unit = outputs.heteroscedastic(2, by=by)
    plain = unit.distribution(unit.fit(Y))
    np.testing.assert_allclose(plain.mean(), Y.mean(0), rtol=1e-12)
    np.testing.assert_allclose(plain.variance(), ((Y - Y.mean(0)) ** 2).mean(0), rtol=1e-9)
    expected = stats.norm.logpdf(Y, Y.mean(0), Y.std(0)).sum(1)
    np.testing.assert_allclose(-plain.nll(Y), expected, rtol=1e-9)


@pytest.mark.parametrize("by", WAYS)
def test_the_density_integrates_to_1(by):
    grid = np.linspace(-60, 60, 24001)[:, None]
    raw = np.array([0.7, 0.2])
    density = np.exp(-outputs.heteroscedastic(1, by=by).distribution(raw).nll(grid))
    assert np.trapezoid(density, grid[:, 0]) == pytest.approx(1, rel=1e-10)


@pytest.mark.parametrize("by", WAYS)
def test_the_floor_bounds_what_the_raw_output_means(by):
    unit = outputs.heteroscedastic(1, by=by, floor=0.25)
    smallest = unit.distribution(np.array([0.0, -1e4]))
    least = smallest.precision if by == "precision" else smallest.variance()
    assert float(least[0]) == pytest.approx(0.25, rel=1e-12)
    value = unit.distribution(np.array([0.0, 0.4]))
    value = value.precision if by == "precision" else value.variance()
    above = np.exp(0.4) if by == "log_variance" else np.log1p(np.exp(0.4))
    assert float(value[0]) == pytest.approx(above + 0.25, rel=1e-12)


@pytest.mark.parametrize("by", WAYS)
def test_a_constant_target_is_fitted_without_nan(by):
    unit = outputs.heteroscedastic(1, by=by)
    raw = unit.fit(np.full((5, 1), 2.0, np.float32))
    assert raw.dtype == jnp.float32 and np.isfinite(raw).all()
    loss, slope = jax.value_and_grad(lambda raw: unit.distribution(raw).nll(np.array([2.0])))(raw)
    assert np.isfinite(loss) and np.isfinite(slope).all()


def test_a_distribution_passes_through_jit_vmap_and_grad():
    unit = outputs.heteroscedastic(1)
    raw = RNG.normal(size=(4, 2))
    batch = jax.jit(unit.distribution)(raw)
    single = jax.vmap(lambda d, y: d.nll(y))(batch, Y[:4, :1])
    np.testing.assert_allclose(single, batch.nll(Y[:4, :1]), rtol=1e-12)
    slope = jax.grad(lambda d: d.nll(Y[:4, :1]).sum())(batch)
    np.testing.assert_allclose(slope.loc, batch.precision * (batch.loc - Y[:4, :1]), rtol=1e-12)


def test_a_saturated_sigmoid_learns_by_likelihood_and_not_by_squared_error():
    # sigmoid(-20) where 1 is right: the slopes are -1 and -2 e^-20
    def squared(z):
        return losses.squared_error(jax.nn.sigmoid(z), 1.0)

    def likelihood(z):
        return outputs.Bernoulli(z[None]).nll(jnp.ones(1))

    z = jnp.asarray(-20.0)
    assert float(jax.grad(likelihood)(z)) == pytest.approx(-1, rel=1e-8)
    assert float(jax.grad(squared)(z)) == pytest.approx(-2 * np.exp(-20.0), rel=1e-6)
