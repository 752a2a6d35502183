import numpy as np
import pytest

from fdl.data import digits, split_validation
from fdl.data.splits import holdout_rows
from fdl.errors import InputError


def numbered(labels):
    return {"x": np.arange(len(labels))[:, None], "y": np.asarray(labels)}


@pytest.mark.parametrize("by", ["random", "order"])
def test_split_validation_shares_every_example_out_once(by):
    train = numbered(np.arange(103) % 7)
    rest, valid = split_validation(train, 0.25, by=by)
    joined = np.concatenate([rest["x"], valid["x"]])[:, 0]
    assert len(valid["x"]) == 26
    np.testing.assert_array_equal(np.sort(joined), np.arange(103))
    np.testing.assert_array_equal(valid["y"], valid["x"][:, 0] % 7)


def test_split_validation_in_order_takes_the_last_examples():
    _, valid = split_validation(numbered([0] * 10), 0.3, by="order")
    assert valid["x"][:, 0].tolist() == [7, 8, 9]


def test_split_validation_keeps_class_shares_to_within_one_example():
    labels = np.repeat([0, 1, 2, 3], [500, 91, 7, 2])
    _, valid = split_validation(numbered(labels), 0.2, seed=3)
    counts = np.bincount(valid["y"], minlength=4)
    assert counts.sum() == 120
    assert np.all(np.abs(counts - 0.2 * np.array([500, 91, 7, 2])) < 1)


def test_split_validation_leaves_every_class_an_example_to_train_on():
    labels = np.repeat([0, 1, 2], [4, 1, 1])
    rest, valid = split_validation(numbered(labels), 0.5)
    assert set(rest["y"]) == {0, 1, 2}
    assert len(valid["y"]) == 3


def test_split_validation_without_strata_differs_from_seed_to_seed():
    train = numbered(np.zeros(40))
    chosen = [set(split_validation(train, seed=s).valid["x"][:, 0]) for s in range(5)]
    assert len({frozenset(rows) for rows in chosen}) == 5


def test_split_validation_draws_every_example_equally_often():
    rows = np.concatenate([holdout_rows(20, 0.25, seed=s) for s in range(2000)])
    counts = np.bincount(rows, minlength=20)
    # mean 500, deviation sqrt(2000 * 0.25 * 0.75) = 19.4
    assert np.all(np.abs(counts - 500) < 4.5 * 19.4)


def test_a_second_cut_with_the_same_seed_is_independent_of_the_first():
    # Row i of the rest must not be chosen because row i of the whole was.
    n, both = 400, []
    for seed in range(60):
        first = holdout_rows(n, 0.5, seed=seed)
        second = holdout_rows(n // 2, 0.5, seed=seed)
        both.append(len(set(first) & set(second)))
    # hypergeometric: mean 50, deviation 5 for one seed (100 of 400 drawn, half of them marked)
    assert abs(np.mean(both) - 50) < 4 * 5 / np.sqrt(60)


def test_split_validation_of_digits_in_order_ends_where_the_training_part_ends():
    train, _ = digits()
    rest, valid = split_validation(train, 0.2, by="order")
    np.testing.assert_array_equal(valid["x"], train["x"][1150:])
    np.testing.assert_array_equal(rest["y"], train["y"][:1150])


def test_split_validation_refuses_what_it_cannot_do():
    train = numbered([0.5, 1.5, 2.5])
    with pytest.raises(InputError, match="leaves one part empty"):
        split_validation(train, 0.1)
    with pytest.raises(ValueError, match=r"fraction=...\) must be in \(0, 1\), got 1"):
        split_validation(train, 1)
    with pytest.raises(ValueError, match="needs integer labels"):
        split_validation(train, 0.4, stratify=True)
    with pytest.raises(ValueError, match="needs by='random'"):
        split_validation(train, 0.4, stratify=True, by="order")
    with pytest.raises(ValueError, match="must be 'random' or 'order', got 'first'"):
        split_validation(train, 0.4, by="first")
    with pytest.raises(ValueError, match="equal length"):
        split_validation({"x": np.zeros(3), "y": np.zeros(4)}, 0.5)
