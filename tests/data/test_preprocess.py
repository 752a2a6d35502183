import json

import numpy as np
import pytest

from fdl.data import Preprocess, fit_table, load_csv, split_table
from fdl.errors import InputError

COLOURS = ("red", "green", "blue")


@pytest.fixture
def read(tmp_path):
    def read(content, target="y", **options):
        path = tmp_path / "table.csv"
        path.write_text(content)
        return load_csv(path, target, **options)

    return read


@pytest.fixture
def table(read):
    rng = np.random.default_rng(0)
    lines = [
        f"{rng.normal(3, 2) if i % 5 else ''},{COLOURS[rng.integers(3)]},{rng.normal(100, 9)}"
        for i in range(60)
    ]
    return read("size,colour,y\n" + "\n".join(lines) + "\n")


def test_apply_agrees_with_scikit_learn(table):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    impute = pytest.importorskip("sklearn.impute")
    train, held = split_table(table, 0.3, seed=1)
    learned = fit_table(train)

    def numbers(part):
        return part.columns["size"].number[:, None]

    def words(part):
        return part.columns["colour"].text[:, None]

    observed = numbers(train)[~train.columns["size"].missing]
    scaler = preprocessing.StandardScaler().fit(observed)
    imputer = impute.SimpleImputer(strategy="median").fit(numbers(train))
    encoder = preprocessing.OneHotEncoder(sparse_output=False).fit(words(train))
    for part in (train, held):
        size = scaler.transform(imputer.transform(numbers(part)))
        expected = np.hstack([size, np.isnan(numbers(part)), encoder.transform(words(part))])
        np.testing.assert_allclose(learned.apply(part)["x"], expected, atol=1e-6)
    assert learned.feature_names == (
        "size", "size missing", "colour=blue", "colour=green", "colour=red",
    )  # fmt: skip


def test_fit_does_not_look_beyond_the_training_part(table):
    train, held = split_table(table, 0.3, seed=1)
    spoilt = held.columns["size"]._replace(number=held.columns["size"].number * 1e6)
    held.columns["size"] = spoilt
    assert fit_table(train) == fit_table(split_table(table, 0.3, seed=1).train)


def test_regression_targets_are_standardised_and_lead_back(table):
    learned = fit_table(table)
    y = learned.apply(table)["y"]
    assert abs(y.mean()) < 1e-6 and y.std() == pytest.approx(1, abs=1e-6) and y.dtype == np.float32
    np.testing.assert_allclose(learned.to_units(y), table.columns["y"].number, rtol=1e-6)


def test_what_was_learned_survives_json_bit_for_bit(table):
    learned = fit_table(table)
    back = Preprocess.from_dict(json.loads(json.dumps(learned.to_dict())))
    assert back == learned
    np.testing.assert_array_equal(back.apply(table)["x"], learned.apply(table)["x"])


def test_categories_that_training_did_not_show_become_zeros(read):
    learned = fit_table(read("a,b,y\n1,u,0\n2,v,1\n3,u,1\n"))
    got = learned.apply(read("a,b,y\n1,w,0\n2,,1\n", learn=False))["x"]
    np.testing.assert_array_equal(got[:, 1:], np.zeros((2, 2)))


def test_a_missing_category_is_a_feature_of_its_own(read):
    table = read("a,b,y\n1,u,0\n2,,1\n3,v,1\n")
    learned = fit_table(table)
    assert learned.feature_names == ("a", "b=u", "b=v", "b missing")
    np.testing.assert_array_equal(learned.apply(table)["x"][1, 1:], [0, 0, 1])


def test_a_missing_number_counts_as_the_median_of_training(read):
    learned = fit_table(read("a,y\n1,0\n2,1\n30,1\n"))
    got = learned.apply(read("a,y\n,0\n2,1\n", learn=False))["x"]
    assert got[0] == got[1]


def test_a_column_that_is_constant_in_the_training_part_becomes_zeros(read):
    whole = read("a,b,y\n1,0.1,0\n2,0.1,1\n3,0.1,0\n4,0.1,1\n5,9,1\n")
    learned = fit_table(whole.take(np.arange(4)))
    got = learned.apply(whole)["x"]
    assert not got[:4, 1].any() and np.isfinite(got).all()


