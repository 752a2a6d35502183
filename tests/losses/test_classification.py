"""Cross-entropies: PyTorch's and optax's values, closed forms, extremes, masks and weights."""

import functools
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fdl import losses

FIXTURE = np.load(Path(__file__).parents[1] / "fixtures" / "losses" / "data.npz")
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}
SMOOTHING = [n[:-5] for n in FIXTURE.files if re.fullmatch(r"label_smoothing_0\d+:loss", n)]


# compiled as a whole, which is also how they are used
OPTIONS = ("label_smoothing", "convention", "positive_weight")
softmax_cross_entropy = jax.jit(losses.softmax_cross_entropy, static_argnames=OPTIONS[:2])
sigmoid_cross_entropy = jax.jit(losses.sigmoid_cross_entropy, static_argnames=OPTIONS)


def number_in(name):
    return float("0." + name.rsplit("_", 1)[1][1:])


def integers(name):
    return FIXTURE[f"{name}:in:t_y"].astype(int)


CASES = {
    "bernoulli_logits": lambda z: sigmoid_cross_entropy(
        z, FIXTURE["bernoulli_logits:in:y_"].astype(z.dtype)
    ),
    "multinoulli_logits": lambda z: softmax_cross_entropy(z, integers("multinoulli_logits")),
    "soft_targets_ce": lambda z: softmax_cross_entropy(z, FIXTURE["soft_targets_ce:in:t_p"]),
} | {
    name: lambda z, name=name: softmax_cross_entropy(
        z, integers(name), label_smoothing=number_in(name)
    )
    for name in SMOOTHING
}


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(function, z):
    loss, pullback = jax.vjp(function, z)
    return loss, pullback(jnp.ones_like(loss))[0]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_loss_has_the_values_and_gradients_of_pytorch(name, dtype):
    loss, gradient = value_and_gradient(CASES[name], jnp.asarray(FIXTURE[f"{name}:in:z"], dtype))
    assert loss.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(loss, FIXTURE[f"{name}:loss"], **TOLERANCE[dtype])
    np.testing.assert_allclose(gradient, FIXTURE[f"{name}:grad:z"], **TOLERANCE[dtype])


