"""The Poisson loss: PyTorch's values and what it predicts."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import losses

FIXTURE = np.load(Path(__file__).parents[1] / "fixtures" / "losses" / "data.npz")
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_poisson_has_the_values_and_gradients_of_pytorch(dtype):
    parts = {n: FIXTURE[f"poisson_lograte:{n}"] for n in ("in:z", "in:y_", "loss", "grad:z")}
    loss, pullback = jax.vjp(
        lambda z: losses.poisson(z, parts["in:y_"]), jnp.asarray(parts["in:z"], dtype)
    )
    (gradient,) = pullback(jnp.ones_like(loss))
    assert loss.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(loss, parts["loss"], **TOLERANCE[dtype])
    np.testing.assert_allclose(gradient, parts["grad:z"], **TOLERANCE[dtype])


def test_the_best_constant_rate_is_the_mean():
    counts = np.array([0, 3, 1, 8, 2])
    grid = np.linspace(-2, 3, 5001)
    loss = [losses.poisson(np.full(5, z), counts).mean() for z in grid[::100]]
    coarse = grid[::100][int(np.argmin(loss))]
    assert abs(coarse - np.log(counts.mean())) <= 0.1
    slope = jax.grad(lambda z: losses.poisson(jnp.full(5, z), counts).mean())
    assert float(slope(np.log(counts.mean()))) == pytest.approx(0, abs=1e-12)


def test_extreme_rates_give_no_nan():
    z = jnp.array([-1e4, 0, 1e4], jnp.float32)
    loss, gradient = jax.vmap(jax.value_and_grad(losses.poisson))(z, jnp.array([2.0, 2, 2]))
    np.testing.assert_array_equal(loss, [2e4, 1, np.inf])
    np.testing.assert_array_equal(gradient, [-2, -1, np.inf])


def test_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"poisson\(log_rate, count\) must have equal shapes"):
        losses.poisson(np.zeros(3), np.zeros((3, 1)))
