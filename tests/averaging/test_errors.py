"""The formula of bagging, and out-of-bag means against a loop."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.random import default_rng

from fdl import averaging, data


@pytest.mark.parametrize(("v", "c"), [(1.0, 0.0), (2.0, 0.8), (1.0, 1.0)])
def test_squared_error_of_a_mean_is_that_of_the_book(v, c):
    """A mean of k errors of variance v and covariance c has the variance v/k + (k - 1) c/k."""
    k, n = 5, 40_000
    shared, own = default_rng(0).normal(size=(1, n)), default_rng(1).normal(size=(k, n))
    errors = np.sqrt(c) * shared + np.sqrt(v - c) * own
    found = averaging.error_moments(jnp.asarray(errors))
    expected = v / k + (k - 1) * c / k
    spread = 4 * np.sqrt(2 / n)  # of a mean of n squares, relative
    assert float(found.ensemble) == pytest.approx(expected, rel=spread)
    assert float(found.variance) == pytest.approx(v, rel=spread)
    assert float(found.covariance) == pytest.approx(c, rel=spread, abs=spread)


def test_moments_are_those_of_all_pairs():
    errors = default_rng(0).normal(size=(4, 3, 7)) + 0.5
    found = averaging.error_moments(jnp.asarray(errors))
    pairs = [(errors[i] * errors[j]).mean() for i in range(4) for j in range(4) if i != j]
    np.testing.assert_allclose(found.covariance, np.mean(pairs), rtol=1e-12)
    np.testing.assert_allclose(found.variance, (errors**2).mean(), rtol=1e-12)
    np.testing.assert_allclose(found.ensemble, (errors.mean(0) ** 2).mean(), rtol=1e-12)


def test_out_of_bag_means_are_over_members_that_never_saw_the_example():
    k, n = 4, 25
    p = default_rng(0).dirichlet(np.ones(3), (k, n))
    out = data.out_of_bag(data.bootstrap_indices(n, k, seed=1))
    found, known = averaging.out_of_bag_mean(jnp.log(p), out)
    assert 0 < known.sum() < n  # both kinds occur
    for i in range(n):
        if out[:, i].any():
            np.testing.assert_allclose(jnp.exp(found[i]), p[out[:, i], i].mean(0), rtol=1e-12)
        else:
            assert not known[i] and (found[i] == -jnp.inf).all()


def test_rules_of_their_arguments():
    with pytest.raises(ValueError, match="must be of at least 2 members, got 1"):
        averaging.error_moments(jnp.zeros((1, 4)))
    with pytest.raises(ValueError, match=r"must be of shape \(3, 5\), got \(3, 4\)"):
        averaging.out_of_bag_mean(jnp.zeros((3, 5, 2)), np.ones((3, 4), bool))
