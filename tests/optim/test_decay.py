"""Decays: the difference to a penalty in the loss, and L1's exact zeros (DLB 7.1, AdamW, ISTA)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fdl.optim import decoupled_l2, proximal_l1

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


def test_proximal_l1_reaches_the_soft_thresholded_minimum_with_exact_zeros():
    tx = optax.chain(optax.sgd(0.2), proximal_l1(0.3, 0.2, mask=all_of))
    w = minimise(tx, 500, np.ones(4))
    expected = np.sign(BEST) * np.maximum(np.abs(BEST) - 0.3 / CURVATURE, 0)
    np.testing.assert_allclose(w, expected, atol=1e-14)
    assert expected[2] == 0 and w[2] == 0


def test_proximal_l1_follows_a_schedule():
    rate = optax.piecewise_constant_schedule(0.5, {1: 0.1, 2: 0.1})
    tx = proximal_l1(1.0, rate, mask=all_of)
    w, seen, update = np.array([4.0]), [], jax.jit(tx.update)
    state = tx.init(w)
    for _ in range(3):
        updates, state = update(np.zeros(1), state, w)
        w = w + np.asarray(updates)
        seen.append(w[0])
    np.testing.assert_allclose(seen, [3.5, 3.45, 3.445], rtol=1e-12)


def test_proximal_l1_leaves_the_unmasked_alone_and_a_prefix_mask_reaches_below():
    params = {"layer": {"kernel": np.ones((2, 2)), "bias": np.ones(2)}, "head": np.ones(3)}
    zeros = jax.tree.map(np.zeros_like, params)
    tx = proximal_l1(1.0, 0.25, mask=lambda _: {"layer": True, "head": False})
    updates = first_update(tx, zeros, params)
    expected = {"layer": {"kernel": -0.25, "bias": -0.25}, "head": 0.0}
    jax.tree.map(np.testing.assert_array_equal, updates, expected)


def test_proximal_l1_keeps_the_type_of_the_parameters():
    w = np.ones(3, jnp.bfloat16)
    tx = proximal_l1(0.5, lambda step: np.float32(0.1), mask=all_of)
    assert first_update(tx, np.zeros_like(w), w).dtype == jnp.bfloat16


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: decoupled_l2(-1.0, mask=all_of), r"decoupled_l2\(strength=...\).*got -1.0"),
        (lambda: proximal_l1(-1.0, 0.1, mask=all_of), r"proximal_l1\(strength=...\).*got -1.0"),
        (
            lambda: proximal_l1(1.0, 0.1, mask=all_of).update(np.ones(1), None),
            r"update\(params=...\) must be given",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
