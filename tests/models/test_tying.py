"""Hard tying: one variable in two places is one parameter, in the gradient and on disk."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from fdl import train
from fdl.pure import pure
from fdl.train.checkpoint import Checkpoints

X = np.random.default_rng(0).standard_normal((9, 5))


class Linear(nnx.Module):
    """x W, or x W' with `transpose`; may share its W with another."""

    def __init__(self, kernel, *, transpose=False):
        self.kernel = kernel
        self.transpose = transpose

    def __call__(self, x):
        return x @ (self.kernel[...].T if self.transpose else self.kernel[...])


class Autoencoder(nnx.Module):
    """W' tanh(W x): decoded by the encoder's weights transposed, or by their copy."""

    def __init__(self, *, tied):
        kernel = jax.random.normal(jax.random.key(3), (5, 3)) / 2
        self.encoder = Linear(nnx.Param(kernel))
        self.decoder = Linear(self.encoder.kernel if tied else nnx.Param(kernel), transpose=True)

    def __call__(self, x):
        return self.decoder(jnp.tanh(self.encoder(x)))


def loss_of(net):
    return lambda params: ((net.apply(params, net.extra, X)[0] - X) ** 2).mean()


@pytest.fixture(scope="module")
def nets():
    return {tied: pure(Autoencoder(tied=tied)) for tied in (True, False)}


def test_a_shared_variable_is_one_leaf(nets):
    assert len(jax.tree.leaves(nets[True].params)) == 1
    assert len(jax.tree.leaves(nets[False].params)) == 2


def test_the_tied_gradient_is_the_sum_of_the_untied_ones(nets):
    (tied,) = jax.tree.leaves(jax.jit(jax.grad(loss_of(nets[True])))(nets[True].params))
    one, other = jax.tree.leaves(jax.jit(jax.grad(loss_of(nets[False])))(nets[False].params))
    np.testing.assert_allclose(tied, one + other, rtol=1e-9)
    assert np.abs(one - other).max() > 1e-3


def test_training_saving_and_loading_keep_the_tie(nets, tmp_path):
    net, tx = nets[True], optax.adam(0.1)
    state = train.init_state(net.params, net.extra, tx)
    grads = jax.grad(loss_of(net))(state.params)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    state = jax.device_get(state._replace(params=params, opt_state=opt_state))
    folder = Checkpoints(tmp_path / "run")
    folder.save(1, state, config={}, metrics={})
    folder.wait()
    saved = folder.latest(state).tree
    folder.close()
    (kernel,) = jax.tree.leaves(saved.params)
    np.testing.assert_array_equal(kernel, jax.tree.leaves(params)[0])
    out, _ = net.apply(saved.params, saved.extra, X)
    np.testing.assert_allclose(out, np.tanh(X @ kernel) @ kernel.T, rtol=1e-6)
