"""Streams read on where they stopped, windows begin anywhere, rows predict each token once."""

import numpy as np
import pytest

from fdl.data import stream_batch, streams_per_epoch, text_rows, window_batch
from fdl.errors import InputError


@pytest.mark.parametrize(("n", "b", "t"), [(1000, 4, 10), (257, 3, 7), (41, 4, 10), (24, 5, 3)])
def test_a_reader_goes_on_where_it_stopped_or_is_told_to_begin_anew(n, b, t):
    tokens = np.arange(n)
    last = None
    for step in range(3 * streams_per_epoch(n, b, t) + 2):
        batch = stream_batch(tokens, b, t, step=step)
        assert batch["x"].shape == batch["y"].shape == (b, t)
        np.testing.assert_array_equal(batch["y"], batch["x"] + 1)
        np.testing.assert_array_equal(np.diff(batch["x"]), 1)
        if last is None:
            assert batch["reset"].tolist() == [1] * b
        else:
            goes_on = batch["x"][:, 0] == last + 1
            np.testing.assert_array_equal(batch["reset"], 1 - goes_on)
            np.testing.assert_array_equal(batch["x"][~goes_on, 0], 0)  # back at the beginning
        last = batch["x"][:, -1]


@pytest.mark.parametrize(("n", "b", "t"), [(1000, 4, 10), (257, 3, 7), (24, 5, 3)])
def test_an_epoch_shows_each_piece_once_and_the_readers_share_evenly(n, b, t):
    steps, pieces = streams_per_epoch(n, b, t), (n - 1) // t
    shown = np.concatenate(
        [stream_batch(np.arange(n), b, t, step=s)["x"][:, 0] // t for s in range(steps)]
    )
    counts = np.bincount(shown, minlength=pieces)
    assert counts.min() == 1 and counts.sum() == steps * b < pieces + b
    everything = np.concatenate(
        [stream_batch(np.arange(n), b, t, step=s)["x"][:, 0] // t for s in range(pieces)]
    )
    assert set(np.bincount(everything).tolist()) == {b}  # once by each reader


@pytest.mark.parametrize("maker", ["streams", "windows"])
def test_the_shares_of_processes_are_the_batch(maker):
    tokens = np.random.default_rng(0).integers(0, 50, 500)

    def make(step, process=(0, 1)):
        if maker == "streams":
            return stream_batch(tokens, 6, 7, step=step, process=process)
        return window_batch(tokens, 6, 7, seed=1, step=step, process=process)

    for step in (0, 5, 400):
        whole, shares = make(step), [make(step, (rank, 3)) for rank in range(3)]
        for name, array in whole.items():
            np.testing.assert_array_equal(np.concatenate([s[name] for s in shares]), array)


def test_windows_begin_everywhere_once_before_one_comes_again():
    n, b, t = 60, 5, 10
    batches = [window_batch(np.arange(n), b, t, seed=3, step=s) for s in range(20)]
    for batch in batches:
        np.testing.assert_array_equal(batch["y"], batch["x"] + 1)
        np.testing.assert_array_equal(np.diff(batch["x"]), 1)
    begins = np.concatenate([batch["x"][:, 0] for batch in batches])
    assert sorted(begins[:50].tolist()) == list(range(50)) == sorted(begins[50:].tolist())
    assert begins[:50].tolist() != begins[50:].tolist()
    assert max(batch["y"].max() for batch in batches) == n - 1  # the last token is learned
    other = window_batch(np.arange(n), b, t, seed=4, step=0)
    assert other["x"].tolist() != batches[0]["x"].tolist()


@pytest.mark.parametrize(("n", "length"), [(11, 5), (12, 5), (16, 5), (2, 5), (7, 1)])
def test_rows_predict_each_token_but_the_first_once(n, length):
    tokens = np.arange(100, 100 + n)
    rows = text_rows(tokens, length)
    real = rows["where"] == 1
    assert rows["y"][real].tolist() == tokens[1:].tolist()
    assert rows["x"][real].tolist() == tokens[:-1].tolist()
    assert rows["where"].sum() == n - 1 and rows["where"].dtype == np.float32
    assert len(rows["x"]) == -(-(n - 1) // length)


def test_too_short_a_text_is_refused():
    assert stream_batch(np.arange(21), 4, 5, step=0)["x"].shape == (4, 5)
    with pytest.raises(InputError, match=r"20 tokens are too few for 4 .* of 5: 21 are needed"):
        stream_batch(np.arange(20), 4, 5, step=0)
    assert window_batch(np.arange(9), 4, 5, seed=0, step=0)["y"].max() < 9
    with pytest.raises(InputError, match=r"8 tokens are too few for 4 windows of 5: 9 are needed"):
        window_batch(np.arange(8), 4, 5, seed=0, step=0)
    with pytest.raises(InputError, match="two tokens or more"):
        text_rows(np.arange(1), 3)


@pytest.mark.parametrize("changes", [{"batch_size": 0}, {"length": 0}, {"process": (0, 3)}])
def test_sizes_that_do_not_fit_are_input_errors(changes):
    arguments = {"batch_size": 4, "length": 5, "step": 0} | changes
    for make, more in ((stream_batch, {}), (window_batch, {"seed": 0})):
        with pytest.raises(InputError):
            make(np.arange(100), **arguments, **more)


def test_other_arguments_out_of_range_are_refused():
    for make, more in ((stream_batch, {}), (window_batch, {"seed": 0})):
        with pytest.raises(ValueError, match=r"step=...\) must be >= 0"):
            make(np.arange(100), 4, 5, step=-1, **more)
        with pytest.raises(ValueError, match=r"must be one row"):
            make(np.zeros((10, 10), int), 4, 5, step=0, **more)
    with pytest.raises(ValueError, match="length"):
        text_rows(np.arange(5), 0)