def test_class_labels_are_sorted_and_one_number_is_one_class(read):
    learned = fit_table(read("a,y\n1,10\n2,9\n3,9.0\n"))
    assert learned.classes == ("9", "10")
    assert learned.apply(read("a,y\n1,09\n2,10\n3,10.0\n"))["y"].tolist() == [0, 1, 1]
    words = fit_table(read("a,y\n1,no\n2,yes\n"))
    assert words.apply(read("a,y\n1,yes\n2,no\n"))["y"].tolist() == [1, 0]


def test_columns_may_come_in_another_order_or_beside_others(read):
    learned = fit_table(read("a,b,y\n1,u,0\n2,v,1\n3,u,1\n"))
    straight = learned.apply(read("a,b,y\n3,v,0\n4,u,1\n"))["x"]
    turned = learned.apply(read("y,c,b,a\n0,5,v,3\n1,6,u,4\n"))["x"]
    np.testing.assert_array_equal(straight, turned)


def test_a_table_without_target_gives_inputs_only(read):
    learned = fit_table(read("a,y\n1,0\n2,1\n"))
    assert list(learned.apply(read("a,b\n5,6\n", None, learn=False))) == ["x"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("b,y\n1,0\n", "no column 'a', which training had"),
        ("a,y\n1,0\nx,1\n", "line 3, column 'a': 'x' must be a finite number, as in training"),
        ("a,y\n1,0\n2,7\n", "line 3, column 'y': '7' is no class of the training part"),
        ("a,y\n1,0\n2,\n", "line 3, column 'y': ''.* the target is missing"),
        ("a,y\n1,0\n1e300,1\n", "line 3, column 'a': '1e300' is too far from"),
    ],
)
def test_a_table_that_does_not_fit_is_named_in_one_line(read, content, message):
    learned = fit_table(read("a,y\n1,0\n2,1\n"))
    with pytest.raises(InputError, match=message) as caught:
        learned.apply(read(content, learn=False))
    assert "table.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_a_regression_target_beyond_all_bounds_is_named(read):
    learned = fit_table(read("a,y\n1,0.5\n2,1.5\n"))
    with pytest.raises(InputError, match="line 3, column 'y': '1e200' is too far from"):
        learned.apply(read("a,y\n1,0.5\n2,1e200\n"))


def test_fit_refuses_targets_and_columns_that_make_no_sense(read):
    with pytest.raises(
        InputError, match="column 'a' has 150 categories, such as 'c0'; more than 100"
    ):
        fit_table(read("a,y\n" + "".join(f"c{i},{i}\n" for i in range(150))))
    with pytest.raises(InputError, match="'y' must be numbers for regression"):
        fit_table(read("a,y\n1,u\n2,v\n"), task="regression")
    with pytest.raises(InputError, match="line 3, column 'y': '0.5' is not a class label"):
        fit_table(read("a,y\n1,0\n2,0.5\n"), task="classification")
    with pytest.raises(InputError, match="'y' must have at least two classes in training"):
        fit_table(read("a,y\n1,u\n2,v\n").take(np.array([0])))
    with pytest.raises(InputError, match="'y' has 150 classes, more than 100; is it a regression"):
        fit_table(
            read("a,y\n" + "".join(f"{i / 7},{i}\n" for i in range(150))), task="classification"
        )
    with pytest.raises(InputError, match="line 2, column 'a': '1e308' is too large to work with"):
        fit_table(read("a,y\n1e308,1\n9e307,2\n-1e308,3\n"))


@pytest.mark.parametrize(
    "damage", [{"rules": 3}, {"rules": [{"kind": "magic"}]}, {"classes": None}]
)
def test_a_damaged_record_is_refused(table, damage):
    record = fit_table(table).to_dict()
    with pytest.raises(InputError, match="not a record of Preprocess.to_dict"):
        Preprocess.from_dict({**record, **damage})
    with pytest.raises(InputError, match="not a record"):
        Preprocess.from_dict({})
