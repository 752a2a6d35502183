import numpy as np
import pytest

from fdl.data import sunspots, windows


def one_step_error(width, predict):
    train, test = sunspots()
    pairs = windows(np.concatenate([train["x"][-width:], test["x"]]), width)
    assert len(pairs["y"]) == 59
    return np.sqrt(np.mean((predict(windows(train["x"], width), pairs["x"]) - pairs["y"]) ** 2))


def autoregression(train, x):
    design = np.column_stack([np.ones(len(train["x"])), train["x"]])
    weights, *_ = np.linalg.lstsq(design, train["y"], rcond=None)
    return np.column_stack([np.ones(len(x)), x]) @ weights


@pytest.mark.parametrize(
    ("width", "predict", "reported"),
    [
        (1, lambda _, x: x[:, -1], 33.2),
        (1, autoregression, 31.5),
        (2, autoregression, 22.2),
        (9, autoregression, 18.75),
    ],
)
def test_sunspots_give_the_reported_one_step_errors(width, predict, reported):
    assert one_step_error(width, predict) == pytest.approx(reported, abs=0.05)


def test_sunspots_are_consecutive_years_with_known_values():
    train, test = sunspots()
    np.testing.assert_array_equal(
        np.concatenate([train["year"], test["year"]]), np.arange(1700, 2009)
    )
    assert test["x"].max() == pytest.approx(190.2)  # 1957, the greatest on record
    assert test["year"][test["x"].argmax()] == 1957


def test_windows_keep_trailing_axes_and_own_their_memory():
    series = np.arange(10.0).reshape(5, 2)
    pairs = windows(series, 3)
    np.testing.assert_array_equal(pairs["x"][1], series[1:4])
    np.testing.assert_array_equal(pairs["y"], series[3:])
    pairs["y"][:] = 0
    assert series[3, 0] == 6


@pytest.mark.parametrize("width", [0, 5])
def test_windows_refuse_a_width_that_leaves_no_pair(width):
    with pytest.raises(ValueError, match=rf"must be in \[1, 4\], got {width}"):
        windows(np.zeros(5), width)
