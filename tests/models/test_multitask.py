"""Shared layers get the gradients of all tasks; a task is the network of its own layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fdl.errors import InputError
from fdl.models import MLPConfig, MultiTaskConfig, MultiTaskMLP
from fdl.pure import pure

X = np.random.default_rng(0).standard_normal((7, 6))


@pytest.fixture(scope="module")
def net():
    found = pure(MultiTaskMLP(MultiTaskConfig.tiny(), rngs=nnx.Rngs(0)))
    return found._replace(params=jax.tree.map(jnp.float64, found.params))


def test_each_output_is_a_network_by_hand(net):
    out, _ = net.apply(net.params, net.extra, X)
    trunk, heads = net.params["trunk"], net.params["heads"]
    h = X
    for layer in (trunk["hidden"][0]["affine"], trunk["output"]):
        h = np.maximum(h @ layer["kernel"] + layer["bias"][None], 0)
    assert set(out) == {"class", "amount"}
    for task, found in out.items():
        head = heads[task]["output"]
        np.testing.assert_allclose(found, h @ head["kernel"] + head["bias"][None], rtol=1e-12)


def test_the_shared_layers_get_the_sum_of_the_tasks_gradients(net):
    def loss(params, tasks):
        out, _ = net.apply(params, net.extra, X)
        return sum((out[task] ** 2).sum() for task in tasks)

    gradient = jax.jit(jax.grad(loss), static_argnames="tasks")
    both = gradient(net.params, ("class", "amount"))
    alone = {task: gradient(net.params, (task,)) for task in ("class", "amount")}
    jax.tree.map(
        lambda s, a, b: np.testing.assert_allclose(s, a + b, rtol=1e-10, atol=1e-12),
        both["trunk"],
        alone["class"]["trunk"],
        alone["amount"]["trunk"],
    )
    assert not jax.tree.reduce(
        jnp.maximum, jax.tree.map(jnp.max, alone["class"]["heads"]["amount"])
    )
    assert np.abs(both["trunk"]["output"]["kernel"]).max() > 0


def test_heads_may_have_layers_and_must_fit():
    config = MultiTaskConfig(MLPConfig(6, (), 4), {"a": MLPConfig(4, (3,), 2)}, unit=jnp.tanh)
    model = MultiTaskMLP(config, rngs=nnx.Rngs(0))
    assert model(jnp.asarray(X, jnp.float32))["a"].shape == (7, 2)
    with pytest.raises(InputError, match="the trunk's 4 units, got 5 for 'a'"):
        MultiTaskConfig(MLPConfig(6, (), 4), {"a": MLPConfig(5, (), 2)})
    with pytest.raises(InputError, match="must hold a task, got none"):
        MultiTaskConfig(MLPConfig(6, (), 4), {})
    with pytest.raises(InputError, match=r"must hold a width, got \(\)"):
        MultiTaskConfig.linear(6, (), {"a": 1})
