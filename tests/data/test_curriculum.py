"""Curricula: orders, pacing functions in closed form, and batches that end as plain ones."""

import numpy as np
import pytest

from fdl.data import (
    batch,
    batch_indices,
    curriculum_batch,
    curriculum_indices,
    easy_to_hard,
    exponential_pacing,
    linear_pacing,
    permutation,
    root_pacing,
    step_pacing,
)
from fdl.errors import InputError

PACINGS = {
    "linear": linear_pacing(0.1, 90),
    "root": root_pacing(0.1, 90),
    "cubic": root_pacing(0.1, 90, power=3),
    "step": step_pacing(0.1, 90, stages=3),
    "exponential": exponential_pacing(0.1, 90),
}
ORDER = permutation(200, seed=9)  # any order


@pytest.mark.parametrize("name", PACINGS)
def test_a_pacing_function_begins_at_its_start_never_falls_and_ends_at_1(name):
    shares = np.array([PACINGS[name](t) for t in range(100)])
    assert shares[0] == pytest.approx(0.1, rel=1e-12)
    assert (np.diff(shares) >= 0).all() and shares[89] < 1
    assert (shares[90:] == 1).all()  # exactly: plain training from here on


def test_pacing_functions_are_those_of_their_papers():
    t = np.arange(90)

    def shares(name):
        return [PACINGS[name](int(s)) for s in t]

    np.testing.assert_allclose(shares("linear"), np.minimum(1, t * 0.9 / 90 + 0.1), rtol=1e-12)
    np.testing.assert_allclose(shares("root"), np.sqrt(t * (1 - 0.01) / 90 + 0.01), rtol=1e-12)
    np.testing.assert_allclose(shares("cubic"), np.cbrt(t * (1 - 1e-3) / 90 + 1e-3), rtol=1e-12)
    np.testing.assert_allclose(shares("step"), np.array([0.1, 0.4, 0.7]).repeat(30), rtol=1e-12)
    np.testing.assert_allclose(np.diff(np.log(shares("exponential"))), np.log(10) / 90, rtol=1e-9)
    np.testing.assert_allclose(shares("linear"), [root_pacing(0.1, 90, power=1)(s) for s in t])


def test_the_easiest_come_first_and_ties_keep_their_order():
    assert easy_to_hard([3.0, 1.0, 2.0, 1.0]).tolist() == [1, 3, 2, 0]


def test_balanced_every_beginning_has_the_classes_in_proportion():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [100, 50, 50])
    difficulty = rng.random(200) + labels  # class 0 is the easiest
    assert (labels[easy_to_hard(difficulty)[:100]] == 0).all()
    order = easy_to_hard(difficulty, labels=labels)
    assert sorted(order) == list(range(200))
    for n in range(1, 201):
        counts = np.bincount(labels[order[:n]], minlength=3)
        assert np.abs(counts - n * np.array([0.5, 0.25, 0.25])).max() <= 1
    for label in range(3):
        assert (np.diff(difficulty[order[labels[order] == label]]) > 0).all()


def test_a_batch_is_drawn_evenly_from_the_easy_share_and_nothing_twice():
    counts = np.zeros(200)
    for step in range(2000):
        rows = curriculum_indices(ORDER, 10, share=0.2, seed=3, step=step)
        assert len(set(rows)) == 10
        counts[rows] += 1
    assert (counts[ORDER[40:]] == 0).all()
    # 500 expected; draws without repetition vary by 2000 p (1 - p), p = 1/4
    assert np.abs(counts[ORDER[:40]] - 500).max() < 4.5 * np.sqrt(2000 * 3 / 16)


def test_mixed_in_are_examples_of_any_difficulty():
    easy = np.zeros(200, bool)
    easy[ORDER[:40]] = True
    hard = []
    for step in range(1000):
        rows = curriculum_indices(ORDER, 10, share=0.2, seed=3, step=step, mixed=0.3)
        assert len(set(rows)) == 10
        hard.append((~easy[rows]).sum())
    # 3 of 10 from everywhere, 4/5 of it being hard
    assert abs(np.mean(hard) - 2.4) < 5 * np.sqrt(3 * 0.16 / 1000)


