"""Whole steps with a teacher: who learns and who stays, on one device and on many."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from fdl import losses, models, ops, train
from fdl.pure import pure

pytestmark = pytest.mark.usefixtures("compile_quickly")

RNG = np.random.default_rng(0)
BATCH = {"x": RNG.normal(size=(8, 6)), "y": RNG.integers(0, 3, 8)}
WHO = ("student", "regressor", "teacher")


def networks():
    """A student of four thin layers, a regressor behind the second, a teacher with dropout."""
    rngs = nnx.Rngs(0)
    student = models.MLPConfig(6, (4,) * 4, 3, unit=models.dense(ops.tanh))
    teacher = models.MLPConfig(6, (7,), 3, dropout=0.5, batch_norm=True)
    found = (
        pure(models.MLP(student, rngs=rngs)),
        pure(models.regressor((4,), (7,), rngs=rngs)),
        pure(models.MLP(teacher, rngs=rngs)),
    )
    apply = {name: net.apply for name, net in zip(WHO, found, strict=True)}
    double = lambda tree: jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), tree)  # noqa: E731
    params = {name: double(net.params) for name, net in zip(WHO, found, strict=True)}
    return apply, params, double(found[2].extra)


APPLY, PARAMS, STATISTICS = networks()  # the teacher is among what is trained: nothing may move it


def hints(params, extra, batch, key):
    (_, seen), _ = APPLY["student"](params["student"], {}, batch["x"], capture=("hidden.1",))
    (_, wanted), _ = APPLY["teacher"](params["teacher"], extra, batch["x"], capture=("hidden.0",))
    r, _ = APPLY["regressor"](params["regressor"], {}, seen["hidden.1"])
    return losses.hint(r, wanted["hidden.0"]).mean(), (extra, {})


def soft_targets(params, extra, batch, key):
    s, _ = APPLY["student"](params["student"], {}, batch["x"])
    t, _ = APPLY["teacher"](params["teacher"], extra, batch["x"])
    soft = losses.distillation(s, t, temperature=3.0)
    return (soft + losses.softmax_cross_entropy(s, batch["y"])).mean(), (extra, {})


def trained(objective, params=PARAMS, how="none", devices=1):
    tx = optax.adam(0.01)
    runner = train.lift(train.make_step(objective, tx), how, devices=devices)
    state = runner.put(train.init_state(params, STATISTICS, tx, seed=0))
    for _ in range(3):
        state, _ = runner.step(state, BATCH)
    return runner.get(state)


def same(a, b):
    """For each leaf, whether it is bitwise the same."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return [np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs]


def test_hints_move_the_layers_up_to_the_guided_one_and_the_regressor_alone():
    state = trained(hints)
    after, before = state.params, PARAMS
    after_layers, before_layers = (net["student"]["hidden"] for net in (after, before))
    stayed = [same(after_layers[i], before_layers[i]) for i in range(4)]  # biases, kernels
    assert stayed == [[False] * 2] * 2 + [[True] * 2] * 2
    assert all(same(after["student"]["output"], before["student"]["output"]))
    assert not any(same(after["regressor"], before["regressor"]))
    assert all(same((after["teacher"], state.extra), (before["teacher"], STATISTICS)))


def test_soft_targets_move_the_whole_student_and_never_the_teacher():
    state = trained(soft_targets)
    assert not any(same(state.params["student"], PARAMS["student"]))
    assert all(same(state.params["regressor"], PARAMS["regressor"]))
    assert all(same((state.params["teacher"], state.extra), (PARAMS["teacher"], STATISTICS)))


@pytest.mark.parametrize("objective", [hints, pytest.param(soft_targets, marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", ["pmap", pytest.param("shard_map", marks=pytest.mark.slow)])
def test_four_devices_learn_what_one_does(objective, how):
    one, four = trained(objective), trained(objective, how=how, devices=4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12),
        one.params,
        four.params,
    )
