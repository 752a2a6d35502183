"""Regression losses: PyTorch's values and the statistic that each predicts."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import losses

FIXTURE = np.load(Path(__file__).parents[1] / "fixtures" / "losses" / "data.npz")
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}

FUNCTIONS = {  # PyTorch's name, without the parameter in it -> ours, its parameter's name
    "mse_half": (losses.half_squared_error, None),
    "l1_median": (losses.absolute_error, None),
    "huber": (losses.huber, "delta"),
    "pinball": (losses.quantile, "tau"),
}
NAMES = [n.removesuffix(":loss") for n in FIXTURE.files if n.endswith(":loss")]
NAMES = [n for n in NAMES if n in FUNCTIONS or n.rsplit("_", 1)[0] in FUNCTIONS]


def function_named(name):
    """`pinball_03` is the quantile loss with 0.3: the point behind a leading zero is left out."""
    if name in FUNCTIONS:
        return FUNCTIONS[name][0]
    stem, digits = name.rsplit("_", 1)
    function, parameter = FUNCTIONS[stem]
    number = float(f"0.{digits[1:]}" if re.fullmatch(r"0\d+", digits) else digits)
    return lambda mu, y: function(mu, y, **{parameter: number})


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(function, x):
    loss, pullback = jax.vjp(function, x)
    return loss, pullback(jnp.ones_like(loss))[0]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", NAMES)
def test_loss_has_the_values_and_gradients_of_pytorch(name, dtype):
    mu, y = (jnp.asarray(FIXTURE[f"{name}:in:{part}"], dtype) for part in ("mu", "y_"))
    loss, gradient = value_and_gradient(lambda mu: function_named(name)(mu, y), mu)
    expected = FIXTURE[f"{name}:loss"]
    axes = tuple(range(expected.ndim, loss.ndim))  # PyTorch's side sums over outputs
    summed = np.asarray(loss).sum(axes)
    assert loss.dtype == gradient.dtype == dtype and loss.shape == mu.shape
    np.testing.assert_allclose(summed, expected, **TOLERANCE[dtype])
    np.testing.assert_allclose(gradient, FIXTURE[f"{name}:grad:mu"], **TOLERANCE[dtype])


def test_the_fixture_covers_all_of_them():
    assert {n if n in FUNCTIONS else n.rsplit("_", 1)[0] for n in NAMES} == set(FUNCTIONS)


SAMPLE = np.array([-3.0, -0.5, 0.0, 0.25, 1.0, 1.5, 2.0, 4.0, 40.0])
GRID = np.linspace(-5, 45, 5001)


@pytest.mark.parametrize(
    ("loss", "statistic"),
    [
        (losses.squared_error, SAMPLE.mean()),
        (losses.half_squared_error, SAMPLE.mean()),
        (losses.absolute_error, np.median(SAMPLE)),
        (lambda c, y: losses.quantile(c, y, tau=0.5), np.median(SAMPLE)),
        (
            lambda c, y: losses.quantile(c, y, tau=0.2),
            np.quantile(SAMPLE, 0.2, method="inverted_cdf"),
        ),
        (lambda c, y: losses.quantile(c, y, tau=0.95), 40.0),
        (lambda c, y: losses.huber(c, y, delta=1e3), SAMPLE.mean()),
        (lambda c, y: losses.huber(c, y, delta=1e-3), np.median(SAMPLE)),
    ],
)
def test_the_best_constant_is_the_statistic_in_the_docstring(loss, statistic):
    constants, targets = np.broadcast_arrays(GRID[:, None], SAMPLE[None])
    best = GRID[np.asarray(jax.jit(loss)(constants, targets)).mean(1).argmin()]
    assert best == pytest.approx(statistic, abs=0.006)


def test_the_best_constant_of_huber_is_the_mean_of_the_winsorised_targets():
    constants, targets = np.broadcast_arrays(GRID[:, None], SAMPLE[None])
    best = GRID[np.asarray(jax.jit(losses.huber)(constants, targets)).mean(1).argmin()]
    assert np.clip(SAMPLE, best - 1, best + 1).mean() == pytest.approx(best, abs=0.006)


def test_huber_is_quadratic_inside_delta_and_linear_outside():
    r = np.array([-0.7, 0.2, -3.0, 10.0])
    expected = [0.245, 0.02, 0.7 * (3 - 0.35), 0.7 * (10 - 0.35)]
    loss, slopes = value_and_gradient(lambda r: losses.huber(r, 0 * r, delta=0.7), r)
    np.testing.assert_allclose(loss, expected, rtol=1e-15)
    np.testing.assert_allclose(slopes, [-0.7, 0.2, -0.7, 0.7], rtol=1e-15)


def test_huber_is_finite_where_the_square_overflows():
    r = np.array([1e30, -1e30], np.float32)
    loss, slopes = value_and_gradient(lambda r: losses.huber(r, 0 * r), r)
    np.testing.assert_allclose(loss, 1e30, rtol=1e-6)
    np.testing.assert_array_equal(slopes, [1, -1])


def test_derivatives_at_a_residual_of_zero_are_the_middle_of_the_subdifferential():
    functions = [losses.absolute_error, losses.huber, lambda c, y: losses.quantile(c, y, tau=0.9)]
    slopes = jax.jit(lambda c: [jax.grad(f)(c, 2.0) for f in functions])(2.0)
    np.testing.assert_allclose(slopes, [0, 0, -0.4], rtol=1e-14)


ALL = [
    losses.squared_error,
    losses.half_squared_error,
    losses.absolute_error,
    losses.huber,
    lambda p, t: losses.quantile(p, t, tau=0.3),
]


@pytest.mark.parametrize("loss", ALL)
def test_shapes_are_never_broadcast(loss):
    with pytest.raises(ValueError, match=r"equal shapes, got \(4, 1\) and \(4,\)"):
        loss(np.ones((4, 1)), np.ones(4))


@pytest.mark.parametrize("loss", ALL)
def test_loss_depends_on_the_residual_only(loss):
    p, t, loss = np.array([0.5, -1.0, 2.0]), np.array([1.0, -1.25, -4.0]), jax.jit(loss)
    np.testing.assert_array_equal(loss(p + 8.0, t + 8.0), loss(p, t))


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan")])
def test_huber_refuses_a_delta_that_is_not_positive(delta):
    with pytest.raises(ValueError, match=f"delta=...\\) must be > 0, got {delta}"):
        losses.huber(1.0, 1.0, delta=delta)


@pytest.mark.parametrize("tau", [0.0, 1.0, 1.5, float("nan")])
def test_quantile_refuses_a_tau_that_is_no_probability(tau):
    with pytest.raises(ValueError, match=rf"must lie in \(0, 1\), got {tau}"):
        losses.quantile(1.0, 1.0, tau=tau)
