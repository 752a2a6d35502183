"""Early stopping is algorithm 7.1 of the book."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdl.train.early_stopping import init_early_stopping, should_stop, update_early_stopping


def algorithm_7_1(errors: list[float], patience: int) -> tuple[int, int, float]:
    """The book's loop with n = 1; returns (best step, last step, best error).

    theta at step i stands for the parameters, so that best step is best parameters too.
    """
    i, j, v, best = 0, 0, math.inf, 0
    while j < patience and i < len(errors):
        i += 1
        error = errors[i - 1]
        if error < v:
            j, best, v = 0, i, error
        else:
            j += 1
    return best, i, v


# few different values, so that ties are common; float32 can hold them
scores = st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, math.nan, math.inf]), max_size=30)


@settings(max_examples=200, deadline=None)
@given(errors=scores, patience=st.integers(1, 4))
def test_it_stops_where_the_book_stops(errors: list[float], patience: int) -> None:
    state, step = init_early_stopping({"w": np.zeros(2)}), 0
    while not should_stop(state, patience) and step < len(errors):
        step += 1
        params = {"w": jnp.full(2, float(step))}
        state = update_early_stopping(state, errors[step - 1], step=step, params=params)
    best, last, error = algorithm_7_1(errors, patience)
    assert (int(state.best_step), step, float(state.best_value)) == (best, last, error)
    np.testing.assert_array_equal(state.best_params["w"], [best, best])


def test_an_equal_score_is_no_improvement_whatever_its_last_digits() -> None:
    """0.1 is less than its own float32, which is what the state can hold."""
    state = init_early_stopping({})
    for step in range(4):
        state = update_early_stopping(state, 0.1, step=step, params={})
    assert (int(state.best_step), int(state.bad)) == (0, 3)


def test_small_gains_do_not_count() -> None:
    state = init_early_stopping({})
    for step, value in enumerate([1.0, 0.95, 0.91, 0.89, 0.8]):
        state = update_early_stopping(state, value, step=step, params={}, min_delta=0.1)
    assert (int(state.best_step), int(state.bad)) == (3, 1)


def test_kept_parameters_share_no_memory() -> None:
    w = np.ones(2)
    state = init_early_stopping({"w": w})
    w[:] = 2
    assert state.best_params["w"].tolist() == [1, 1]
    state = update_early_stopping(state, 1.0, step=1, params={"w": w})
    w[:] = 3
    assert state.best_params["w"].tolist() == [2, 2]
    assert [a.dtype for a in state[:3]] == [np.float32, np.int32, np.int32]


def test_rules_of_its_arguments() -> None:
    state = init_early_stopping({})
    with pytest.raises(ValueError, match=r"\(min_delta=...\) must be >= 0, got -1"):
        update_early_stopping(state, 1.0, step=1, params={}, min_delta=-1)
    with pytest.raises(ValueError, match=r"\(patience=...\) must be >= 0, got -1"):
        should_stop(state, -1)


def test_without_patience_it_never_stops() -> None:
    assert not should_stop(init_early_stopping({})._replace(bad=np.int32(10**6)), 0)
