import hashlib
import platform

import numpy as np
import pytest

from fdl.data import mnist1d


@pytest.fixture(scope="module")
def published():
    return mnist1d(dtype=np.float64)


def test_mnist1d_is_close_to_the_package_on_every_processor(published):
    # Excerpts of make_dataset(get_dataset_args()) of mnist1d 0.0.2 with numpy 2.4.6, scipy 1.18.1.
    train, test = published
    np.testing.assert_allclose(train["x"][0, ::10], FIRST, rtol=1e-12)
    np.testing.assert_allclose(train["x"][3999, ::10], LAST, rtol=1e-12)
    np.testing.assert_allclose(test["x"][0, ::10], FIRST_TEST, rtol=1e-12)
    assert train["y"][:12].tolist() == LABELS
    assert test["y"][:12].tolist() == TEST_LABELS


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors may fuse operations")
def test_mnist1d_is_the_package_bit_for_bit(published):
    assert hashlib.sha256(published.train["x"].tobytes()).hexdigest()[:16] == "2fd1f4398fe1d065"


def test_mnist1d_is_balanced_and_standardised(published):
    x = np.concatenate([published.train["x"], published.test["x"]])
    y = np.concatenate([published.train["y"], published.test["y"]])
    assert np.bincount(y).tolist() == [500] * 10
    assert abs(x.mean()) < 1e-12 and x.std() == pytest.approx(1, abs=1e-12)


def test_mnist1d_is_as_hard_for_neighbours_as_reported(published):
    neighbors = pytest.importorskip("sklearn.neighbors")
    train, test = published
    model = neighbors.KNeighborsClassifier(5).fit(train["x"], train["y"])
    assert model.score(test["x"], test["y"]) == pytest.approx(0.600, abs=5e-4)


def test_mnist1d_differs_from_seed_to_seed_and_leaves_the_global_generator_alone():
    before = np.random.get_state()[1].copy()
    a, b = mnist1d(n=20, seed=0), mnist1d(n=20, seed=1)
    assert not np.array_equal(a.train["x"], b.train["x"])
    np.testing.assert_array_equal(before, np.random.get_state()[1])


@pytest.mark.parametrize("n", [0, 5, 15])
def test_mnist1d_refuses_unequal_classes(n):
    with pytest.raises(ValueError, match=rf"positive multiple of 10, got {n}"):
        mnist1d(n=n)


FIRST = [-0.3320056673693902, -1.521430874860797, 1.5934880211319844, 0.26860834624669466]
LAST = [-0.6939948035971022, -0.7838749638032555, -0.28179308765768885, -0.8389533721106579]
FIRST_TEST = [-0.07877078047732886, 0.5558617413201082, -1.0839331678123738, -1.0271277434269122]
LABELS = [2, 6, 4, 5, 6, 6, 6, 0, 3, 1, 6, 9]
TEST_LABELS = [2, 6, 3, 9, 4, 3, 1, 9, 5, 2, 0, 7]
