import numpy as np
import pytest

from fdl.data import check_inputs, check_supervised
from fdl.errors import InputError


def good(n=6):
    return {"x": np.ones((n, 2), np.float32), "y": np.arange(n) % 3}


def with_value(array, where, value):
    array = np.array(array)
    array[where] = value
    return array


MALFORMED = {
    "NaN pixel": (
        {"x": with_value(np.ones((6, 2)), (4, 1), np.nan)},
        {},
        "x must be finite, got nan at row 4",
    ),
    "infinite pixel": (
        {"x": with_value(np.ones((6, 2)), (5, 0), -np.inf)},
        {},
        "x must be finite, got -inf at row 5",
    ),
    "label too large": (
        {"y": np.array([0, 1, 2, 3, 0, 1])},
        {"num_classes": 3},
        "y must be in 0..2, got 3 at row 3",
    ),
    "negative label": ({"y": np.array([0, 1, 2, -1, 0, 1])}, {}, "y must be >= 0, got -1 at row 3"),
    "labels from one": (
        {"y": np.array([1, 2, 3, 1, 2, 3])},
        {},
        "no example has class 0 while one has 3",
    ),
    "label gap": (
        {"y": np.array([0, 1, 9, 1, 0, 1])},
        {},
        "no example has class 2 while one has 9",
    ),
    "float labels": (
        {"y": np.array([0.0, 1, 2, 0, 1, 2])},
        {},
        "must hold integer class labels, got float64",
    ),
    "text labels": ({"y": np.array(list("abcabc"))}, {}, "must hold integer class labels, got <U1"),
    "one-hot labels": (
        {"y": np.eye(6, dtype=int)},
        {},
        r"one class label per example, shape \(N,\), got \(6, 6\)",
    ),
    "one class only": ({"y": np.zeros(6, int)}, {}, r"at least 2 classes, got only \[0\]"),
    "no examples": (
        {"x": np.ones((0, 2)), "y": np.zeros(0, int)},
        {},
        r"x holds no examples, shape \(0, 2\)",
    ),
    "no features": ({"x": np.ones((6, 0))}, {}, r"x holds no features, shape \(6, 0\)"),
    "fewer than a batch": ({}, {"batch_size": 7}, "6 examples are fewer than one batch of 7"),
    "lengths differ": ({"y": np.zeros(5, int)}, {}, r"one row per example, got \(5,\) for 6 in x"),
    "scalar target": ({"y": np.array(1)}, {}, r"one row per example, got \(\) for 6 in x"),
    "flat inputs": (
        {"x": np.ones(6)},
        {},
        r"must have shape \(examples, features...\), got \(6,\)",
    ),
    "objects": (
        {"x": np.full((6, 2), None)},
        {},
        "integers or floats of at most 64 bits, got object",
    ),
    "complex": (
        {"x": np.ones((6, 2), complex)},
        {},
        "integers or floats of at most 64 bits, got complex128",
    ),
    "long double": ({"x": np.ones((6, 2), np.longdouble)}, {}, "of at most 64 bits, got"),
    "NaN target": (
        {"y": with_value(np.ones(6), 2, np.nan)},
        {"task": "regression"},
        "y must be finite, got nan at row 2",
    ),
    "text target": (
        {"y": np.array(list("abcabc"))},
        {"task": "regression"},
        "y must hold integers or floats",
    ),
    "target of rank 3": ({"y": np.ones((6, 1, 1))}, {"task": "regression"}, "y must have shape"),
    "target too large": (
        {"y": np.full(6, 1e200)},
        {"task": "regression"},
        "must fit float32 .*, got 1e[+]200 at row 0",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_check_supervised_names_what_is_wrong_in_one_line(case):
    change, options, message = MALFORMED[case]
    with pytest.raises(InputError, match=message) as caught:
        check_supervised({**good(), **change}, name="my set", **options)
    assert str(caught.value).startswith("my set: ")
    assert "\n" not in str(caught.value)


def test_check_supervised_lists_the_arrays_when_one_is_absent():
    with pytest.raises(InputError, match=r"data: no array 'y', only \['x'\]"):
        check_supervised({"x": np.ones((2, 2))})


def test_check_supervised_accepts_and_narrows_targets():
    arrays = good()
    checked = check_supervised(arrays, num_classes=5, batch_size=6)
    assert checked["x"] is arrays["x"] and checked["y"].dtype == np.int32
    values = check_supervised({**arrays, "y": np.arange(6)}, task="regression")["y"]
    assert values.dtype == np.float32


def test_check_supervised_accepts_one_class_where_nobody_trains():
    arrays = {**good(), "y": np.zeros(6, np.uint8)}
    assert check_supervised(arrays, num_classes=3, min_classes=1)["y"].max() == 0


def test_check_inputs_finds_the_row_in_a_large_array():
    x = np.zeros((3000, 2000), np.float32)  # more than one chunk
    x[2999, 1999] = np.nan
    with pytest.raises(InputError, match="got nan at row 2999"):
        check_inputs(x)


def test_check_supervised_refuses_an_unknown_task():
    with pytest.raises(ValueError, match="'classification' or 'regression', got 'ranking'"):
        check_supervised(good(), task="ranking")
