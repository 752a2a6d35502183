import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import ops


def test_gradients_of_a_tanh_network_at_rest_are_powers_of_its_radius():
    u = jax.random.orthogonal(jax.random.key(0), 6)
    for radius in (0.5, 1.0, 1.5):
        weights = ops.CellWeights(jnp.ones((2, 6)), radius * u)
        n = ops.carry_gradients(ops.elman_step, weights, jnp.zeros((1, 6)), jnp.zeros((20, 2)))
        np.testing.assert_allclose(n, radius ** np.arange(21.0), rtol=1e-9)


def test_gradients_are_those_of_the_whole_run():
    h, d, t = 3, 2, 2
    keys = jax.random.split(jax.random.key(1), 4)
    weights = ops.CellWeights(
        jax.random.normal(keys[0], (d, 4 * h)), jax.random.normal(keys[1], (h, 4 * h))
    )
    x, start = jax.random.normal(keys[2], (t, d)), jax.random.normal(keys[3], (2, 1, h))
    n = ops.carry_gradients(ops.lstm_step, weights, ops.LSTMCarry(*start), x)
    carry = ops.LSTMCarry(*start)
    for done in range(t):  # the same by one derivative of all the steps that remain
        rest = x[None, done:]

        def end(flat, rest=rest):
            halves = ops.LSTMCarry(flat[None, :h], flat[None, h:])
            final = ops.recur(ops.lstm_step, weights, rest, halves)[1]
            return jnp.concatenate([final.h[0], final.c[0]])

        jacobian = np.asarray(jax.jacrev(end)(jnp.concatenate([carry.h[0], carry.c[0]])))
        assert n[t - done] == pytest.approx(np.linalg.svd(jacobian)[1].max(), rel=1e-9)
        carry = ops.lstm_step(weights, carry, x[done : done + 1])[0]
    assert n[0] == 1


def test_an_open_lstm_keeps_its_gradient_and_a_half_open_one_halves_it():
    for forget, kept in ((50.0, 1.0), (0.0, 0.5)):
        bias = jnp.repeat(jnp.array([-50.0, forget, 0.0, -50.0]), 2)
        weights = ops.CellWeights(jnp.zeros((1, 8)), jnp.zeros((2, 8)), bias)
        start = ops.LSTMCarry(jnp.zeros((1, 2)), jnp.ones((1, 2)))
        n = ops.carry_gradients(ops.lstm_step, weights, start, jnp.zeros((9, 1)))
        np.testing.assert_allclose(n, kept ** np.arange(10.0), rtol=1e-9)


def test_other_shapes_are_refused():
    weights = ops.CellWeights(jnp.ones((1, 2)), jnp.eye(2))
    with pytest.raises(ValueError, match=r"carry_gradients\(x\).*got \(3,\)"):
        ops.carry_gradients(ops.elman_step, weights, jnp.zeros((1, 2)), jnp.zeros(3))
    with pytest.raises(ValueError, match=r"one sequence, got \[\(4, 2\)\]"):
        ops.carry_gradients(ops.elman_step, weights, jnp.zeros((4, 2)), jnp.zeros((3, 1)))