EXTREME = np.array([-1e4, -200.0, -1.0, 0.0, 1.0, 200.0, 1e4])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_sigmoid_cross_entropy_is_exact_at_extreme_logits(label, dtype):
    z = jnp.asarray(EXTREME, dtype)
    y = np.full(z.shape, label)
    loss, gradient = value_and_gradient(lambda z: sigmoid_cross_entropy(z, y), z)
    m = -EXTREME if label else EXTREME  # the loss is softplus(m)
    exact = [m if m > 700 else math.log1p(math.exp(m)) for m in m]
    np.testing.assert_allclose(loss, exact, rtol=1e-6 if dtype == "float32" else 1e-14, atol=1e-45)
    sigmoid = [1.0 if z > 700 else math.exp(z) / (1 + math.exp(z)) for z in EXTREME]
    np.testing.assert_allclose(gradient, np.array(sigmoid) - label, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_softmax_cross_entropy_is_exact_at_extreme_logits(dtype):
    z = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [1e4, 1e4, 1e4]], dtype)
    loss, gradient = value_and_gradient(lambda z: softmax_cross_entropy(z, np.array([1, 2, 0])), z)
    np.testing.assert_allclose(loss, [2e4, math.log(2), math.log(3)], rtol=1e-6)
    expected = [[1, -1, 0], [0, 0.5, -0.5], [-2 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_curvature_at_logit_zero_is_that_of_the_sigmoid():
    # max(z, 0) - z y + log(1 + exp(-|z|)), the usual stable form, has curvature 0 there
    binary = jax.jit(jax.hessian(sigmoid_cross_entropy))(0.0, 1.0)
    assert float(binary) == pytest.approx(0.25, rel=1e-15)
    hessian = jax.jit(jax.hessian(softmax_cross_entropy))(np.zeros(3), 1)
    np.testing.assert_allclose(hessian, np.eye(3) / 3 - 1 / 9, atol=1e-15)


RNG = np.random.default_rng(0)
Z = 2 * RNG.normal(size=(6, 4))
Y = RNG.integers(4, size=6)
P = RNG.dirichlet(np.ones(4), size=6)
ONE_HOT = np.eye(4)[Y]
LOG_SOFTMAX = Z - np.log(np.exp(Z).sum(1, keepdims=True))


def test_cross_entropies_agree_with_optax():
    @jax.jit
    def both():
        ours, theirs = losses.softmax_cross_entropy, optax.losses
        integers = theirs.softmax_cross_entropy_with_integer_labels(Z, Y)
        smooth = theirs.softmax_cross_entropy(Z, theirs.smooth_labels(ONE_HOT, 0.2))
        return [
            (ours(Z, P), theirs.softmax_cross_entropy(Z, P)),
            (ours(Z, Y), integers),
            (ours(Z, ONE_HOT), integers),
            (ours(Z, Y, label_smoothing=0.2), smooth),
            (losses.sigmoid_cross_entropy(Z, P), theirs.sigmoid_binary_cross_entropy(Z, P)),
        ]

    for ours, theirs in both():
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_sigmoid_is_the_softmax_of_two_classes_smoothed_or_not():
    z, y = Z[:, 0], Y % 2
    for options in ({}, {"label_smoothing": 0.3}, {"label_smoothing": 0.3, "convention": "others"}):
        binary = sigmoid_cross_entropy(z, y, **options)
        two = softmax_cross_entropy(np.stack([0 * z, z], 1), y, **options)
        np.testing.assert_allclose(binary, two, rtol=1e-12)


def test_softmax_cross_entropy_ignores_a_constant_added_to_all_logits():
    shifted = softmax_cross_entropy(Z + 123.0, P)
    np.testing.assert_allclose(softmax_cross_entropy(Z, P), shifted, rtol=1e-11)


def test_gradient_is_prediction_minus_target():
    _, gradient = value_and_gradient(lambda z: softmax_cross_entropy(z, P), Z)
    np.testing.assert_allclose(gradient, np.exp(LOG_SOFTMAX) - P, rtol=1e-10)
    _, gradient = value_and_gradient(lambda z: sigmoid_cross_entropy(z, P), Z)
    np.testing.assert_allclose(gradient, 1 / (1 + np.exp(-Z)) - P, rtol=1e-10)


def test_the_best_constant_prediction_is_the_frequency_of_each_class():
    y = np.array([0, 0, 0, 1, 1, 2])

    def risk(z):
        return softmax_cross_entropy(jnp.broadcast_to(z, (6, 3)), y).mean()

    def binary_risk(z):
        return sigmoid_cross_entropy(jnp.full(6, z), y == 0).mean()

    slopes = jax.jit(jax.grad(risk))(np.log([3.0, 2.0, 1.0]))
    np.testing.assert_allclose(slopes, 0, atol=1e-15)
    assert float(jax.jit(jax.grad(binary_risk))(0.0)) == pytest.approx(0, abs=1e-15)


def test_label_smoothing_of_the_book_leaves_the_true_class_one_minus_epsilon():
    targets = np.where(ONE_HOT == 1, 1 - 0.3, 0.3 / 3)
    ours = softmax_cross_entropy(Z, Y, label_smoothing=0.3, convention="others")
    np.testing.assert_allclose(ours, -(targets * LOG_SOFTMAX).sum(1), rtol=1e-12)


def test_smoothed_labels_are_distributions_and_amount_zero_changes_nothing():
    for convention in ("all", "others"):
        smooth = functools.partial(losses.smooth_labels, P, convention=convention)
        np.testing.assert_allclose(np.asarray(smooth(0.25)).sum(1), 1, rtol=1e-14)
        np.testing.assert_array_equal(smooth(0.0), P)


def test_class_weights_multiply_the_terms_of_the_sum():
    w = np.array([0.5, 2.0, 0.0, 1.0])
    ours = softmax_cross_entropy(Z, Y, class_weights=w)
    np.testing.assert_allclose(ours, -w[Y] * LOG_SOFTMAX[range(6), Y], rtol=1e-12)
    ours = softmax_cross_entropy(Z, P, class_weights=w)
    np.testing.assert_allclose(ours, -(w * P * LOG_SOFTMAX).sum(1), rtol=1e-12)


def test_positive_weight_multiplies_the_loss_of_positives_only():
    z, y = Z[:, 0], Y % 2
    plain = np.asarray(sigmoid_cross_entropy(z, y))
    weighted = sigmoid_cross_entropy(z, y, positive_weight=3.0)
    np.testing.assert_allclose(weighted, np.where(y, 3.0, 1.0) * plain, rtol=1e-13)


def test_masked_examples_count_for_nothing_whatever_they_hold():
    counts = np.array([True, False, True, True, False, True])
    z, y = Z.copy(), Y.copy()
    z[1], z[4], y[1] = np.nan, np.inf, -1

    def loss_of(z):
        return softmax_cross_entropy(z, y, label_smoothing=0.1, where=counts)

    loss, gradient = value_and_gradient(loss_of, z)
    clean, slope = value_and_gradient(lambda z: softmax_cross_entropy(z, Y, label_smoothing=0.1), Z)
    np.testing.assert_array_equal(loss, np.where(counts, clean, 0))
    np.testing.assert_array_equal(gradient, np.where(counts[:, None], slope, 0))


def test_masked_examples_do_not_spoil_the_gradients_of_targets_and_weights():
    counts = np.array([True, False, True, True, True, True])
    z, p = Z.copy(), P.copy()
    z[1], p[1] = np.nan, np.nan

    def total(z, p, weights):
        return softmax_cross_entropy(z, p, class_weights=weights, where=counts).sum()

    for gradient in jax.jit(jax.grad(total, argnums=(0, 1, 2)))(z, p, np.ones(4)):
        assert np.isfinite(gradient).all()


def test_masked_elements_of_the_sigmoid_count_for_nothing_whatever_they_hold():
    counts, labels, z = P > 0.2, P.copy(), Z.copy()
    labels[~counts], z[~counts] = np.nan, np.inf
    loss, gradient = value_and_gradient(lambda z: sigmoid_cross_entropy(z, labels, where=counts), z)
    clean, slope = value_and_gradient(lambda z: sigmoid_cross_entropy(z, P), Z)
    np.testing.assert_array_equal(loss, np.where(counts, clean, 0))
    np.testing.assert_array_equal(gradient, np.where(counts, slope, 0))


@pytest.mark.parametrize("convention", ["all", "others"])
def test_masked_classes_are_as_if_they_were_not_there(convention):
    keep, y = [0, 2, 3], np.array([0, 1, 2, 0, 1, 2])
    exists = np.broadcast_to(np.isin(np.arange(4), keep), Z.shape)
    options = {"label_smoothing": 0.2, "convention": convention}
    full, gradient = value_and_gradient(
        lambda z: softmax_cross_entropy(z, np.array(keep)[y], where=exists, **options), Z
    )
    few, slope = value_and_gradient(lambda z: softmax_cross_entropy(z, y, **options), Z[:, keep])
    np.testing.assert_allclose(full, few, rtol=1e-12)
    np.testing.assert_allclose(gradient[:, keep], slope, rtol=1e-10)
    np.testing.assert_array_equal(gradient[:, 1], 0)


def test_the_loss_of_a_class_that_does_not_exist_is_infinite():
    exists = np.array([True, False, True])
    assert float(softmax_cross_entropy(np.zeros(3), 1, where=exists)) == np.inf


@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_outside_of_the_classes_gives_nan_and_not_a_number(label):
    assert np.isnan(softmax_cross_entropy(Z[0], label))


def test_zero_one_counts_the_errors_and_takes_the_first_of_equals():
    predicted = np.array([np.flatnonzero(row == row.max())[0] for row in Z])
    np.testing.assert_array_equal(losses.zero_one(Z, Y), (predicted != Y).astype(float))
    np.testing.assert_array_equal(losses.zero_one(np.zeros((2, 3)), np.array([0, 1])), [0, 1])


def test_losses_of_bfloat16_logits_are_computed_in_float32():
    z = Z.astype(jnp.bfloat16)
    for loss, labels in ((softmax_cross_entropy, Y), (sigmoid_cross_entropy, ONE_HOT)):
        assert loss(z, labels).dtype == jnp.float32
        np.testing.assert_allclose(loss(z, labels), loss(z.astype(float), labels), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: softmax_cross_entropy(Z, Y[:5]), r"integers of shape \(6,\) or distr"),
        (lambda: softmax_cross_entropy(Z, Y[:, None]), r"got int\d+ of shape \(6, 1\)"),
        (lambda: softmax_cross_entropy(Z, ONE_HOT.astype(int)), r"int\d+ of shape \(6, 4\)"),
        (lambda: softmax_cross_entropy(Z, P[:, :3]), r"got float64 of shape \(6, 3\)"),
        (lambda: softmax_cross_entropy(Z, Y, class_weights=np.ones(1)), r"\(4,\) and \(1,\)"),
        (lambda: softmax_cross_entropy(Z, Y, where=P[:1] > 0), r"where=...\).*\(1, 4\)"),
        (lambda: softmax_cross_entropy(Z, Y, label_smoothing=1.5), "in .0, 1., got 1.5"),
        (lambda: losses.smooth_labels(P, 0.1, convention="book"), "got 'book'"),
        (lambda: sigmoid_cross_entropy(Z, Y), r"got \(6, 4\) and \(6,\)"),
        (lambda: sigmoid_cross_entropy(Z, P, where=P[0] > 0), r"\(6, 4\) and \(4,\)"),
        (lambda: sigmoid_cross_entropy(Z, P, positive_weight=0.0), "must be > 0, got 0.0"),
        (lambda: losses.zero_one(Z, ONE_HOT), r"got \(6,\) and \(6, 4\)"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
