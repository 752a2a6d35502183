"""Hidden units against PyTorch's values and derivatives, and against identities."""

import functools
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import ops

FIXTURE = np.load(Path(__file__).parents[1] / "fixtures" / "activations" / "data.npz")
NAMES = sorted(name.removeprefix("y:") for name in FIXTURE.files if name.startswith("y:"))
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}

# PyTorch's name, without the parameter in it -> ours
FUNCTIONS = {
    "relu": ops.relu,
    "relu6": ops.relu6,
    "abs": ops.absolute,
    "leaky_relu": ops.leaky_relu,
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
    "hardtanh": ops.hard_tanh,
    "softplus": ops.softplus,
    "log_sigmoid": ops.log_sigmoid,
    "elu": ops.elu,
    "celu": ops.celu,
    "selu": ops.selu,
    "gelu_exact": ops.gelu,
    "gelu_tanh": lambda x: ops.gelu(x, approximate=True),
    "silu": ops.silu,
    "mish": ops.mish,
    "softsign": ops.soft_sign,
    "hardsigmoid": ops.hard_sigmoid,
    "hardswish": ops.hard_swish,
    "softshrink": ops.soft_shrink,
    "tanhshrink": ops.tanh_shrink,
    "squareplus": ops.squareplus,
    "prelu": lambda x: ops.prelu(x, jnp.asarray(FIXTURE["prelu_alpha"], x.dtype)),
}


def function_named(name):
    """`leaky_relu_001` is leaky_relu with 0.01: the point behind a leading zero is left out."""
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    stem, digits = name.rsplit("_", 1)
    number = float(f"0.{digits[1:]}" if re.fullmatch(r"0\d+", digits) else digits)
    return lambda x: FUNCTIONS[stem](x, number)


def value_and_slope(function, x):
    y, pullback = jax.vjp(function, x)
    return y, pullback(jnp.ones_like(y))[0]


@functools.cache
def evaluated(dtype):
    """Values and derivatives of all units; one compilation for all of them is much faster."""
    x = jnp.asarray(FIXTURE["x"], dtype)
    return jax.jit(lambda x: {n: value_and_slope(function_named(n), x) for n in NAMES})(x)


# PyTorch's backward pass multiplies by float32(1/6), also in float64
SLOPE_IN_SINGLE_PRECISION = {"hardsigmoid"}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", NAMES)
def test_unit_has_the_values_and_derivatives_of_pytorch(name, dtype):
    y, slope = evaluated(dtype)[name]
    assert y.dtype == slope.dtype == dtype
    np.testing.assert_allclose(y, FIXTURE[f"y:{name}"], **TOLERANCE[dtype])
    tolerance = {"rtol": 1e-7} if name in SLOPE_IN_SINGLE_PRECISION else TOLERANCE[dtype]
    np.testing.assert_allclose(slope, FIXTURE[f"dy:{name}"], **tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_rbf_has_the_values_and_gradients_of_pytorch(dtype):
    args = [jnp.asarray(FIXTURE[f"rbf_{name}"], dtype) for name in ("x", "c", "sigma")]

    @jax.jit
    def run(*args):
        y, pullback = jax.vjp(ops.rbf, *args)
        return y, *pullback(jnp.ones_like(y))

    for name, ours in zip(("y", "dx", "dc", "dsigma"), run(*args), strict=True):
        np.testing.assert_allclose(ours, FIXTURE[f"rbf_{name}"], **TOLERANCE[dtype])


KINKS = [  # the one-sided derivatives that PyTorch's backward formulas pick
    (ops.relu, 0.0, 0.0),
    (ops.absolute, 0.0, 0.0),
    (ops.leaky_relu, 0.0, 0.01),
    (ops.hard_tanh, -1.0, 0.0),
    (ops.hard_tanh, 1.0, 0.0),
    (ops.hard_sigmoid, -3.0, 0.0),
    (ops.hard_sigmoid, 3.0, 0.0),
    (ops.hard_silu, -3.0, 0.0),
    (ops.hard_silu, 3.0, 1.0),
    (ops.soft_shrink, -0.5, 0.0),
    (ops.soft_shrink, 0.5, 0.0),
    (ops.elu, 0.0, 1.0),
    (ops.selu, 0.0, 1.6732632423543772 * 1.0507009873554805),
]


def test_derivative_at_a_kink_is_the_documented_side():
    slopes = jax.jit(lambda xs: [jax.grad(f)(x) for (f, _, _), x in zip(KINKS, xs, strict=True)])
    np.testing.assert_allclose(
        slopes([kink for _, kink, _ in KINKS]), [slope for _, _, slope in KINKS], rtol=1e-12
    )


X = np.linspace(-40.0, 40.0, 161)


def test_softplus_has_the_sigmoid_as_derivative_and_the_identity_as_odd_part():
    y, slope = jax.jit(lambda x: value_and_slope(ops.softplus, x))(X)
    np.testing.assert_allclose(slope, 1 / (1 + np.exp(-X)), rtol=1e-12)
    np.testing.assert_allclose(y - y[::-1], X, atol=1e-13)


def test_tanh_is_a_stretched_sigmoid():
    stretched = 2 * np.asarray(ops.sigmoid(2 * X)) - 1
    np.testing.assert_allclose(ops.tanh(X), stretched, atol=1e-15)


def test_hard_tanh_clips():
    np.testing.assert_array_equal(ops.hard_tanh(X), np.clip(X, -1, 1))


def test_soft_shrink_minimises_its_proximal_objective():
    x, grid = np.array([-1.7, -0.2, 0.4, 2.5]), np.linspace(-3.0, 3.0, 60001)
    objective = 0.5 * (grid[:, None] - x) ** 2 + 0.6 * np.abs(grid)[:, None]
    np.testing.assert_allclose(ops.soft_shrink(x, 0.6), grid[objective.argmin(0)], atol=1e-4)


def test_soft_shrink_keeps_nan_and_refuses_a_negative_threshold():
    assert jnp.isnan(ops.soft_shrink(np.array(np.nan)))
    with pytest.raises(ValueError, match="threshold=...\\) must be >= 0, got -1"):
        ops.soft_shrink(X, -1)


def test_gelu_is_x_times_the_normal_distribution_function():
    cumulative = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in X])
    np.testing.assert_allclose(ops.gelu(X), X * cumulative, rtol=1e-10, atol=1e-300)


def test_rbf_ignores_translation_and_is_one_at_its_centre():
    x, centres, sigma = np.array([[0.3, -1.0]]), np.array([[0.3, -1.0], [2.0, 0.5]]), np.ones(2)
    shift, rbf = np.array([[1e3, -2e3]]), jax.jit(ops.rbf)
    here, there = rbf(x, centres, sigma), rbf(x + shift, centres + shift, sigma)
    assert here[0, 0] == 1
    np.testing.assert_allclose(here, there, rtol=1e-10)


def test_rbf_refuses_centres_of_another_width():
    with pytest.raises(ValueError, match=r"got \(4, 3\), \(5, 2\), \(5,\)"):
        ops.rbf(np.ones((4, 3)), np.ones((5, 2)), np.ones(5))


def test_units_keep_bfloat16_and_are_right_to_its_precision():
    x = FIXTURE["x"].astype(jnp.bfloat16)
    for name, y in jax.jit(lambda x: {n: function_named(n)(x) for n in NAMES})(x).items():
        assert y.dtype == jnp.bfloat16
        # x itself is rounded to 8 bits, and x - tanh(x) cancels
        np.testing.assert_allclose(y.astype(float), FIXTURE[f"y:{name}"], rtol=0.03, atol=0.03)
