"""Members that are trained together are those trained alone, on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.random import default_rng

from fdl import averaging, data, train
from fdl.errors import InputError

pytestmark = pytest.mark.usefixtures("compile_quickly")

K, N, B, STEPS = 4, 24, 6, 5
SETS = data.bootstrap_indices(N, K, seed=0)
# the norm of a gradient is that of a member, not of all
TX = optax.chain(optax.clip_by_global_norm(0.1), optax.adam(0.05))


def arrays():
    x = default_rng(0).normal(size=(N, 3))
    return {"x": x, "y": x[:, 0] - 2 * x[:, 1]}


def objective(params, extra, batch, key):
    noise = jax.vmap(lambda k: jax.random.normal(k, (3,)))(key)  # a draw for each example
    error = jnp.tanh(batch["x"] + 0.1 * noise) @ params["w"] - batch["y"]
    return jnp.square(error).mean(), (extra, {"size": train.mean(abs(error)), "four": 4.0})


def initial(member):
    w = default_rng(member).normal(size=3)
    return train.init_state({"w": jnp.asarray(w)}, {}, TX, seed=member)


STEP = train.make_step(objective, TX, axis=None)


def trained_alone(member):
    state, step, losses = initial(member), jax.jit(STEP), []
    for i in range(STEPS):
        batch = data.members_batch(arrays(), SETS, B, seed=1, step=i)
        state, metrics = step(state, {name: a[member] for name, a in batch.items()})
        losses.append(float(metrics["loss"]))
    return jax.device_get(state), losses


def trained_together(how, devices):
    runner = train.lift(train.members_step(STEP), how, devices=devices)
    state = runner.put(averaging.stack_members([initial(m) for m in range(K)]))
    found = []
    for i in range(STEPS):
        batch = data.members_batch(arrays(), SETS, B, seed=1, step=i)
        state, metrics = runner.step(state, batch)
        found.append(runner.get(metrics))
    runner.check(state)
    return runner.get(state), found


@pytest.mark.devices
@pytest.mark.parametrize(
    ("how", "devices"),
    [
        ("none", 1),
        ("pmap", 4),
        ("shard_map", 2),
        pytest.param("shard_map", 4, marks=pytest.mark.slow),
        pytest.param("pmap", 2, marks=pytest.mark.slow),
    ],
)
def test_members_trained_together_are_those_trained_alone(how, devices):
    state, metrics = trained_together(how, devices)
    alone = [trained_alone(m) for m in range(K)]
    for m, (expected, _) in enumerate(alone):
        jax.tree.map(
            lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-10),
            averaging.member(state, m),
            expected,
        )
    losses = np.mean([losses for _, losses in alone], axis=0)
    np.testing.assert_allclose([m["loss"] for m in metrics], losses, rtol=1e-10)
    assert float(metrics[0]["size"].count) == K * B and float(metrics[0]["four"]) == 4
    assert len(np.unique(state.params["w"])) == 3 * K  # they differ


def test_a_batch_of_other_members_is_refused():
    state = averaging.stack_members([initial(m) for m in range(3)])
    batch = data.members_batch(arrays(), SETS, B, seed=1, step=0)
    with pytest.raises(InputError, match="a state of 3 members needs a batch of as many, got 4"):
        train.members_step(STEP)(state, batch)
