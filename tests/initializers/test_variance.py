"""Empirical variances against the table in the module's docstring."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import initializers

M, N = 300, 200


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("lecun_normal", 1 / M),
        ("lecun_uniform", 1 / M),
        ("glorot_normal", 2 / (M + N)),
        ("xavier_normal", 2 / (M + N)),
        ("glorot_uniform", 2 / (M + N)),
        ("xavier_uniform", 2 / (M + N)),
        ("he_normal", 2 / M),
        ("kaiming_normal", 2 / M),
        ("he_uniform", 2 / M),
        ("kaiming_uniform", 2 / M),
        ("orthogonal", 1 / M),
    ],
)
def test_variance_is_the_documented_one(name, variance):
    weights = np.asarray(getattr(initializers, name)()(jax.random.key(0), (M, N), jnp.float32))
    # the variance of 60,000 draws is known to sqrt(2 / 60000) = 0.6 %; three times that
    assert weights.var() == pytest.approx(variance, rel=0.018)
    assert abs(weights.mean()) < 4 * np.sqrt(variance / (M * N))


def test_uniform_of_jax_starts_at_zero_and_the_symmetric_heuristic_does_not():
    key = jax.random.key(1)
    plain = initializers.uniform(0.5)(key, (M, N), jnp.float32)
    assert 0 <= plain.min() < 0.01 and 0.49 < plain.max() <= 0.5
    heuristic = initializers.variance_scaling(1 / 3, "fan_in", "uniform")(key, (M, N), jnp.float32)
    bound = 1 / np.sqrt(M)
    assert heuristic.min() == pytest.approx(-bound, rel=1e-3)
    assert heuristic.max() == pytest.approx(bound, rel=1e-3)


def test_orthogonal_has_orthonormal_columns():
    q = np.asarray(initializers.orthogonal()(jax.random.key(2), (30, 20), jnp.float64))
    np.testing.assert_allclose(q.T @ q, np.eye(20), atol=1e-14)
