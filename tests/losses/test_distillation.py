"""Distillation: PyTorch's values and gradients, its limits in the temperature, extremes."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import averaging, losses

FOLDER = Path(__file__).parents[1] / "fixtures" / "distill"
FIXTURE = np.load(FOLDER / "data.npz")
CONFIG = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))["config"]
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_values_and_gradients_are_those_of_pytorch(dtype):
    s, t = (jnp.asarray(FIXTURE[f"{who}_logits"], dtype) for who in ("student", "teacher"))
    y, temperature, lam = jnp.asarray(FIXTURE["y"]), CONFIG["T"], CONFIG["lam"]

    def soft(s):
        return losses.distillation(s, t, temperature=temperature).mean()

    def total(s):
        return lam * soft(s) + (1 - lam) * losses.softmax_cross_entropy(s, y).mean()

    kl, gradient = jax.jit(jax.value_and_grad(soft))(s)
    whole, gradient_of_both = jax.jit(jax.value_and_grad(total))(s)
    assert kl.dtype == gradient.dtype == dtype
    p = jax.nn.softmax(t / temperature)
    entropy = -(p * jnp.log(p)).sum(-1).mean()
    for ours, theirs in (
        (kl / temperature**2, "soft_kl"),
        (kl / temperature**2 + entropy, "soft_ce"),
        (gradient, "grad_T2ce"),
        (losses.softmax_cross_entropy(s, y).mean(), "hard_ce"),
        (whole, "total"),
        (gradient_of_both, "grad_total"),
    ):
        np.testing.assert_allclose(ours, FIXTURE[theirs], **TOLERANCE[dtype], err_msg=theirs)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_hints_are_those_of_pytorch(dtype):
    wanted, guided, w, b = (
        jnp.asarray(FIXTURE[name], dtype)
        for name in ("hint", "guided", "regressor_W", "regressor_b")
    )

    def loss(w, guided):
        return losses.hint(guided @ w.T + b[None], wanted).mean()

    value, gradients = jax.value_and_grad(loss, (0, 1))(w, guided)
    for ours, name in zip(
        (value, *gradients), ("hint_loss", "hint_grad_W", "hint_grad_guided"), strict=True
    ):
        np.testing.assert_allclose(ours, FIXTURE[name], **TOLERANCE[dtype], err_msg=name)


def test_a_certain_teacher_at_temperature_one_is_a_label():
    s, y = jnp.asarray(RNG.normal(size=(6, 4))), jnp.asarray(RNG.integers(0, 4, 6))
    certain = 1e4 * jax.nn.one_hot(y, 4)
    np.testing.assert_allclose(
        losses.distillation(s, certain, temperature=1.0),
        losses.softmax_cross_entropy(s, y),
        rtol=1e-12,
    )


def test_at_high_temperature_logits_are_matched():
    s, t = (a - a.mean(-1, keepdims=True) for a in jnp.asarray(RNG.normal(size=(2, 6, 4))))
    gradient = jax.grad(lambda s: losses.distillation(s, t, temperature=1e4).sum())(s)
    np.testing.assert_allclose(gradient, (s - t) / 4, rtol=1e-3, atol=1e-6)


def test_no_gradient_reaches_the_teacher():
    s, t = jnp.asarray(RNG.normal(size=(2, 6, 4)))
    assert not jax.grad(lambda t: losses.distillation(s, t, temperature=2.0).sum())(t).any()


def test_a_hint_sums_over_maps_of_each_example_and_moves_the_student_alone():
    r, u = jnp.asarray(RNG.normal(size=(2, 3, 4, 4, 2)))
    np.testing.assert_allclose(
        losses.hint(r, u), [((a - b) ** 2).sum() / 2 for a, b in zip(r, u, strict=True)]
    )
    to_student, to_teacher = jax.grad(lambda r, u: losses.hint(r, u).sum(), (0, 1))(r, u)
    np.testing.assert_allclose(to_student, r - u, rtol=1e-12)
    assert not to_teacher.any()


def test_the_mean_of_teachers_at_a_temperature_is_a_teacher():
    s, *t = jnp.asarray(RNG.normal(size=(4, 6, 5)))
    temperature = 3.0
    log_p = averaging.arithmetic_mean(jax.nn.log_softmax(jnp.stack(t) / temperature))
    mean = jnp.mean(jnp.stack([jax.nn.softmax(each / temperature) for each in t]), 0)
    gradient = jax.grad(
        lambda s: losses.distillation(s, temperature * log_p, temperature=temperature).sum()
    )(s)
    expected = temperature * (jax.nn.softmax(s / temperature) - mean)
    np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-12)
    one = averaging.arithmetic_mean(jax.nn.log_softmax(t[0][None] / temperature))
    np.testing.assert_allclose(
        losses.distillation(s, temperature * one, temperature=temperature),
        losses.distillation(s, t[0], temperature=temperature),
        rtol=1e-9,
    )


def test_logits_may_be_shifted():
    s, t = jnp.asarray(RNG.normal(size=(2, 6, 4)))
    shifts = jnp.asarray(RNG.normal(size=(2, 6, 1)))
    np.testing.assert_allclose(
        losses.distillation(s + shifts[0], t + shifts[1], temperature=2.5),
        losses.distillation(s, t, temperature=2.5),
        rtol=1e-10,
        atol=1e-13,
    )


def test_extreme_logits_have_finite_losses_and_gradients():
    s = jnp.array([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0]])
    t = jnp.array([[-1e4, 1e4, 0.0], [1e4, 1e4, -1e4]])
    each = losses.distillation(s, t, temperature=2.0)
    np.testing.assert_allclose(each, [4 * 1e4, 4 * np.log(1.5)], rtol=1e-12)  # T^2 KL
    gradient = jax.grad(lambda s: losses.distillation(s, t, temperature=2.0).sum())(s)
    np.testing.assert_allclose(gradient, [[2, -2, 0], [-1 / 3, -1 / 3, 2 / 3]], atol=1e-12)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"distillation\(temperature=...\) must be > 0, got 0"):
        losses.distillation(jnp.ones((2, 3)), jnp.ones((2, 3)), temperature=0)
    with pytest.raises(ValueError, match=r"one shape .* got \(2, 3\) and \(3,\)"):
        losses.distillation(jnp.ones((2, 3)), jnp.ones(3), temperature=1.0)
    with pytest.raises(ValueError, match=r"one shape \(batch, ...\), got \(2, 3\) and \(2, 4\)"):
        losses.hint(jnp.ones((2, 3)), jnp.ones((2, 4)))
