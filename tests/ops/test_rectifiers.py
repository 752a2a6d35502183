"""Rectifiers: limits of the general form, maxout as other units, PyTorch's maxout values."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import ops

FIXTURE = np.load(Path(__file__).parents[1] / "fixtures" / "activations" / "data.npz")
X = np.array([-2.0, -0.5, 0.0, 0.25, 3.0])


@pytest.mark.parametrize(
    ("alpha", "expected"), [(0.0, np.maximum(X, 0)), (-1.0, np.abs(X)), (1.0, X)]
)
def test_rectifier_has_relu_absolute_value_and_identity_as_special_cases(alpha, expected):
    np.testing.assert_array_equal(ops.rectifier(X, alpha), expected)


@pytest.mark.parametrize("alpha", [0.0, 0.01, -1.0, 2.0])
def test_rectifier_has_the_left_derivative_at_zero(alpha):
    assert jax.grad(ops.rectifier)(0.0, alpha) == alpha


def test_prelu_learns_from_negative_inputs_only():
    x = np.array([[-2.0, 3.0], [-1.0, -4.0], [5.0, 0.0]])
    gradient = jax.jit(jax.grad(lambda alpha: ops.prelu(x, alpha).sum()))(np.array([0.25, 0.25]))
    np.testing.assert_array_equal(gradient, np.minimum(x, 0).sum(0))


def test_prelu_alpha_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"last axes of x \(3, 2\), got \(3,\)"):
        ops.prelu(np.ones((3, 2)), np.ones(3))


@pytest.mark.parametrize(("dtype", "rtol", "atol"), [("float64", 1e-9, 0), ("float32", 2e-4, 1e-5)])
def test_maxout_has_the_values_and_gradients_of_pytorch(dtype, rtol, atol):
    (name,) = (n for n in FIXTURE.files if n.startswith("maxout_out"))
    units, pieces = map(int, re.fullmatch(r"maxout_out_units(\d+)_pieces(\d+)", name).groups())
    z = jnp.asarray(FIXTURE["maxout_in"], dtype)

    def total(z):
        h = ops.maxout(z, pieces)
        return h.sum(), h

    gradient, h = jax.jit(jax.grad(total, has_aux=True))(z)
    assert h.shape == (len(z), units)
    np.testing.assert_allclose(h, FIXTURE[name], rtol=rtol, atol=atol)
    np.testing.assert_allclose(gradient, FIXTURE["maxout_grad"], rtol=rtol, atol=atol)


def test_maxout_of_two_pieces_is_the_relu_and_the_absolute_value():
    for other, expected in ((np.zeros_like(X), np.maximum(X, 0)), (-X, np.abs(X))):
        z = np.stack([X, other], -1).ravel()
        np.testing.assert_array_equal(ops.maxout(z, 2), expected)


def test_maxout_of_one_piece_is_the_identity():
    np.testing.assert_array_equal(ops.maxout(X, 1), X)


@pytest.mark.parametrize("pieces", [0, -1, 4])
def test_maxout_refuses_pieces_that_do_not_divide(pieces):
    with pytest.raises(ValueError, match=f"divide the last axis of z \\(3, 10\\), got {pieces}"):
        ops.maxout(np.ones((3, 10)), pieces)
