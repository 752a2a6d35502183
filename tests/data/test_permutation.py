import numpy as np
import pytest

from fdl.data import permutation

WORD = 2**64


def philox_words(n, key):
    """Philox 4x64 with 10 rounds, from the paper, in Python integers; NumPy counts from 1."""
    words = []
    for block in range(1, (n + 3) // 4 + 1):
        x, k = [block, 0, 0, 0], list(key)
        for _ in range(10):
            high0, low0 = divmod(0xD2E7470EE14C6C93 * x[0], WORD)
            high1, low1 = divmod(0xCA5A826395121157 * x[2], WORD)
            x = [high1 ^ x[1] ^ k[0], low1, high0 ^ x[3] ^ k[1], low0]
            k = [(k[0] + 0x9E3779B97F4A7C15) % WORD, (k[1] + 0xBB67AE8584CAA73B) % WORD]
        words += x
    return words[:n]


@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (42, 7), (WORD - 1, WORD - 1)])
def test_permutation_sorts_the_words_of_the_published_generator(seed, stream):
    words = philox_words(50, (seed, stream))
    expected = sorted(range(50), key=lambda i: words[i])
    np.testing.assert_array_equal(permutation(50, seed=seed, stream=stream), expected)


def test_permutation_puts_every_element_everywhere_equally_often():
    orders = np.stack([permutation(5, seed=1, stream=s) for s in range(4000)])
    counts = np.stack([np.bincount(column, minlength=5) for column in orders.T])
    chi_square = ((counts - 800) ** 2 / 800).sum()
    assert chi_square < 39.3  # 16 degrees of freedom, 1 in 1000


def test_permutation_of_nothing_is_empty():
    assert permutation(0, seed=0).shape == (0,)


@pytest.mark.parametrize("bad", [{"seed": -1}, {"seed": WORD}, {"seed": 0, "stream": -1}])
def test_permutation_refuses_numbers_that_do_not_fit_a_key(bad):
    with pytest.raises(ValueError, match=r"permutation\(\w+=...\) must be in \[0, 2\*\*64\)"):
        permutation(3, **bad)
    with pytest.raises(ValueError, match="must be >= 0, got -1"):
        permutation(-1, seed=0)
