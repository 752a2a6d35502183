"""Surrogates of the 0-1 loss: PyTorch's and optax's values, bounds, extremes."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fdl import losses

FIXTURE = np.load(Path(__file__).parents[1] / "fixtures" / "losses" / "data.npz")
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}

BINARY = {
    "logistic_surrogate": losses.logistic,
    "hinge": losses.hinge,
    "sq_hinge": losses.squared_hinge,
    "exp_loss": losses.exponential,
}


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(function, z, y):
    loss, pullback = jax.vjp(lambda z: function(z, y), z)
    return loss, pullback(jnp.ones_like(loss))[0]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", [*BINARY, "multiclass_hinge"])
def test_loss_has_the_values_and_gradients_of_pytorch(name, dtype):
    if name in BINARY:
        function, inputs = BINARY[name], "f"
        y = FIXTURE[f"{name}:in:y_"]
    else:
        function, inputs = losses.multiclass_hinge, "z"
        y = FIXTURE[f"{name}:in:t_y"].astype(int)
    z = jnp.asarray(FIXTURE[f"{name}:in:{inputs}"], dtype)
    loss, gradient = value_and_gradient(function, z, y)
    assert loss.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(loss, FIXTURE[f"{name}:loss"], **TOLERANCE[dtype])
    np.testing.assert_allclose(gradient, FIXTURE[f"{name}:grad:{inputs}"], **TOLERANCE[dtype])


SCORES = np.linspace(-4, 4, 81)
LABELS = np.where(np.arange(81) % 3, 1, -1)


def test_surrogates_lie_above_the_0_1_loss_and_touch_it_at_no_margin():
    logits = np.stack([np.zeros_like(SCORES), SCORES], -1)
    wrong = losses.zero_one(logits, (LABELS > 0).astype(int))
    factors = {losses.logistic: 1 / np.log(2)}
    for function in BINARY.values():
        factor = factors.get(function, 1.0)
        assert np.all(factor * function(SCORES, LABELS) >= wrong - 1e-12), function
        assert factor * float(function(0.0, 1)) == pytest.approx(1, rel=1e-6)
    several = np.random.default_rng(0).normal(size=(50, 4))
    y = np.arange(50) % 4
    assert np.all(4 * losses.multiclass_hinge(several, y) >= losses.zero_one(several, y))


@pytest.mark.parametrize("function", BINARY.values())
def test_labels_may_be_signs_or_0_and_1(function):
    signs = function(SCORES, LABELS)
    for label in (LABELS > 0, (LABELS > 0).astype(int), LABELS.astype(float)):
        np.testing.assert_array_equal(function(SCORES, label), signs)


def test_the_logistic_loss_is_the_sigmoid_cross_entropy():
    expected = losses.sigmoid_cross_entropy(SCORES, LABELS > 0)
    np.testing.assert_allclose(losses.logistic(SCORES, LABELS), expected, rtol=1e-12)


def test_hinge_losses_agree_with_optax():
    np.testing.assert_allclose(
        losses.hinge(SCORES, LABELS), optax.losses.hinge_loss(SCORES, LABELS), atol=1e-15
    )
    # with two classes the nearest wrong class is the only one
    z, y = np.random.default_rng(1).normal(size=(9, 2)), np.arange(9) % 2
    crammer = optax.losses.multiclass_hinge_loss(z, y)
    np.testing.assert_allclose(2 * losses.multiclass_hinge(z, y), crammer, atol=1e-14)


def test_a_certain_margin_still_pulls_on_the_logistic_and_not_on_the_hinge():
    def slope(function):
        return float(jax.grad(function)(3.0, 1))

    assert slope(losses.hinge) == slope(losses.squared_hinge) == 0
    assert slope(losses.logistic) == pytest.approx(-1 / (1 + np.exp(3)))


@pytest.mark.parametrize(
    "function", [losses.logistic, losses.hinge, losses.squared_hinge, losses.exponential]
)
def test_extreme_scores_give_no_nan(function):
    z = jnp.array([-1e4, -200, 0, 200, 1e4], jnp.bfloat16)
    loss, gradient = value_and_gradient(function, z, np.ones(5))
    assert loss.dtype == jnp.float32
    assert not np.isnan(loss).any() and not np.isnan(gradient.astype(jnp.float32)).any()


def test_an_unknown_class_has_loss_nan():
    assert np.isnan(losses.multiclass_hinge(np.zeros((2, 3)), np.array([3, -1]))).all()


def test_shapes_and_types_are_checked():
    for function in BINARY.values():
        with pytest.raises(ValueError, match=r"\(score, label\) must have equal shapes"):
            function(np.zeros(3), np.zeros((3, 1)))
    for labels in (np.zeros(3), np.zeros((3, 1), int)):
        with pytest.raises(ValueError, match=r"multiclass_hinge\(labels\) must be integers"):
            losses.multiclass_hinge(np.zeros((3, 2)), labels)
