"""Bernoulli, Multinoulli and Poisson units: SciPy's probabilities, frequencies at the edge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fdl import outputs

Z = np.array([-3.0, 0.0, 0.4, 2.0])


def test_bernoulli_probabilities_are_those_of_scipy():
    coins = outputs.Bernoulli(jnp.asarray(Z)[:, None])
    p = 1 / (1 + np.exp(-Z))
    for y in (0, 1):
        expected = stats.bernoulli.logpmf(y, p)
        np.testing.assert_allclose(-coins.nll(np.full((4, 1), y)), expected, rtol=1e-12)
    np.testing.assert_allclose(coins.entropy(), stats.bernoulli.entropy(p), rtol=1e-12)
    np.testing.assert_array_equal(coins.mode()[:, 0], [0, 0, 1, 1])


def test_multinoulli_probabilities_add_up_and_ignore_a_constant():
    die, shifted = outputs.Multinoulli(jnp.asarray(Z)), outputs.Multinoulli(jnp.asarray(Z) + 50)
    nll = die.nll(np.arange(4))
    assert float(jnp.exp(-nll).sum()) == pytest.approx(1, rel=1e-12)
    np.testing.assert_allclose(shifted.nll(np.arange(4)), nll, rtol=1e-12)
    np.testing.assert_allclose(nll, np.log(np.exp(Z).sum()) - Z, rtol=1e-12)
    assert float(die.entropy()) == pytest.approx(stats.entropy(np.exp(Z)))
    assert int(die.mode()) == 3


def test_poisson_probabilities_are_those_of_scipy_and_add_up():
    counts = np.arange(200)[:, None, None]
    rates = outputs.Poisson(jnp.asarray(Z)[:, None])
    nll = rates.nll(np.broadcast_to(counts, (200, 4, 1)))
    expected = stats.poisson.logpmf(counts[..., 0], np.exp(Z))
    np.testing.assert_allclose(-nll, expected, rtol=1e-10)
    np.testing.assert_allclose(np.exp(-nll).sum(0), 1, rtol=1e-10)
    at_mode = rates.nll(rates.mode())
    np.testing.assert_allclose(at_mode, np.asarray(nll).min(0), rtol=1e-12)


def test_fits_are_the_frequencies_and_stay_finite_at_0_and_1():
    y = np.array([[0, 1, 1], [0, 1, 0], [0, 1, 0]], np.float32)
    bits = outputs.bernoulli(3)
    raw = bits.fit(y)
    np.testing.assert_allclose(bits.distribution(raw).mean(), y.mean(0), atol=1e-6)
    classes = outputs.multinoulli(3)
    labels = classes.fit(np.array([0, 0, 1]))
    np.testing.assert_allclose(classes.distribution(labels).mean(), [2 / 3, 1 / 3, 0], atol=1e-6)
    counts = outputs.poisson(2)
    rates = counts.fit(np.array([[0, 4], [0, 1]]))
    np.testing.assert_allclose(counts.distribution(rates).mean(), [0, 2.5], atol=1e-6)
    assert all(np.isfinite(a).all() for a in (raw, labels, rates))


def test_classes_must_be_integers_and_an_unknown_one_gives_nan():
    die = outputs.Multinoulli(jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"Multinoulli.nll\(y\) must be integers"):
        die.nll(np.zeros(2))
    assert np.isnan(jax.jit(die.nll)(np.array([3, -1]))).all()
