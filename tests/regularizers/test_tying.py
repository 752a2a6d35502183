"""Tying: soft, by a penalty, and hard, by one leaf that serves twice (DLB 7.9)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from fdl import regularizers, train
from fdl.pure import pure

RNG = np.random.default_rng(0)
A, B = ({"w": RNG.standard_normal((3, 2)), "b": RNG.standard_normal(2)} for _ in range(2))


def test_soft_tying_is_the_squared_distance_and_pulls_both_ways():
    value, (of_a, of_b) = jax.value_and_grad(regularizers.soft_tying, (0, 1))(A, B, 0.3)
    apart = {name: A[name] - B[name] for name in A}
    assert float(value) == pytest.approx(0.3 * sum((d**2).sum() for d in apart.values()), rel=1e-12)
    for name, d in apart.items():
        np.testing.assert_allclose(of_a[name], 0.6 * d, rtol=1e-12)
        np.testing.assert_allclose(of_b[name], -0.6 * d, rtol=1e-12)


def test_strong_soft_tying_is_hard_tying():
    """Two least squares problems come to the one solution of both together."""
    x, y, strength = RNG.standard_normal((2, 9, 3)), RNG.standard_normal((2, 9)), 1e6

    def objective(a, b):
        fit = sum(((u @ w - v) ** 2).sum() for u, v, w in zip(x, y, (a, b), strict=True))
        return fit + regularizers.soft_tying(a, b, strength)

    pull = strength * np.kron(np.array([[1, -1], [-1, 1]]), np.eye(3))
    zero = np.zeros((3, 3))
    squares = np.block([[x[0].T @ x[0], zero], [zero, x[1].T @ x[1]]])
    a, b = np.linalg.solve(squares + pull, np.einsum("tni,tn->ti", x, y).ravel()).reshape(2, 3)
    slope = jax.jit(jax.grad(objective, (0, 1)))(a, b)
    np.testing.assert_allclose(slope, 0, atol=1e-7)
    together = np.linalg.lstsq(x.reshape(18, 3), y.reshape(18))[0]
    np.testing.assert_allclose([a, b], [together, together], atol=1e-5)


class Autoencoder(nnx.Module):
    """r = W tanh(W'x): encoder and decoder hold one variable."""

    def __init__(self, kernel):
        self.encoder = nnx.Param(kernel)
        self.decoder = self.encoder

    def __call__(self, x):
        return jnp.tanh(x @ self.encoder[...]) @ self.decoder[...].T


KERNEL, X = RNG.standard_normal((4, 2)), RNG.standard_normal((5, 4))


def test_a_variable_that_serves_twice_is_one_leaf_with_the_sum_of_both_gradients():
    apply, params, extra = pure(Autoencoder(KERNEL))
    assert len(jax.tree.leaves(params)) == 1

    def tied(params):
        return ((apply(params, extra, X)[0] - X) ** 2).sum()

    def untied(encoder, decoder):
        return ((jnp.tanh(X @ encoder) @ decoder.T - X) ** 2).sum()

    (found,) = jax.tree.leaves(jax.grad(tied)(params))
    np.testing.assert_allclose(found, sum(jax.grad(untied, (0, 1))(KERNEL, KERNEL)), rtol=1e-12)


def test_a_tied_variable_stays_one_through_training_and_a_checkpoint(tmp_path):
    apply, params, extra = pure(Autoencoder(KERNEL))

    def objective(params, extra, batch, key):
        del key
        return ((apply(params, extra, batch["x"])[0] - batch["x"]) ** 2).mean(), (extra, {})

    tx = optax.sgd(0.1)
    state, _ = jax.jit(train.make_step(objective, tx))(
        train.init_state(params, extra, tx), {"x": X}
    )
    checkpoints = train.Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, jax.device_get(state), config={})
    checkpoints.wait()
    saved = checkpoints.latest(jax.device_get(train.init_state(params, extra, tx)))
    checkpoints.close()
    (kernel,) = jax.tree.leaves(saved.tree.params)
    assert not np.allclose(kernel, KERNEL)
    expected = jnp.tanh(X @ kernel) @ kernel.T
    np.testing.assert_allclose(apply(saved.tree.params, extra, X)[0], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: regularizers.soft_tying(A, B, -1.0), r"soft_tying\(strength=...\).*got -1.0"),
        (lambda: regularizers.soft_tying(A, {"w": A["w"]}, 1.0), "must be of one form"),
        (lambda: regularizers.soft_tying(A, {**A, "b": np.ones(1)}, 1.0), "must be of one form"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
