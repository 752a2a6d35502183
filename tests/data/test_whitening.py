import numpy as np
import pytest

from fdl import data
from fdl.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2000, 5)) @ RNG.normal(size=(5, 5)) + RNG.normal(size=5)


def covariance(z):
    return np.cov(z.T, bias=True)


@pytest.mark.parametrize("kind", ["zca", "pca"])
def test_what_is_white_has_the_unit_matrix_as_covariance(kind):
    learned = data.fit_whitening(X, kind=kind, epsilon=0.0)
    z = learned.apply(X)
    assert z.dtype == np.float32
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(covariance(z), np.eye(5), atol=1e-5)
    np.testing.assert_allclose(learned.invert(z), X, atol=1e-5)


def test_zca_is_the_white_form_that_stays_nearest_to_the_data():
    centred = X - X.mean(0)
    zca, pca = (data.fit_whitening(X, kind=kind, epsilon=0.0).apply(X) for kind in ("zca", "pca"))
    turn = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
    nearest = np.square(zca - centred).sum()
    assert nearest < np.square(pca - centred).sum()
    assert nearest < np.square(zca @ turn - centred).sum()
    matrix = data.fit_whitening(X, epsilon=0.0).matrix
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-9)
    np.testing.assert_allclose(matrix @ matrix, np.linalg.inv(covariance(X)), rtol=1e-6)


def test_pca_keeps_the_directions_of_largest_variance():
    learned = data.fit_whitening(X, kind="pca", epsilon=0.0, components=2)
    z = learned.apply(X)
    left = np.square(learned.invert(z) - X).sum() / len(X)
    np.testing.assert_allclose(left, np.linalg.eigvalsh(covariance(X))[:3].sum(), rtol=1e-4)


def test_epsilon_holds_small_directions_down():
    x = X * np.array([1, 1, 1, 1, 1e-6])
    epsilon = 0.01
    s = np.linalg.eigvalsh(covariance(x))
    expected = s / (s + epsilon * s.mean())
    z = data.fit_whitening(x, epsilon=epsilon).apply(x)
    np.testing.assert_allclose(np.linalg.eigvalsh(covariance(z)), expected, atol=1e-5)


def test_a_direction_without_variance_becomes_zero():
    x = np.concatenate([X, X[:, :1]], 1)
    z = data.fit_whitening(x, kind="pca", epsilon=0.0).apply(x)
    np.testing.assert_allclose(z[:, -1], 0, atol=1e-6)
    assert (data.fit_whitening(np.ones((4, 3)), epsilon=0.0).apply(np.ones((4, 3))) == 0).all()


def test_what_is_wrong_is_said_in_one_line():
    for changes, message in (
        ({"x": X[0]}, r"fit_whitening\(x\) must be \(N >= 2, features\), got \(5,\)"),
        ({"kind": "ica"}, r"fit_whitening\(kind=\.\.\.\) must be zca or pca, got 'ica'"),
        ({"epsilon": -1.0}, r"fit_whitening\(epsilon=\.\.\.\) must be >= 0, got -1"),
        ({"components": 6}, r"fit_whitening\(components=\.\.\.\) must be in 1\.\.5, got 6"),
    ):
        with pytest.raises(InputError, match=message):
            data.fit_whitening(**({"x": X} | changes))
