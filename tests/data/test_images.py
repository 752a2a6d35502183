import numpy as np
import pytest

from fdl.data import digits


def test_digits_are_those_of_scikit_learn_in_their_order():
    bunch = pytest.importorskip("sklearn.datasets").load_digits()
    train, test = digits()
    x = np.concatenate([train["x"], test["x"]])
    np.testing.assert_array_equal(16 * x, bunch.images)
    np.testing.assert_array_equal(np.concatenate([train["y"], test["y"]]), bunch.target)


def test_digits_have_the_published_sizes_and_ranges():
    train, test = digits()
    assert train["x"].shape == (1437, 8, 8) and test["x"].shape == (360, 8, 8)
    assert train["x"].dtype == np.float32 and train["y"].dtype == np.int32
    assert train["x"].min() == 0 and train["x"].max() == 1
    counts = np.bincount(np.concatenate([train["y"], test["y"]]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_of_other_writers_are_as_hard_as_reported():
    neighbors = pytest.importorskip("sklearn.neighbors")
    train, test = digits(flat=True)
    model = neighbors.KNeighborsClassifier(3).fit(train["x"], train["y"])
    assert model.score(test["x"], test["y"]) == pytest.approx(0.967, abs=5e-4)
