import numpy as np
import pytest

from fdl.data import breast_cancer, diabetes, fit_standard, iris, wine
from fdl.data.embedded import embedded

LOADERS = {"breast_cancer": breast_cancer, "diabetes": diabetes, "iris": iris, "wine": wine}


@pytest.mark.parametrize("name", LOADERS)
def test_tables_are_those_of_scikit_learn_cut_at_rows_drawn_by_seed_zero(name):
    datasets = pytest.importorskip("sklearn.datasets")
    options = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(datasets, f"load_{name}")(**options)
    n = len(bunch.target)
    held = np.sort(embedded(name)["test"])
    assert len(held) == n - int(0.8 * n)
    train, test = LOADERS[name]()
    rest = np.setdiff1d(np.arange(n), held)
    for part, rows in ((train, rest), (test, held)):
        np.testing.assert_array_equal(part["x"], bunch.data[rows].astype(np.float32))
        np.testing.assert_array_equal(part["y"], bunch.target[rows])


def test_diabetes_scaled_as_documented_is_scikit_learns_scaled_set():
    bunch = pytest.importorskip("sklearn.datasets").load_diabetes()
    x = embedded("diabetes")["x"].astype(np.float64)
    scaled = (x - x.mean(0)) / (x.std(0) * np.sqrt(len(x)))
    np.testing.assert_allclose(scaled, bunch.data, atol=1e-7)


def test_breast_cancer_gives_logistic_regression_its_known_accuracy():
    linear = pytest.importorskip("sklearn.linear_model")
    train, test = breast_cancer()
    learned = fit_standard(train["x"])
    model = linear.LogisticRegression(max_iter=1000).fit(learned.apply(train["x"]), train["y"])
    score = model.score(learned.apply(test["x"]), test["y"])
    assert score == pytest.approx(0.974, abs=0.009)  # one example either way


def test_labels_are_integers_and_targets_are_floats():
    for name, load in LOADERS.items():
        y = load().train["y"]
        assert y.dtype == (np.float32 if name == "diabetes" else np.int32)
