"""Bootstrap sets are draws with replacement that nothing but their numbers decides."""

import math

import numpy as np
import pytest

from fdl import data
from fdl.errors import InputError


def test_a_set_holds_the_share_of_different_examples_that_theory_expects():
    n, members = 200, 400
    sets = data.bootstrap_indices(n, members, seed=3)
    share = np.array([len(np.unique(s)) / n for s in sets])
    expected = 1 - (1 - 1 / n) ** n  # 0.6330, near 1 - 1/e
    error = share.std(ddof=1) / math.sqrt(members)
    assert abs(share.mean() - expected) < 4 * error
    assert error < 0.003
    np.testing.assert_allclose(data.out_of_bag(sets).mean(), 1 - share.mean(), rtol=1e-12)


def test_every_example_is_drawn_equally_often_and_members_are_independent():
    sets = data.bootstrap_indices(10, 5000, seed=1)
    counts = np.bincount(sets.ravel(), minlength=10)
    assert ((counts - 5000) ** 2 / 5000).sum() < 27.9  # 9 degrees of freedom, 1 in 1000
    same = (sets[:-1] == sets[1:]).mean()  # places where neighbours agree: 1 in 10
    assert abs(same - 0.1) < 4 * math.sqrt(0.1 * 0.9 / sets[1:].size)


def test_a_set_depends_on_seed_and_member_only():
    all_of_them = data.bootstrap_indices(50, 6, seed=9)
    np.testing.assert_array_equal(data.bootstrap_indices(50, 2, seed=9, first=4), all_of_them[4:])
    assert (data.bootstrap_indices(50, 6, seed=10) != all_of_them).any()
    assert len({s.tobytes() for s in all_of_them}) == 6


def test_a_set_is_the_integer_part_of_uniform_words_of_philox():
    words = np.random.Philox(key=np.array([7, 2**62 + 1], np.uint64)).random_raw(1000)
    expected = [int(w >> 32) * 77 // 2**32 for w in words.tolist()[:77]]
    np.testing.assert_array_equal(data.bootstrap_indices(77, 2, seed=7)[1], expected)


def test_out_of_bag_is_what_the_set_does_not_hold():
    sets = data.bootstrap_indices(30, 4, seed=0)
    out = data.out_of_bag(sets)
    for s, o in zip(sets, out, strict=True):
        assert set(np.flatnonzero(o)) == set(range(30)) - set(s.tolist())
    assert data.out_of_bag(sets, 33)[:, 30:].all()


def test_each_member_visits_its_own_set_once_an_epoch_whoever_shares_the_members():
    arrays = {"x": np.arange(12.0)[:, None], "y": np.arange(12)}
    sets = data.bootstrap_indices(12, 4, seed=5)
    options = {"seed": 2, "batch_size": 3}
    steps = [data.members_batch(arrays, sets, step=s, **options) for s in range(4)]
    seen = np.concatenate([b["y"] for b in steps], axis=1)
    np.testing.assert_array_equal(np.sort(seen, axis=1), np.sort(sets, axis=1))
    np.testing.assert_array_equal(steps[1]["x"][..., 0], steps[1]["y"])
    halves = [data.members_batch(arrays, sets, step=1, process=(r, 2), **options) for r in (0, 1)]
    np.testing.assert_array_equal(np.concatenate([h["y"] for h in halves]), steps[1]["y"])


def test_rules_of_its_arguments():
    for arguments, text in [
        ({"n": 0}, r"\(n=...\) must be in \[1, 2\*\*32\), got 0"),
        ({"members": 0}, r"\(members=...\) must be >= 1, got 0"),
        ({"seed": -1}, r"\(seed=...\) must be in \[0, 2\*\*64\), got -1"),
        ({"first": -1}, r"\(first=...\) must be >= 0, got -1"),
    ]:
        with pytest.raises(ValueError, match=text):
            data.bootstrap_indices(**({"n": 5, "members": 2, "seed": 0} | arguments))
    arrays, sets = {"x": np.arange(4)}, np.zeros((3, 4), np.int64)
    with pytest.raises(ValueError, match=r"shares 3 members equally, got \(0, 2\)"):
        data.members_batch(arrays, sets, 2, seed=0, step=0, process=(0, 2))
    with pytest.raises(InputError, match="batch size 5 is larger than the set of 4"):
        data.members_batch(arrays, sets, 5, seed=0, step=0)
