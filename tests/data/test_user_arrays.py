import os

import numpy as np
import pytest

from fdl.data import batch, check_supervised, load_npy_folder, load_npz
from fdl.errors import InputError


def supervised(n=8, k=2, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)
    return x, np.arange(n) % k


def parts(**change):
    (a, b), (c, d), (e, f) = supervised(8), supervised(4, seed=1), supervised(2, seed=2)
    whole = {"x_train": a, "y_train": b, "x_valid": c, "y_valid": d, "x_test": e, "y_test": f}
    return {name: array for name, array in {**whole, **change}.items() if array is not None}


def save(form, folder, arrays):
    """Write the arrays in one of the two forms and return what to load."""
    if form == "npz":
        np.savez(folder / "my set.npz", **arrays)
        return folder / "my set.npz"
    (folder / "my set").mkdir()
    for name, array in arrays.items():
        np.save(folder / "my set" / f"{name}.npy", array, allow_pickle=True)
    return folder / "my set"


def load(path, **options):
    return (load_npz if os.path.isfile(path) else load_npy_folder)(path, **options)


@pytest.mark.parametrize("form", ["npz", "folder"])
def test_a_set_comes_back_in_its_parts(tmp_path, form):
    arrays = parts()
    got = load(save(form, tmp_path, arrays))
    for part, pair in got._asdict().items():
        for key in "xy":
            np.testing.assert_array_equal(pair[key], arrays[f"{key}_{part}"])
        assert pair["y"].dtype == np.int32


@pytest.mark.parametrize("form", ["npz", "folder"])
def test_a_set_of_one_part_is_a_training_part(tmp_path, form):
    x, y = supervised()
    got = load(save(form, tmp_path, {"x": x, "y": y + 0.5}), task="regression")
    np.testing.assert_array_equal(got.train["y"], np.float32(y + 0.5))
    assert got.valid is None and got.test is None


def test_a_folder_stays_on_disk_until_a_batch_reads_it(tmp_path):
    x, y = supervised(50)
    got = load_npy_folder(save("folder", tmp_path, {"x": x, "y": y})).train
    assert isinstance(got["x"], np.memmap)
    drawn = batch(got, 10, seed=0, step=0)
    in_memory = batch(check_supervised({"x": x, "y": y}), 10, seed=0, step=0)
    np.testing.assert_array_equal(drawn["x"], in_memory["x"])


ROW = np.float32([[1, 2, 3]])
NAN = np.where(np.arange(24).reshape(8, 3) == 16, np.nan, 1.0).astype(np.float32)
INF = np.where(np.arange(12).reshape(4, 3) == 4, np.inf, 1.0).astype(np.float32)
MALFORMED = {
    "NaN pixel": ({"x_train": NAN}, r"\(train\): x must be finite, got nan at row 5"),
    "infinite pixel": ({"x_valid": INF}, r"\(valid\): x must be finite, got inf at row 1"),
    "unseen label": ({"y_test": np.array([0, 2])}, r"\(test\): y must be in 0..1, got 2 at row 1"),
    "negative label": ({"y_valid": np.array([0, 1, -3, 0])}, r"\(valid\): .* got -3 at row 2"),
    "float labels": ({"y_train": np.linspace(0, 1, 8)}, r"\(train\): y must hold integer"),
    "one class": ({"y_train": np.zeros(8, int)}, r"\(train\): y must hold at least 2 classes"),
    "empty": ({"x_train": np.ones((0, 3)), "y_train": np.ones(0, int)}, "x holds no examples"),
    "lengths differ": ({"y_train": np.zeros(7, int)}, r"one row per example, got \(7,\) for 8"),
    "other width": (
        {"x_test": np.ones((2, 4), np.float32)},
        r"x must be float32\(3,\) per example",
    ),
    "other dtype": ({"x_test": np.ones((2, 3))}, r"as in training, got float64\(3,\)"),
    "no labels": ({"y_valid": None}, r"no array 'y_valid', only \['x_test', 'x_train'"),
    "no training part": ({"x_train": None, "y_train": None}, "no array 'x_train'"),
    "misspelt name": ({"x_vaild": np.ones((4, 3))}, "array 'x_vaild' is none of x_train, y_train"),
    "objects": ({"x_train": np.full((8, 3), None)}, "holds Python objects"),
    "ragged rows": ({"x_train": np.array([[1], [2, 3]], dtype=object)}, "holds Python objects"),
    "text": ({"x_train": np.full((8, 3), "a")}, "integers or floats of at most 64 bits, got <U1"),
}


@pytest.mark.parametrize("form", ["npz", "folder"])
@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_set_is_named_in_one_line(tmp_path, form, case):
    change, message = MALFORMED[case]
    path = save(form, tmp_path, parts(**change))
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_set_larger_than_the_cap_is_refused(tmp_path):
    path = save("npz", tmp_path, parts())
    with pytest.raises(InputError, match="more than the cap of 100"):
        load_npz(path, max_bytes=100)


def test_a_folder_that_is_not_there_or_empty_is_refused(tmp_path):
    with pytest.raises(InputError, match="none: no such folder"):
        load_npy_folder(tmp_path / "none")
    with pytest.raises(InputError, match=r"no array 'x_train', only \[\]"):
        load_npy_folder(tmp_path)