def test_a_small_share_still_fills_a_batch():
    rows = curriculum_indices(ORDER, 32, share=0.0, seed=0, step=5)
    assert sorted(rows) == sorted(ORDER[:32])


@pytest.mark.parametrize("order", [ORDER, ORDER[::-1], np.arange(200)])
def test_with_all_examples_it_is_plain_training(order):
    arrays = {"x": np.arange(200)}
    for step in (0, 7, 40):
        rows = curriculum_indices(order, 32, share=1.0, seed=5, step=step, mixed=0.5)
        np.testing.assert_array_equal(rows, batch_indices(200, 32, seed=5, step=step))
        got = curriculum_batch(arrays, 32, order=order, share=1.0, seed=5, step=step)
        np.testing.assert_array_equal(got["x"], batch(arrays, 32, seed=5, step=step)["x"])


def test_in_a_random_order_all_examples_are_drawn_alike():
    """The control: without knowledge of difficulty every example is in a step's batch by B / N."""
    counts = np.zeros(200)
    for seed in range(1000):
        order = permutation(200, seed=seed, stream=2**60)
        counts[curriculum_indices(order, 20, share=0.3, seed=seed, step=0)] += 1
    assert np.abs(counts - 100).max() < 4.5 * np.sqrt(1000 * 0.1 * 0.9)


def test_processes_share_the_batch_of_one():
    arrays = {"x": np.arange(200.0), "y": np.arange(200)}
    options = {"order": ORDER, "share": 0.4, "seed": 1, "step": 12, "mixed": 0.25}
    whole = curriculum_batch(arrays, 16, **options)
    parts = [curriculum_batch(arrays, 16, **options, process=(r, 4)) for r in range(4)]
    np.testing.assert_array_equal(np.concatenate([p["y"] for p in parts]), whole["y"])
    again = curriculum_batch(arrays, 16, **options)  # of (seed, step) alone
    np.testing.assert_array_equal(again["x"], whole["x"])
    other = curriculum_batch(arrays, 16, **(options | {"step": 13}))
    assert (other["y"] != whole["y"]).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear_pacing(-0.1, 9), r"linear_pacing\(start=...\) must lie in \[0, 1\]"),
        (lambda: root_pacing(0.1, 0), r"root_pacing\(steps=...\) must be >= 1, got 0"),
        (lambda: root_pacing(0.1, 9, power=0), r"root_pacing\(power=...\) must be > 0"),
        (lambda: step_pacing(0.1, 9, stages=0), r"step_pacing\(stages=...\) must be >= 1"),
        (lambda: exponential_pacing(0.0, 9), r"exponential_pacing\(start=...\) must be > 0"),
        (lambda: easy_to_hard([[1.0]]), r"must be finite, \(N,\), got shape \(1, 1\)"),
        (lambda: easy_to_hard([np.nan]), "must be finite"),
        (lambda: easy_to_hard([1.0], labels=[0, 1]), r"labels=...\) must be \(1,\)"),
        (lambda: curriculum_indices(ORDER, 4, share=2, seed=0, step=0), r"\(share=...\) must lie"),
        (
            lambda: curriculum_indices(ORDER, 4, share=0.5, seed=0, step=0, mixed=-1),
            r"curriculum_indices\(mixed=...\) must lie in \[0, 1\], got -1",
        ),
        (lambda: curriculum_indices(ORDER, 4, share=0.5, seed=0, step=-1), r"\(step=...\) must be"),
        (
            lambda: curriculum_batch({"x": ORDER}, 4, order=ORDER[1:], share=1, seed=0, step=0),
            r"curriculum_batch\(order=...\) must be \(200,\), got \(199,\)",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_set_smaller_than_a_batch_is_refused():
    with pytest.raises(InputError, match="batch size 201 is larger than the set of 200"):
        curriculum_indices(ORDER, 201, share=0.5, seed=0, step=0)
