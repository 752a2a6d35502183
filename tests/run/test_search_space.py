import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fdl.errors import InputError
from fdl.run import search_space
from fdl.run.search_space import Choice, Range, draw, grid, parse

FLOATS = st.floats(1e-12, 1e12)
UNIT = st.floats(0, 1, exclude_max=True)


def drawn(text, count=2000, seed=0):
    space = parse(text)
    return [draw(space, index, seed=seed) for index in range(count)]


def test_text_becomes_ranges_and_choices_in_its_order():
    text = "lr = log:1e-3:1, drop-out=-1:0.5,width=int:8:64,batch=logint:1:1024,unit=relu|tanh,a=5"
    assert parse(text) == {
        "lr": Range(1e-3, 1.0, log=True),
        "drop_out": Range(-1.0, 0.5),
        "width": Range(8, 64, whole=True),
        "batch": Range(1, 1024, log=True, whole=True),
        "unit": Choice(("relu", "tanh")),
        "a": Choice(("5",)),
    }
    assert list(parse(text))[:2] == ["lr", "drop_out"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "must be NAME=VALUES"),
        ("lr", "must be NAME=VALUES"),
        ("=1", "must be NAME=VALUES"),
        ("lr=", "must be NAME=VALUES"),
        ("lr=1:2,", "must be NAME=VALUES"),
        ("lr=1:2,lr=3", "once, got 'lr' again"),
        ("a-b=1:2,a_b=3", "once, got 'a_b' again"),
        ("lr=1:x", "must be LOW:HIGH in numbers"),
        ("lr=1:2:3", "must be LOW:HIGH in numbers"),
        ("lr=exp:1:2", "must be LOW:HIGH in numbers"),
        ("lr=log:1", "must be LOW:HIGH in numbers"),
        ("n=int:1:2.5", "must be LOW:HIGH in whole numbers"),
        ("lr=2:1", "finite LOW < HIGH, got '2:1'"),
        ("lr=1:1", "finite LOW < HIGH"),
        ("lr=nan:1", "finite LOW < HIGH"),
        ("lr=0:inf", "finite LOW < HIGH"),
        ("lr=log:0:1", "must have LOW > 0, got 'log:0:1'"),
        ("n=logint:-2:4", "must have LOW > 0"),
        ("unit=relu|", "must choose among different words"),
        ("unit=relu|relu", "must choose among different words"),
    ],
)
def test_what_is_no_space_is_refused_in_one_line(text, told):
    with pytest.raises(InputError, match=told) as caught:
        parse(text)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("--space ")


@given(a=FLOATS, b=FLOATS, u=UNIT, log=st.booleans())
def test_a_number_lies_between_the_bounds_and_grows_with_its_quantile(a, b, u, log):
    low, high = sorted((a, b))
    if low < high:
        kind = Range(low, high, log)
        assert low <= kind.quantile(u / 2) <= kind.quantile(u) <= high
        assert kind.quantile(0.0) == pytest.approx(low, rel=1e-5)


@given(low=st.integers(1, 1000), more=st.integers(1, 1000), u=UNIT, log=st.booleans())
def test_a_whole_number_is_one_and_lies_between_the_bounds(low, more, u, log):
    value = Range(low, low + more, log, whole=True).quantile(u)
    assert isinstance(value, int) and low <= value <= low + more


def test_a_range_is_uniform_in_the_value_or_in_its_logarithm():
    trials = drawn("a=-2:3,b=log:1e-4:10")
    values = {name: [trial[name] for trial in trials] for name in "ab"}
    assert stats.kstest(values["a"], stats.uniform(-2, 5).cdf).pvalue > 0.01
    assert stats.kstest(values["b"], stats.loguniform(1e-4, 10).cdf).pvalue > 0.01
    np.testing.assert_allclose(np.median(values["b"]), 10**-1.5, rtol=0.2)


def test_whole_numbers_and_words_are_equally_likely():
    trials = drawn("a=int:-1:3,unit=x|y|z")
    for name, kinds in (("a", 5), ("unit", 3)):
        counts = np.unique([trial[name] for trial in trials], return_counts=True)[1]
        assert len(counts) == kinds
        assert stats.chisquare(counts).pvalue > 0.01


def test_a_whole_number_in_logarithm_has_the_mass_of_its_interval():
    values = [trial["a"] for trial in drawn("a=logint:1:7")]
    mass = np.diff(np.log2(np.arange(1, 9))) / 3  # log((k + 1) / k) / log 8
    counts = np.bincount(values, minlength=8)[1:]
    assert stats.chisquare(counts, mass * len(values)).pvalue > 0.01


def test_the_settings_of_a_trial_are_independent():
    trials = drawn("a=0:1,b=0:1")
    a, b = np.array([list(trial.values()) for trial in trials]).T
    for x, y in ((a, b), (a[1:], a[:-1]), (a[1:], b[:-1])):
        assert abs(np.corrcoef(x, y)[0, 1]) < 4 / math.sqrt(len(a))


def test_more_trials_or_settings_change_none_of_those_that_are_there():
    few, more = drawn("a=0:1", 5), drawn("c=x|y,a=0:1,b=int:1:9", 9)
    assert [{"a": trial["a"]} for trial in more[:5]] == few
    assert drawn("a=0:1", 5) == few
    assert drawn("a=0:1", 5, seed=1) != few


@settings(max_examples=30)
@given(points=st.integers(2, 6), width=st.integers(1, 9))
def test_a_grid_is_the_product_of_the_values(points, width):
    space = {"a": Range(0.0, 1.0), "n": Range(0, width, whole=True), "u": Choice(("x", "y"))}
    trials = grid(space, points=points)
    assert len(trials) == points * min(points, width + 1) * 2
    assert len({tuple(trial.items()) for trial in trials}) == len(trials)
    assert {trial["n"] for trial in trials} <= set(range(width + 1))


def test_a_grid_has_equal_distances_or_ratios_and_both_ends():
    assert Range(0.0, 1.0).grid(5) == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert Range(1e-3, 1.0, log=True).grid(4) == (0.001, 0.01, 0.1, 1.0)
    assert Range(1, 1000, log=True, whole=True).grid(4) == (1, 10, 100, 1000)
    with pytest.raises(InputError, match=r"points=...\) must be >= 2, got 1"):
        grid({"a": Range(0.0, 1.0)}, points=1)


def test_a_number_can_be_written_and_read_without_change():
    for trial in drawn("a=log:1e-9:1e9,b=0.1234567890123:0.1234567890124", 200):
        for value in trial.values():
            assert float(str(value)) == value
        assert 0.1234567890123 <= trial["b"] <= 0.1234567890124


@pytest.mark.parametrize(("index", "seed", "name"), [(-1, 0, "index"), (0, -1, "seed")])
def test_what_cannot_be_a_stream_is_refused(index, seed, name):
    with pytest.raises(ValueError, match=name):
        draw({}, index, seed=seed)


def test_what_is_varied_and_what_is_logarithmic_is_named():
    space = parse("lr=log:1e-3:1,steps=5,unit=x|y,n=logint:1:3")
    assert search_space.varied(space) == ["lr", "unit", "n"]
    assert search_space.logarithmic(space) == ["lr", "n"]
