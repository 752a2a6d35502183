"""Fits of plain mixtures: the likelihood rises, a known mixture is found again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import outputs

RNG = np.random.default_rng(3)
CENTRES = np.array([[-2.0, 0.0], [1.0, 3.0], [4.0, -1.0]])
SPREAD = np.array([[0.5, 1.0], [0.8, 0.3], [0.3, 0.6]])
WHICH = RNG.choice(3, p=[0.5, 0.3, 0.2], size=2000)
Y = CENTRES[WHICH] + SPREAD[WHICH] * RNG.normal(size=(2000, 2))


def test_a_known_mixture_is_found_again():
    found = outputs.fit_mixture(Y, 3)
    order = np.argsort(found.loc[:, 0])
    n = np.bincount(WHICH)[:, None]
    assert np.all(np.abs(found.loc[order] - CENTRES) < 4 * SPREAD / np.sqrt(n))
    assert np.all(np.abs(found.scale[order] - SPREAD) < 4 * SPREAD / np.sqrt(2 * n))
    np.testing.assert_allclose(np.exp(found.log_weights[order]), n[:, 0] / 2000, atol=0.02)
    again = outputs.fit_mixture(Y, 3)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


def test_no_step_lowers_the_likelihood():
    y = Y[:100]
    nll = [
        float(outputs.fit_mixture(y, 3, starts=1, steps=s).nll(y).mean()) for s in (0, 1, 2, 4, 30)
    ]
    assert np.all(np.diff(nll) < 1e-12)
    assert nll[-1] < nll[0] - 0.5


@pytest.mark.slow
def test_it_ends_where_scikit_learn_ends():
    mixture = pytest.importorskip("sklearn.mixture")
    theirs = mixture.GaussianMixture(
        3, covariance_type="diag", n_init=8, tol=1e-9, max_iter=500, random_state=0
    ).fit(Y)
    ours = outputs.fit_mixture(Y, 3)
    assert float(-ours.nll(Y).mean()) == pytest.approx(theirs.score(Y), abs=1e-5)


def test_units_and_offsets_of_the_data_do_not_matter():
    y = Y[:300].astype(np.float32)
    plain, moved = outputs.fit_mixture(y, 3), outputs.fit_mixture(1e-4 * y + 0.25, 3)
    np.testing.assert_allclose(moved.loc, 1e-4 * plain.loc + 0.25, rtol=1e-3)
    np.testing.assert_allclose(moved.scale, 1e-4 * plain.scale, rtol=2e-2)


def test_more_components_than_values_and_constant_targets_give_no_nan():
    for y in (np.array([[1.0], [2.0], [1.0]]), np.full((3, 1), 3.0)):
        unit = outputs.mixture(1, 4)
        raw = unit.fit(y.astype(np.float32))
        assert raw.dtype == jnp.float32 and np.isfinite(raw).all()
        slope = jax.grad(lambda raw, u=unit, y=y: u.distribution(raw).nll(y).mean())(raw)
        assert np.isfinite(slope).all()
