"""Principal components against the singular value decomposition and the Gaussian they define."""

import numpy as np
import pytest

from fdl import data

X = np.random.default_rng(0).standard_normal((40, 5)) * [3, 2, 1, 0.5, 0.3] @ np.linalg.qr(
    np.random.default_rng(1).standard_normal((5, 5))
)[0] + np.arange(5)


def test_it_is_the_singular_value_decomposition_of_the_centred_data():
    found = data.fit_pca(X, 2)
    _, sizes, rows = np.linalg.svd(X - X.mean(0), full_matrices=False)
    np.testing.assert_allclose(found.variances, sizes[:2] ** 2 / len(X), rtol=1e-10)
    np.testing.assert_allclose(np.abs(rows[:2] @ found.directions), np.eye(2), atol=1e-10)
    error = ((found.decode(found.encode(X)) - X) ** 2).sum(1).mean()
    assert error == pytest.approx((sizes[2:] ** 2).sum() / len(X), rel=1e-10)
    assert found.noise == pytest.approx(error / 3, rel=1e-10)


def test_the_likelihood_is_that_of_the_gaussian_with_its_covariance():
    found = data.fit_pca(X, 2)
    u, v = found.directions, found.variances
    covariance = u @ np.diag(v - found.noise) @ u.T + found.noise * np.eye(5)
    off = X - found.mean
    quadratic = (off @ np.linalg.inv(covariance) * off).sum(1)
    expected = 0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * covariance)[1])
    np.testing.assert_allclose(found.nll(X), expected, rtol=1e-10)


@pytest.mark.parametrize("count", [1, 4])
def test_no_other_model_of_its_kind_is_likelier(count):
    found = data.fit_pca(X, count)
    best = found.nll(X).mean()
    rng = np.random.default_rng(2)
    for size in (1e-3, 1e-1):
        turned = np.linalg.qr(found.directions + size * rng.standard_normal((5, count)))[0]
        others = [
            found._replace(directions=turned),
            found._replace(noise=found.noise * (1 + size)),
            found._replace(noise=found.noise / (1 + size)),
            found._replace(variances=found.variances * (1 + size)),
            found._replace(mean=found.mean + size),
        ]
        assert all(other.nll(X).mean() > best for other in others)


def test_all_directions_lose_nothing_and_float32_data_are_worked_out_in_64_bits():
    found = data.fit_pca(X.astype(np.float32), 5)
    assert found.mean.dtype == np.float64
    np.testing.assert_allclose(found.decode(found.encode(X)), X, rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match=r"needs noise > 0, got 0.0"):
        found.nll(X)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.fit_pca(X, 0), r"must lie in 1..5, got 0"),
        (lambda: data.fit_pca(X, 6), r"must lie in 1..5, got 6"),
        (lambda: data.fit_pca(X[0], 1), r"must be \(n >= 1, d\), got \(5,\)"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
