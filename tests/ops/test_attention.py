"""Scores and their softmax against NumPy and in the limits."""

import jax.numpy as jnp
import numpy as np

from fdl.ops import additive_scores, attend, dot_scores

RNG = np.random.default_rng(0)
QUERY, KEYS, V = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 5, 3)), RNG.normal(size=3)
VALUES = RNG.normal(size=(2, 5, 4))


def test_scores_are_those_of_one_pair_after_another():
    for row in range(2):
        for j in range(5):
            additive = V @ np.tanh(QUERY[row] + KEYS[row, j])
            np.testing.assert_allclose(additive_scores(QUERY, KEYS, V)[row, j], additive)
            np.testing.assert_allclose(dot_scores(QUERY, KEYS)[row, j], QUERY[row] @ KEYS[row, j])


def test_masked_positions_are_as_if_they_were_not_there():
    scores = RNG.normal(size=(2, 5)) * 5
    mask = np.arange(5)[None] < np.array([[3], [5]])
    context, weights = attend(jnp.asarray(scores), jnp.asarray(VALUES), jnp.asarray(mask))
    for row, length in enumerate((3, 5)):
        a = np.exp(scores[row, :length])
        a /= a.sum()
        np.testing.assert_allclose(weights[row, :length], a, rtol=1e-12)
        np.testing.assert_allclose(context[row], a @ VALUES[row, :length], rtol=1e-12)
    np.testing.assert_array_equal(weights[0, 3:], 0)


def test_where_all_is_masked_the_context_is_0():
    context, weights = attend(
        jnp.full((1, 5), 1e30), jnp.asarray(VALUES[:1]), jnp.zeros((1, 5), bool)
    )
    np.testing.assert_array_equal(context, 0)
    np.testing.assert_array_equal(weights, 0)


def test_a_score_far_above_the_others_picks_its_value():
    scores = np.zeros((2, 5))
    scores[:, 2] = 800
    context, _ = attend(jnp.asarray(scores), jnp.asarray(VALUES))
    np.testing.assert_allclose(context, VALUES[:, 2], rtol=1e-12)
