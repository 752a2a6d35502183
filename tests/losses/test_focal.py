"""The focal loss: PyTorch's values, the cross-entropy as a limit, extremes."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import losses

FIXTURE = np.load(Path(__file__).parents[1] / "fixtures" / "losses" / "data.npz")
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}
NAMES = [n.removesuffix(":loss") for n in FIXTURE.files if re.fullmatch(r"focal_g\d+:loss", n)]


def gamma_in(name):
    digits = name.removeprefix("focal_g")
    return float(f"0.{digits[1:]}" if re.fullmatch(r"0\d+", digits) else digits)


def value_and_gradient(z, y, **options):
    def both(z):
        loss, pullback = jax.vjp(lambda z: losses.focal(z, y, **options), z)
        return loss, pullback(jnp.ones_like(loss))[0]

    return jax.jit(both)(z)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", NAMES)
def test_focal_has_the_values_and_gradients_of_pytorch(name, dtype):
    z = jnp.asarray(FIXTURE[f"{name}:in:z"], dtype)
    y = FIXTURE[f"{name}:in:t_y"].astype(int)
    loss, gradient = value_and_gradient(z, y, gamma=gamma_in(name))
    assert loss.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(loss, FIXTURE[f"{name}:loss"], **TOLERANCE[dtype])
    np.testing.assert_allclose(gradient, FIXTURE[f"{name}:grad:z"], **TOLERANCE[dtype])


Z = np.random.default_rng(0).normal(size=(6, 3))
Y = np.arange(6) % 3


def test_gamma_0_is_the_cross_entropy():
    weights = np.array([1.0, 2.0, 0.5])
    np.testing.assert_allclose(
        losses.focal(Z, Y, gamma=0.0, class_weights=weights),
        losses.softmax_cross_entropy(Z, Y, class_weights=weights),
        rtol=1e-12,
    )


def test_the_factor_is_the_probability_of_the_wrong_classes_to_the_gamma():
    p = np.exp(Z) / np.exp(Z).sum(1, keepdims=True)
    own = p[np.arange(6), Y]
    expected = -((1 - own) ** 1.5) * np.log(own)
    np.testing.assert_allclose(losses.focal(Z, Y, gamma=1.5), expected, rtol=1e-12)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_certain_logits_give_finite_losses_and_gradients(gamma):
    z = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [200.0, 0.0, 0.0]], np.float32)
    loss, gradient = value_and_gradient(z, np.array([0, 0, 0]), gamma=gamma)
    np.testing.assert_allclose(loss, [0, 2e4 + np.log(2), 0], rtol=1e-6, atol=1e-30)
    assert np.isfinite(gradient).all()


def test_focal_checks_its_arguments():
    with pytest.raises(ValueError, match=r"focal\(gamma=...\) must be >= 0, got -1"):
        losses.focal(Z, Y, gamma=-1)
    with pytest.raises(ValueError, match=r"focal\(labels\) must be integers"):
        losses.focal(Z, Y.astype(float))
    assert np.isnan(losses.focal(Z[:1], np.array([3]))).all()
