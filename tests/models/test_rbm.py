import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from fdl import models, objectives, ops, train
from fdl.errors import InputError
from fdl.pure import pure

X = np.random.default_rng(0).random((4, 2, 3))


def machine(**changes):
    config = models.RBMConfig.tiny(kernel_init=nnx.initializers.normal(1.0), **changes)
    return pure(models.RBM(config, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize("learned", [False, True])
def test_methods_are_the_functions_of_ops_at_the_parameters(learned):
    apply, params, extra = machine(visible="gaussian", variance=0.5, learn_variance=learned)
    kernel, b, c = params["kernel"], params["visible_bias"], params["hidden_bias"]
    weights, v = ops.RBMWeights(kernel, b, c, jnp.full(6, 0.5)), X.reshape(4, 6)
    h = ops.rbm_hidden(v, weights)
    np.testing.assert_allclose(h, jax.nn.sigmoid(v @ kernel / 0.5 + c[None]), rtol=1e-5)
    keys = jax.random.split(jax.random.key(0), 4)
    expected = {
        "__call__": ops.rbm_visible(h, weights),
        "encode": h,
        "free_energy": ops.rbm_free_energy(v, weights),
    }
    for method, value in expected.items():
        np.testing.assert_allclose(apply(params, extra, X, method=method)[0], value, rtol=1e-6)
    found = apply(params, extra, X[1:3], key=keys[1:3], method="gibbs")[0]
    whole = apply(params, extra, X, key=keys, method="gibbs")[0]
    np.testing.assert_allclose(found, whole[1:3], rtol=1e-6)  # each chain follows its own key
    assert ("log_variance" in params) == learned
    if learned:
        slope = jax.grad(lambda p: apply(p, extra, X, method="free_energy")[0].sum())(params)
        assert (slope["log_variance"] != 0).all()


def test_one_key_sends_each_chain_another_way():
    apply, params, extra = machine(visible="gaussian")
    same = jnp.broadcast_to(X[:1], X.shape)
    v, _ = apply(params, extra, same, key=jax.random.key(0), method="gibbs")
    assert len(np.unique(v, axis=0)) == len(X)


def test_the_first_biases_give_independent_units_the_mean_of_the_data():
    mean = np.array([0.0, 0.2, 0.5, 0.7, 0.9, 1.0])
    for visible, kept in (("bernoulli", mean.clip(0.01, 0.99)), ("gaussian", mean)):
        config = models.RBMConfig.tiny(visible=visible, kernel_init=nnx.initializers.zeros)
        model = models.RBM(config, mean=mean, rngs=nnx.Rngs(0))
        np.testing.assert_allclose(model(jnp.ones((1, 6)))[0], kept, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["pmap", "shard_map"])
def test_persistent_chains_go_the_same_way_on_four_devices(runner):
    apply, params, _ = machine()
    extra = {"chains": train.PerExample(jnp.zeros((8, 6), jnp.float32))}

    def objective(params, extra, batch, key):
        go_on = functools.partial(apply, params, {}, method="gibbs", key=key)
        chains = go_on(extra["chains"].value)[0]
        free_energy = lambda v: apply(params, {}, v, method="free_energy")[0]  # noqa: E731
        loss = objectives.contrastive_divergence(free_energy, batch["x"], chains)
        return loss.mean(), ({"chains": train.PerExample(chains)}, {})

    step, x = train.make_step(objective, optax.sgd(0.5)), np.float32(np.tile(X.round(), (2, 1, 1)))
    ends = []
    for how, devices in (("none", None), (runner, 4)):
        lifted = train.lift(step, how, devices=devices)
        state = lifted.put(train.init_state(params, extra, optax.sgd(0.5), seed=0))
        for _ in range(3):
            state, _ = lifted.step(state, {"x": x.reshape(8, 6)})
        ends.append(lifted.get(state))
    np.testing.assert_array_equal(ends[1].extra["chains"].value, ends[0].extra["chains"].value)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
        ends[1].params,
        ends[0].params,
    )
    assert ends[0].extra["chains"].value.std(0).max() > 0  # the chains went different ways


def test_what_is_wrong_is_said_in_one_line():
    for changes, message in (
        ({"hidden": 0}, r"RBMConfig\(hidden=...\) must be >= 1, got 0"),
        (
            {"visible": "real"},
            r"RBMConfig\(visible=...\) must be bernoulli or gaussian, got 'real'",
        ),
        (
            {"visible": "gaussian", "variance": 0.0},
            r"RBMConfig\(variance=...\) must be > 0, got 0.0",
        ),
        ({"learn_variance": True}, r"has no variance to set or to learn"),
    ):
        with pytest.raises(InputError, match=message):
            models.RBMConfig.tiny(**changes)
    with pytest.raises(ValueError, match=r"RBM\(mean=...\) must hold 6 numbers, got 5"):
        models.RBM(models.RBMConfig.tiny(), mean=jnp.zeros(5), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"RBM needs \(batch, ...\) with 6 values.*got \(4, 5\)"):
        models.RBM(models.RBMConfig.tiny(), rngs=nnx.Rngs(0)).encode(jnp.zeros((4, 5)))
