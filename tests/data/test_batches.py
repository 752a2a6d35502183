import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdl.data import batch, batch_indices, pad_batches, steps_per_epoch
from fdl.data.batches import _order
from fdl.errors import InputError


@given(
    n=st.integers(1, 60),
    b=st.integers(1, 60),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 9),
)
def test_an_epoch_visits_no_example_twice_and_leaves_less_than_a_batch_out(n, b, seed, epoch):
    b = min(b, n)
    per_epoch = steps_per_epoch(n, b)
    steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
    seen = np.concatenate([batch_indices(n, b, seed=seed, step=s) for s in steps])
    assert len(set(seen)) == len(seen) > n - b
    assert seen.min() >= 0 and seen.max() < n


def test_batches_of_an_epoch_average_to_the_full_batch():
    # The mean of the gradients of a partition is the gradient of the whole; here of (x - 1)^2.
    x = np.random.default_rng(0).normal(size=24)
    gradients = [2 * (batch({"x": x}, 6, seed=5, step=s)["x"] - 1).mean() for s in range(4, 8)]
    np.testing.assert_allclose(np.mean(gradients), 2 * (x - 1).mean(), rtol=1e-12)


def test_a_step_does_not_depend_on_the_steps_before_it():
    unbroken = [batch_indices(50, 8, seed=1, step=s).copy() for s in range(40)]
    for step in (39, 0, 17, 6, 30):
        _order.cache_clear()
        np.testing.assert_array_equal(batch_indices(50, 8, seed=1, step=step), unbroken[step])


def test_epochs_and_seeds_differ_in_order():
    orders = {tuple(batch_indices(30, 30, seed=s, step=e)) for s in range(4) for e in range(4)}
    assert len(orders) == 16


def test_a_step_far_out_costs_no_more_than_the_first():
    start = time.perf_counter()
    batch_indices(1000, 10, seed=0, step=10**15)
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_shares_of_the_processes_join_to_the_global_batch(count):
    arrays = {"x": np.arange(100.0)[:, None], "y": np.arange(100)}
    whole = batch(arrays, 12, seed=2, step=9)
    shares = [batch(arrays, 12, seed=2, step=9, process=(r, count)) for r in range(count)]
    for name in arrays:
        np.testing.assert_array_equal(np.concatenate([s[name] for s in shares]), whole[name])


def test_batch_keeps_the_arrays_together_and_copies_them():
    arrays = {"x": np.arange(20.0), "y": np.arange(20)}
    got = batch(arrays, 5, seed=0, step=0)
    np.testing.assert_array_equal(got["x"], got["y"])
    got["x"][:] = -1
    assert arrays["x"].min() == 0


def test_batch_of_a_memory_map_is_an_array_in_memory(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(10.0))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    got = batch({"x": mapped}, 4, seed=0, step=0)["x"]
    assert type(got) is np.ndarray
    np.testing.assert_array_equal(got, batch_indices(10, 4, seed=0, step=0))


def test_the_order_cannot_be_spoilt_by_a_caller():
    with pytest.raises(ValueError, match="read-only"):
        batch_indices(10, 5, seed=0, step=0)[0] = 3


def test_pad_batches_counts_every_example_once():
    arrays = {"x": np.arange(1.0, 12.0)}
    parts = list(pad_batches(arrays, 4))
    assert [p["x"].shape for p in parts] == [(4,)] * 3
    assert sum((p["mask"] * p["x"]).sum() for p in parts) == 66
    assert sum(p["mask"].sum() for p in parts) == 11


def test_pad_batches_shares_rows_between_processes_in_order():
    arrays = {"x": np.arange(7)}
    by_rank = [list(pad_batches(arrays, 4, process=(r, 2))) for r in range(2)]
    joined = [np.concatenate([a["x"], b["x"]]) for a, b in zip(*by_rank, strict=True)]
    np.testing.assert_array_equal(np.concatenate(joined)[:7], np.arange(7))
    assert by_rank[1][1]["mask"].tolist() == [1, 0]


def test_batches_that_cannot_be_are_refused():
    arrays = {"x": np.zeros(10), "y": np.zeros(10)}
    with pytest.raises(InputError, match="batch size 11 is larger than the set of 10 examples"):
        batch(arrays, 11, seed=0, step=0)
    with pytest.raises(InputError, match="batch size must be >= 1, got 0"):
        batch(arrays, 0, seed=0, step=0)
    with pytest.raises(InputError, match="batch size 5 is not divisible by 2 processes"):
        batch(arrays, 5, seed=0, step=0, process=(0, 2))
    with pytest.raises(ValueError, match="0 <= rank < count, got \\(2, 2\\)"):
        batch(arrays, 4, seed=0, step=0, process=(2, 2))
    with pytest.raises(ValueError, match=r"step=...\) must be >= 0, got -1"):
        batch(arrays, 4, seed=0, step=-1)
    with pytest.raises(ValueError, match="equal length"):
        batch({"x": np.zeros(3), "y": np.zeros(4)}, 2, seed=0, step=0)
    with pytest.raises(InputError, match="empty"):
        pad_batches({"x": np.zeros(0)}, 2)
    with pytest.raises(ValueError, match="'mask'"):
        pad_batches({"mask": np.zeros(3)}, 2)
