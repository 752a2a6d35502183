from itertools import count, islice

import numpy as np
import pytest

from fdl.data import batch, full, minibatches, online, steps_per_epoch
from fdl.errors import InputError

ARRAYS = {"x": np.arange(10.0), "y": np.arange(10)}


def test_full_gives_all_examples_at_every_step():
    for got in islice(full(ARRAYS), 3):
        np.testing.assert_array_equal(got["x"], ARRAYS["x"])


def test_minibatches_go_on_where_they_were_stopped():
    unbroken = list(minibatches(ARRAYS, 3, seed=4, stop=8))
    resumed = list(minibatches(ARRAYS, 3, seed=4, start=5, stop=8))
    for a, b in zip(unbroken[5:], resumed, strict=True):
        np.testing.assert_array_equal(a["y"], b["y"])


def test_minibatches_of_one_epoch_visit_each_example_once():
    stop = steps_per_epoch(10, 5)
    seen = np.concatenate([b["y"] for b in minibatches(ARRAYS, 5, seed=4, stop=stop)])
    np.testing.assert_array_equal(np.sort(seen), np.arange(10))


def test_minibatches_never_end_unless_told_to():
    got = next(islice(minibatches(ARRAYS, 3, seed=0), 100, None))
    np.testing.assert_array_equal(got["y"], batch(ARRAYS, 3, seed=0, step=100)["y"])


def test_online_sees_each_example_of_an_endless_stream_once():
    stream = ({"x": np.full(2, i), "y": i} for i in count())
    batches = list(islice(online(stream, 3), 4))
    np.testing.assert_array_equal(np.concatenate([b["y"] for b in batches]), np.arange(12))
    assert batches[0]["x"].shape == (3, 2)


def test_feeders_refuse_at_the_call():
    with pytest.raises(InputError, match="larger than the set"):
        minibatches(ARRAYS, 11, seed=0)
    with pytest.raises(InputError, match="empty"):
        full({"x": np.zeros(0)})
    with pytest.raises(InputError, match="must be >= 1, got 0"):
        online([], 0)
