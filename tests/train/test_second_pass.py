"""Early stopping is a kind of weight decay, and a second pass is algorithm 7.2 or 7.3."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdl import train
from fdl.train import early_stopping

pytestmark = pytest.mark.usefixtures("compile_quickly")


def stopped(best_step):
    early = early_stopping.init_early_stopping({})
    return early._replace(best_step=np.int32(best_step))


@pytest.mark.parametrize("tau", [1, 30, 200])
def test_to_stop_descent_on_a_quadratic_is_weight_decay(tau):
    """Along an eigenvector (1 - eps l)^tau = alpha / (l + alpha): tau steps are weight decay alpha.

    The steps are the library's, stopped by its early stopping; weight decay is solved for.
    """
    rng = np.random.default_rng(0)
    vectors, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    eigenvalues = np.array([0.05, 0.3, 1.0, 2.5])
    hessian, best = (vectors * eigenvalues) @ vectors.T, rng.normal(size=4)
    rate = 0.02

    def objective(params, extra, batch, key):
        d = params - best
        return d @ hessian @ d / 2, (extra, {})

    tx = optax.sgd(rate)
    step = jax.jit(train.make_step(objective, tx))
    state = train.init_state(jnp.zeros(4), {}, tx)
    early = train.init_early_stopping(state.params)
    for i in range(1, tau + 6):
        if train.should_stop(early, 3):
            break
        state, _ = step(state, {"x": np.zeros(1)})
        score = abs(i - tau)  # a validation score that is lowest at step tau
        early = train.update_early_stopping(early, score, step=i, params=state.params)
    assert int(early.best_step) == tau and int(state.step) == tau + 3

    power = (1 - rate * eigenvalues) ** tau
    alpha = eigenvalues * power / (1 - power)
    np.testing.assert_allclose(power, alpha / (eigenvalues + alpha), rtol=1e-12)
    decay = (vectors * alpha) @ vectors.T
    ridge = np.linalg.solve(hessian + decay, hessian @ best)
    np.testing.assert_allclose(early.best_params, ridge, rtol=1e-9)
    if tau == 1:  # for few small steps one alpha serves all directions: 1 / (tau eps)
        np.testing.assert_allclose(alpha, 1 / (tau * rate), rtol=0.06)


def algorithm_7_3(losses, goal, cap, every):
    """The book's loop: train n steps while the loss on the validation part is above the goal."""
    steps = 0
    for loss in [math.inf, *losses]:
        if steps >= cap or loss < goal:
            return steps
        steps = min(steps + every, cap)
    return steps


values = st.lists(st.sampled_from([0.5, 1.0, 1.5, math.nan, math.inf]), min_size=12, max_size=12)


@settings(max_examples=100, deadline=None)
@given(values=values, cap=st.integers(0, 20), every=st.integers(1, 4), began=st.integers(0, 50))
def test_continued_training_ends_where_the_book_ends(values, cap, every, began):
    state, step = train.go_on(goal=1.0, step=began, cap=cap), began
    losses = values + [2.0] * 20
    while not train.second_pass_over(state, step=step):
        step += 1
        if (step - began) % every == 0:
            value = losses[(step - began) // every - 1]
            state = train.update_second_pass(state, value, step=step)
    assert step - began == algorithm_7_3(losses, 1.0, cap, every)
    assert int(state.ended) in (-1, step)


def test_retraining_lasts_as_long_as_was_best():
    for times, length in ((1.0, 40), (1.25, 50), (0.01, 0)):
        state = train.retrain(stopped(40), step=70, times=times)
        assert train.in_second_pass(state)
        over = [s for s in range(70, 200) if train.second_pass_over(state, step=s)]
        assert over[0] == 70 + length
        later = train.update_second_pass(state, -1e30, step=71)
        assert later == state  # no loss ends it


def test_a_search_is_no_second_pass_and_knows_no_goal():
    state = train.init_second_pass()
    assert not train.in_second_pass(state) and not train.second_pass_over(state, step=10**9)
    assert train.update_second_pass(state, -math.inf, step=3) == state


def test_an_equal_loss_does_not_reach_the_goal_whatever_its_last_digits():
    state = train.go_on(goal=0.1, step=0, cap=9)  # 0.1 is less than its float32
    assert int(train.update_second_pass(state, 0.1, step=1).ended) == -1
    assert int(train.update_second_pass(state, 0.0999, step=1).ended) == 1


def test_a_pass_that_a_checkpoint_interrupts_goes_on(tmp_path):
    state = train.update_second_pass(train.go_on(goal=0.5, step=7, cap=30), 0.4, step=12)
    store = train.Checkpoints(tmp_path)
    store.save(12, state, config={}, metrics={})
    store.wait()
    found = store.latest(train.init_second_pass()).tree
    store.close()
    assert [a.dtype for a in found] == [np.int32, np.int32, np.float32, np.int32]
    assert [float(a) for a in found] == [7, 30, 0.5, 12]
    assert train.second_pass_over(found, step=12) and not train.second_pass_over(
        found._replace(ended=np.int32(-1)), step=36
    )


def test_rules_of_their_arguments():
    with pytest.raises(ValueError, match=r"retrain\(times=...\) must be > 0, got 0"):
        train.retrain(stopped(3), step=1, times=0)
    with pytest.raises(ValueError, match=r"go_on\(goal=...\) must be a number, got nan"):
        train.go_on(goal=math.nan, step=1, cap=1)
    with pytest.raises(ValueError, match=r"go_on\(cap=...\) must be >= 0, got -1"):
        train.go_on(goal=0.0, step=1, cap=-1)
