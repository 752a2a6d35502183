"""Full covariances: SciPy's densities, scatter / n, both factors, singular scatters."""

import jax
import numpy as np
import pytest
from scipy import stats

from fdl import outputs

RNG = np.random.default_rng(1)
Y = RNG.normal(size=(25, 3)) @ RNG.normal(size=(3, 3)) + np.array([1.0, -2.0, 0.0])
SCATTER = (Y - Y.mean(0)).T @ (Y - Y.mean(0)) / len(Y)
BOTH = ("covariance", "precision")


@pytest.mark.parametrize("by", BOTH)
def test_the_best_constant_covariance_is_the_scatter(by):
    unit = outputs.full_covariance(3, by=by)
    plain = unit.distribution(unit.fit(Y))
    np.testing.assert_allclose(plain.covariance(), SCATTER, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(plain.variance(), np.diag(SCATTER), rtol=1e-8)
    normal = stats.multivariate_normal(Y.mean(0), SCATTER)
    np.testing.assert_allclose(-plain.nll(Y), normal.logpdf(Y), rtol=1e-9)
    assert float(plain.entropy()) == pytest.approx(normal.entropy(), rel=1e-9)


@pytest.mark.parametrize("by", BOTH)
def test_samples_are_correlated_as_the_covariance_says(by):
    unit = outputs.full_covariance(3, by=by)
    plain = unit.distribution(unit.fit(Y))
    samples = np.asarray(plain.sample(jax.random.key(0), (20_000,)))
    off = samples - Y.mean(0)
    products = off[:, :, None] * off[:, None, :]
    bound = 4 * products.std(0) / np.sqrt(len(samples))
    assert np.all(np.abs(products.mean(0) - SCATTER) < bound)


def test_without_correlations_it_is_the_diagonal_gaussian():
    raw = RNG.normal(size=(5, 4))
    diagonal = outputs.heteroscedastic(2, by="variance", floor=0.0)
    full = outputs.full_covariance(2, floor=0.0).distribution(np.c_[raw, np.zeros(5)])
    variance = np.square(np.logaddexp(0, raw[:, 2:]))
    same = diagonal.distribution(np.c_[raw[:, :2], np.log(np.expm1(variance))])
    np.testing.assert_allclose(full.nll(Y[:5, :2]), same.nll(Y[:5, :2]), rtol=1e-10)


@pytest.mark.parametrize("by", BOTH)
@pytest.mark.parametrize("case", ["few", "constant", "copy"])
def test_a_singular_scatter_is_fitted_without_nan(case, by):
    y = {
        "few": Y[:2],
        "constant": np.c_[Y[:, :2], np.ones(len(Y))],
        "copy": Y[:, [0, 0, 1]],
    }[case].astype(np.float32)
    unit = outputs.full_covariance(3, by=by)
    raw = unit.fit(y)
    assert np.isfinite(raw).all()
    assert not np.isnan(unit.distribution(raw).nll(y)).any()
