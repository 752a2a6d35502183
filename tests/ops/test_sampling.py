"""Filters of logits against plain loops over sorted lists, draws against their distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl.ops import penalise_repetition, sample_logits, top_k_logits, top_p_logits

RNG = np.random.default_rng(0)
ROWS = {
    "plain": RNG.normal(size=12),
    "far apart": 30 * RNG.normal(size=12),
    "tied": np.array([1.0, 2, 2, 0, 2, 1, -1, 0, 0, 2, 1, 1]),
    "all equal": np.zeros(12),
    "impossible ones": np.where(np.arange(12) % 3 == 0, -np.inf, RNG.normal(size=12)),
    "one left": np.where(np.arange(12) == 7, 3.0, -np.inf),
}


def kept(logits):
    return set(np.flatnonzero(np.isfinite(np.asarray(logits))).tolist())


def by_rank(row):
    return sorted(range(len(row)), key=lambda i: -row[i])


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("k", [1, 2, 5, 11, 12, 40])
def test_top_k_keeps_the_k_first_and_what_equals_the_last_of_them(name, k):
    row = ROWS[name]
    kth = row[by_rank(row)[min(k, 12) - 1]]
    expected = {i for i in range(12) if row[i] >= kth and np.isfinite(row[i])}
    found = top_k_logits(jnp.asarray(row), k)
    assert kept(found) == expected
    at = sorted(expected)
    np.testing.assert_array_equal(np.asarray(found)[at], row[at])


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("p", [1e-6, 0.3, 0.61, 0.95, 1.0])
def test_top_p_keeps_the_smallest_set_of_that_probability_and_what_equals_its_last(name, p):
    row = ROWS[name]
    probs = np.exp(row - row.max())
    probs /= probs.sum()
    total, nucleus = 0.0, []
    for i in by_rank(row):
        nucleus.append(i)
        total += probs[i]
        if total >= p - 1e-12:
            break
    last = row[nucleus[-1]] if p < 1 else -np.inf
    expected = {i for i in range(12) if row[i] >= last and np.isfinite(row[i])}
    assert kept(top_p_logits(jnp.asarray(row), p)) == expected


def test_rows_are_filtered_each_for_itself_and_limits_may_be_traced():
    logits = jnp.asarray(np.stack([ROWS["plain"], ROWS["far apart"]]))
    both = jax.jit(lambda x, k, p: (top_k_logits(x, k), top_p_logits(x, p)))
    for found, alone in zip(both(logits, 4, 0.8), (top_k_logits, top_p_logits), strict=True):
        for row, limit in ((0, (4, 0.8)), (1, (4, 0.8))):
            limit = limit[0] if alone is top_k_logits else limit[1]
            np.testing.assert_array_equal(found[row], alone(logits[row], limit))


def test_p_of_one_keeps_even_what_rounding_sums_away():
    row = jnp.asarray([20.0] + [-20.0] * 50, jnp.float32)  # 1 + 4e-18 is 1 in every float
    assert top_p_logits(row, 1.0).tolist() == row.tolist()


def test_a_row_without_any_possible_token_stays_one_without_a_nan():
    row = jnp.full((1, 5), -jnp.inf)
    for found in (top_k_logits(row, 2), top_p_logits(row, 0.5)):
        assert found.tolist() == row.tolist()
    assert sample_logits(jax.random.split(jax.random.key(0), 1), row).shape == (1,)


def test_low_precision_is_left_before_anything_is_computed():
    row = jnp.asarray([3.0, 1.0, 0.5], jnp.bfloat16)
    seen = jnp.array([True, False, True])
    for found in (top_k_logits(row, 2), top_p_logits(row, 0.9), penalise_repetition(row, seen, 3)):
        assert found.dtype == jnp.float32
    # 1 + 2**-9 has no neighbour below 1.0078 in bfloat16
    assert float(penalise_repetition(row, seen, 3.0)[0]) == 1.0
    assert float(penalise_repetition(row, seen, 1.3)[0]) == pytest.approx(3 / 1.3, rel=1e-6)


def test_the_penalty_lowers_what_was_seen_on_either_side_of_zero():
    logits = jnp.array([[2.0, -2.0, 2.0, -2.0, 0.0, -jnp.inf]])
    seen = jnp.array([[True, True, False, False, True, True]])
    expected = [[2 / 1.25, -2 * 1.25, 2.0, -2.0, 0.0, -np.inf]]
    np.testing.assert_allclose(penalise_repetition(logits, seen, 1.25), expected, rtol=1e-12)
    np.testing.assert_array_equal(penalise_repetition(logits, seen, 1.0), logits)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_draws_follow_the_distribution_of_their_temperature(temperature):
    logits = np.array([1.0, 0.0, -1.0, 2.0, -np.inf])
    n = 20_000
    keys = jax.random.split(jax.random.key(3), n)
    draws = sample_logits(keys, jnp.broadcast_to(jnp.asarray(logits), (n, 5)), temperature)
    counts = np.bincount(np.asarray(draws), minlength=5)
    weights = np.exp(logits / temperature)
    expected = n * weights / weights.sum()
    assert counts[4] == 0
    chi_square = ((counts[:4] - expected[:4]) ** 2 / expected[:4]).sum()
    assert chi_square < 16.3  # 3 degrees of freedom: one in a thousand lies above


def test_temperature_zero_takes_the_first_of_the_most_likely():
    logits = jnp.array([[0.0, 2.0, 2.0], [-1.0, -3.0, -2.0], [-jnp.inf, 0.0, -jnp.inf]])
    for seed in range(3):
        keys = jax.random.split(jax.random.key(seed), 3)
        assert sample_logits(keys, logits, 0.0).tolist() == [1, 0, 1]


def test_a_draw_depends_on_its_own_key_alone():
    logits = jnp.asarray(RNG.normal(size=(6, 40)))
    keys = jax.random.split(jax.random.key(1), 6)
    together = sample_logits(keys, logits)
    alone = [int(sample_logits(keys[i : i + 1], logits[i : i + 1])[0]) for i in range(6)]
    assert together.tolist() == alone
    assert len(set(alone)) > 1
