"""Decoupled decay and its difference to a penalty in the loss (DLB 7.1, AdamW)."""

import jax
import numpy as np
import optax
import pytest

from fdl.optim import decoupled_l2

BEST = np.array([3.0, -0.2, 0.05, -2.0])
CURVATURE = np.array([1.0, 2.0, 0.5, 4.0])


def gradient(w):
    return CURVATURE * (w - BEST)


def minimise(tx, steps, w=None):
    w = np.zeros(4) if w is None else w

    def step(carry, _):
        w, state = carry
        updates, state = tx.update(gradient(w), state, w)
        return (optax.apply_updates(w, updates), state), None

    return jax.jit(lambda w: jax.lax.scan(step, (w, tx.init(w)), None, steps)[0][0])(w)


def first_update(tx, updates, params):
    return jax.jit(lambda u, p: tx.update(u, tx.init(p), p)[0])(updates, params)


def all_of(params):
    return jax.tree.map(lambda _: True, params)


def test_decoupled_l2_shrinks_by_one_minus_rate_times_strength_whatever_the_gradient():
    tx = optax.chain(
        optax.scale_by_adam(), decoupled_l2(0.5, mask=all_of), optax.scale_by_learning_rate(0.1)
    )
    plain = optax.adam(0.1)
    w = np.array([1.0, -2.0, 3.0, 4.0])
    with_decay, without = first_update(tx, gradient(w), w), first_update(plain, gradient(w), w)
    np.testing.assert_allclose(without - with_decay, 0.1 * 0.5 * w, rtol=1e-12)


def test_under_adam_decoupled_decay_differs_from_the_penalty_in_the_loss():
    # At the first step Adam moves by the sign of the gradient. With the penalty inside that sign is
    # all; decoupled, the decay comes on top of it.
    w, g = np.array([1.0, 1.0]), np.array([5.0, -5.0])
    adam = optax.scale_by_adam(eps=0.0)
    inside = optax.chain(decoupled_l2(0.5, mask=all_of), adam)
    behind = optax.chain(adam, decoupled_l2(0.5, mask=all_of))
    np.testing.assert_allclose(first_update(inside, g, w), [1.0, -1.0], rtol=1e-12)
    np.testing.assert_allclose(first_update(behind, g, w), [1.5, -0.5], rtol=1e-12)


def test_under_gradient_descent_decoupled_decay_is_the_penalty():
    tx = optax.chain(decoupled_l2(0.7, mask=all_of), optax.sgd(0.1))
    expected = CURVATURE / (CURVATURE + 0.7) * BEST
    np.testing.assert_allclose(minimise(tx, 500), expected, rtol=1e-12)


def test_decoupled_l2_leaves_the_unmasked_alone():
    params = {"kernel": np.ones((2, 2)), "bias": np.ones(2)}
    tx = decoupled_l2(0.5, mask=lambda p: {"kernel": True, "bias": False})
    zeros = jax.tree.map(np.zeros_like, params)
    updates = first_update(tx, zeros, params)
    jax.tree.map(np.testing.assert_array_equal, updates, {"kernel": 0.5, "bias": 0.0})


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"decoupled_l2\(strength=...\).*got -1.0"):
        decoupled_l2(-1.0, mask=all_of)
