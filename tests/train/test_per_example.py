"""Streams that carry a hidden state from step to step do so on any number of devices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fdl import train
from fdl.errors import InputError
from fdl.train.per_example import all_rows, own_rows
from fdl.train.storage import Storage, read_manifest

pytestmark = pytest.mark.usefixtures("compile_quickly")

STREAMS, TIME, HIDDEN = 8, 3, 4
TX = optax.sgd(0.1, momentum=0.9)
Tree = Any


def batches(steps: int = 4) -> list[Tree]:
    rng = np.random.default_rng(0)
    shape = (steps, STREAMS, TIME, HIDDEN)
    x, y = rng.standard_normal((2, *shape)).astype(np.float32)
    return [{"x": x[i], "y": y[i]} for i in range(steps)]


def objective(params: Tree, extra: Tree, batch: Tree, key: jax.Array) -> tuple[Any, Tree]:
    """An Elman network; a state of numbers, a count of pieces and a flag, one of each a stream."""
    h, pieces, odd = extra["carry"].value
    loss = 0.0
    for t in range(TIME):
        h = jnp.tanh(batch["x"][:, t] + h @ params["w"])
        loss += jnp.square(h - batch["y"][:, t]).sum(-1)
    carry = train.PerExample((h, pieces + 1, ~odd))
    running = 0.9 * extra["mean"] + 0.1 * h.mean()
    return loss.mean(), ({"carry": carry, "mean": running}, {})


def start(streams: int = STREAMS) -> train.State:
    rng = np.random.default_rng(1)
    carry = (jnp.zeros((streams, HIDDEN)), jnp.arange(streams), jnp.arange(streams) % 2 == 0)
    extra = {"carry": train.PerExample(carry), "mean": jnp.zeros(())}
    w = 0.5 * rng.standard_normal((HIDDEN, HIDDEN)).astype(np.float32)
    return train.init_state({"w": jnp.asarray(w)}, extra, TX)


def run(how: str, devices: int, **options: Any) -> Tree:
    runner = train.lift(train.make_step(objective, TX), how, devices=devices, **options)
    state = runner.put(start())
    for batch in batches():
        state, _ = runner.step(state, batch)
    runner.check(state)
    return runner.get(state)


def by_hand() -> tuple[np.ndarray, Tree]:
    """The same four updates, written without a step."""

    def loss(params: Tree, extra: Tree, batch: Tree) -> Any:
        return objective(params, extra, batch, jax.random.key(0))

    state = start()
    params, extra, opt_state = state.params, state.extra, state.opt_state
    for batch in batches():
        grads, (extra, _) = jax.grad(loss, has_aux=True)(params, extra, batch)
        updates, opt_state = TX.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(params["w"]), extra


@pytest.mark.parametrize(
    ("how", "devices", "options"),
    [
        ("none", 1, {}),
        ("pmap", 4, {}),
        ("shard_map", 4, {}),
        ("shard_map", 2, {"check_vma": True}),
        pytest.param("pmap", 2, {}, marks=pytest.mark.slow),
        pytest.param("shard_map", 8, {"check_vma": True}, marks=pytest.mark.slow),
    ],
)
def test_every_stream_goes_on_from_its_own_state(how: str, devices: int, options: Tree) -> None:
    got = run(how, devices, **options)
    w, extra = by_hand()
    np.testing.assert_allclose(got.params["w"], w, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got.extra["mean"], extra["mean"], rtol=1e-4, atol=1e-6)
    h, pieces, odd = got.extra["carry"].value
    np.testing.assert_allclose(h, extra["carry"].value[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(pieces, np.arange(STREAMS) + 4)
    np.testing.assert_array_equal(odd, np.arange(STREAMS) % 2 == 0)
    assert np.ptp(h, axis=0).min() > 0.01  # the streams do differ


def test_a_line_search_sees_the_state_that_the_step_began_with() -> None:
    step = train.make_step(objective, optax.lbfgs())
    begin = start()
    state = begin._replace(opt_state=optax.lbfgs().init(begin.params))
    batch = batches()[0]
    after, metrics = jax.jit(step)(state, batch)
    value, _ = objective(after.params, begin.extra, batch, jax.random.key(0))
    again, _ = objective(state.params, begin.extra, batch, jax.random.key(0))
    assert float(again) == pytest.approx(float(metrics["loss"]), rel=1e-5)
    assert value < again


def test_taking_apart_and_putting_together_is_the_identity() -> None:
    tree = {"h": train.PerExample((jnp.arange(12.0).reshape(6, 2), -jnp.arange(6))), "n": 5.0}

    def there_and_back(_: jax.Array) -> Tree:
        return all_rows(own_rows(tree, "data"), "data")["h"].value

    for copy in jax.tree.leaves(jax.vmap(there_and_back, axis_name="data")(jnp.zeros(3))):
        assert copy.shape[0] == 3
    everywhere = jax.vmap(there_and_back, axis_name="data")(jnp.zeros(3))
    for got, want in zip(everywhere, tree["h"].value, strict=True):
        np.testing.assert_array_equal(got, np.broadcast_to(want, got.shape))


def test_a_checkpoint_gives_the_carried_state_back(tmp_path: Any) -> None:
    state = jax.tree.map(np.asarray, start())
    saved = train.Checkpoints(tmp_path)
    saved.save(3, state, config={}, metrics={})
    saved.close()
    restored = train.Checkpoints(tmp_path).latest(state)
    assert restored is not None
    assert jax.tree.structure(restored.tree) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored.tree, state)
    names = Storage().arrays(tmp_path / "3", read_manifest(tmp_path / "3"))
    assert any("carry" in name for name in names)


def test_what_cannot_be_shared_out_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"accumulate=2\) cannot split a PerExample state"):
        train.make_step(objective, TX, accumulate=2)(start(), batches()[0])
    runner = train.lift(train.make_step(objective, TX), "shard_map", devices=4)
    with pytest.raises(InputError, match="a state of 6 streams is not divisible by 4 devices"):
        runner.step(runner.put(start(6)), batches()[0])
