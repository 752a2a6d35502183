"""Interpolated n-grams against counts by hand, and as distributions."""

import lzma
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest

from fdl.data import compressed_bits, fit_ngrams
from fdl.errors import InputError


def by_hand(train, context, token, size):
    """The definition, in exact fractions and with plain loops."""
    if context is None:
        return Fraction(1, size)
    n = len(context)
    followers = Counter(
        train[i + n] for i in range(len(train) - n) if train[i : i + n] == list(context)
    )
    lower = by_hand(train, context[1:] if n else None, token, size)
    if not followers:
        return lower
    return (followers[token] + len(followers) * lower) / (followers.total() + len(followers))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_are_those_of_the_definition(order):
    rng = np.random.default_rng(order)
    train, test = rng.integers(0, 4, 40), rng.integers(0, 5, 25)  # 4 is never seen in training
    found = fit_ngrams(train, order, size=5).log2_probs(test)
    test = test.tolist()
    for t, log2_prob in enumerate(found):
        context = test[max(0, t - order + 1) : t]
        # a context at the beginning of the text is short: the model of its own order
        expected = by_hand(train.tolist(), tuple(context), test[t], 5)
        assert 2**log2_prob == pytest.approx(float(expected), rel=1e-12)


def test_a_text_small_enough_for_paper():
    # "abab": a a-count 2, b 2. P(a) = (2 + 2/3) / (4 + 2), P(b) the same, P(c) = (0 + 2/3) / 6.
    # After a: b twice, one kind: P(b|a) = (2 + P(b)) / 3. After b: a once: P(a|b) = (1 + P(a)) / 2.
    model = fit_ngrams(np.array([0, 1, 0, 1]), 2, size=3)
    found = 2 ** model.log2_probs(np.array([0, 1, 0, 2]))
    a = (2 + 2 / 3) / 6
    np.testing.assert_allclose(found, [a, (2 + a) / 3, (1 + a) / 2, (0 + 1 / 9) / 3], rtol=1e-14)


@pytest.mark.parametrize("order", [1, 3, 6])
def test_the_probabilities_of_all_next_tokens_sum_to_one(order):
    rng = np.random.default_rng(0)
    model = fit_ngrams(rng.integers(0, 6, 300), order, size=7)
    for context in [*rng.integers(0, 7, (8, 5)), np.array([], int)]:
        total = sum(2 ** model.log2_probs(np.append(context, token))[-1] for token in range(7))
        assert total == pytest.approx(1, abs=1e-12)


def test_a_regular_text_is_learned_and_noise_is_not():
    regular = np.arange(3000) % 7
    model = fit_ngrams(regular, 3, size=7)
    assert -model.log2_probs(regular)[2:].mean() < 0.01
    noise = np.random.default_rng(0).integers(0, 8, 30_000)
    model = fit_ngrams(noise[:20_000], 2, size=8)
    assert -model.log2_probs(noise[20_000:]).mean() == pytest.approx(3, abs=0.02)


def test_long_contexts_of_a_large_vocabulary_do_not_overflow():
    size = 220  # 220**8 = 5e18
    tokens = np.random.default_rng(0).integers(size - 3, size, 400)
    model = fit_ngrams(tokens, 8, size=size)
    seen = defaultdict(set)
    for i in range(len(tokens) - 7):
        seen[tuple(tokens[i : i + 7])].add(tokens[i + 7])
    assert len(model.orders[7].contexts) == len(seen)
    with pytest.raises(InputError, match=r"must be >= 1 with size\*\*order < 2\*\*63, got 9, 220"):
        fit_ngrams(tokens, 9, size=size)


def test_a_training_text_shorter_than_the_order_is_enough():
    model = fit_ngrams(np.array([1, 0]), 5, size=2)
    assert np.isfinite(model.log2_probs(np.array([0, 1, 1, 0, 1, 0, 0]))).all()
    assert model.log2_probs(np.array([], int)).shape == (0,)


@pytest.mark.parametrize("tokens", [[[0, 1]], [0, 5], [-1, 0], [0.5, 1.0]])
def test_what_are_no_tokens_is_refused(tokens):
    with pytest.raises(ValueError, match=r"whole numbers in \[0, 3\)"):
        fit_ngrams(np.array(tokens), 2, size=3)
    with pytest.raises(ValueError, match=r"log2_probs\(tokens\)"):
        fit_ngrams(np.array([0, 1, 2]), 2, size=3).log2_probs(np.array(tokens))


def test_sizes_out_of_range_are_refused():
    for order, size in ((0, 3), (2, 0)):
        with pytest.raises(InputError, match="fit_ngrams"):
            fit_ngrams(np.array([0]), order, size=size)
    with pytest.raises(ValueError, match="must hold a token"):
        fit_ngrams(np.array([], int), 2, size=3)


def test_compression_charges_the_second_text_alone():
    rng = np.random.default_rng(0)
    train, fresh = ("".join(map(chr, rng.integers(97, 113, 4000))) for _ in range(2))
    assert compressed_bits(train, fresh) == pytest.approx(4, rel=0.1)  # 16 letters, no pattern
    assert compressed_bits(train, train) < 0.2
    plain = 8 * (len(lzma.compress((train + fresh).encode())) - len(lzma.compress(train.encode())))
    assert compressed_bits(train, fresh) == pytest.approx(plain / 4000, rel=0.02)
    with pytest.raises(ValueError, match="must hold a character"):
        compressed_bits(train, "")
