"""Runners: there and back, nothing of the caller's harmed, nothing unequal unnoticed."""

import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl.errors import InputError
from fdl.train import parallel

Tree = Any

LIFTED = [
    ("none", 1, {}),
    ("pmap", 1, {}),
    ("pmap", 4, {}),
    ("shard_map", 1, {}),
    ("shard_map", 4, {}),
    ("shard_map", 4, {"check_vma": True}),
]


def add_mean(state: Tree, batch: Tree) -> tuple[Tree, Tree]:
    """Add the mean of the batch to `w`; a step of which the result is known."""
    mean = parallel.mean_over_devices(batch["x"].mean(0))
    return state | {"w": state["w"] + mean}, {"mean": mean.sum()}


def some_state() -> Tree:
    return {
        "w": np.arange(3.0),
        "half": jnp.full((2, 2), 0.5, jnp.bfloat16),
        "n": np.int32(7),
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(4), 2),
    }


def plain(tree: Tree) -> Tree:
    """Turn typed keys into numbers, which NumPy can compare."""
    return jax.tree.map(
        lambda a: jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a,
        tree,
    )


@pytest.mark.devices
@pytest.mark.parametrize(("how", "n", "options"), LIFTED)
def test_what_is_put_comes_back_and_the_callers_arrays_live_on(
    how: Any, n: int, options: dict
) -> None:
    state = some_state()
    before = jax.tree.map(np.array, plain(state))
    runner = parallel.lift(add_mean, how, devices=n, **options)
    assert runner.devices == n
    placed = runner.put(state)
    back = runner.get(placed)
    assert all(isinstance(a, np.ndarray | jax.Array) for a in jax.tree.leaves(back))
    jax.tree.map(np.testing.assert_array_equal, plain(back), before)
    assert [a.dtype for a in jax.tree.leaves(back)] == [a.dtype for a in jax.tree.leaves(state)]
    x = np.arange(24.0).reshape(8, 3)
    held = None
    for i in range(3):
        placed, metrics = runner.step(placed, {"x": x})
        if i == 0:
            held = runner.get(placed)
            kept = jax.tree.map(np.array, plain(held))
    runner.check(placed)
    np.testing.assert_allclose(runner.get(placed)["w"], before["w"] + 3 * x.mean(0), rtol=1e-14)
    assert runner.get(metrics)["mean"] == pytest.approx(x.mean(0).sum())
    # neither what was given nor what was got shares memory with what was donated since
    jax.tree.map(np.testing.assert_array_equal, plain(state), before)
    jax.tree.map(np.testing.assert_array_equal, plain(held), kept)


@pytest.mark.devices
@pytest.mark.parametrize(("how", "n", "options"), LIFTED)
def test_host_and_devices_share_no_memory(how: Any, n: int, options: dict) -> None:
    room = np.empty(1024 + 64, np.uint8)
    start = -room.ctypes.data % 64  # an address that XLA on a CPU would gladly use as it is
    mine = room[start : start + 1024].view(np.float64)
    mine[:] = 1
    runner = parallel.lift(add_mean, how, devices=n, **options)
    state = runner.put({"w": mine})
    mine[:] = 2
    back = runner.get(state)["w"]
    assert (back == 1).all()
    back[:] = 3
    assert (runner.get(state)["w"] == 1).all()


@pytest.mark.devices
@pytest.mark.parametrize(("how", "n", "options"), LIFTED)
def test_the_state_given_is_donated_unless_told_otherwise(how: Any, n: int, options: dict) -> None:
    batch = {"x": np.ones((8, 3))}
    for donate in (True, False):
        runner = parallel.lift(add_mean, how, devices=n, donate=donate, **options)
        state = runner.put({"w": np.zeros(3)})
        runner.step(state, batch)
        assert state["w"].is_deleted() is donate


@pytest.mark.devices
@pytest.mark.parametrize(("how", "n", "options"), LIFTED)
def test_a_step_is_compiled_once(
    how: Any, n: int, options: dict, caplog: pytest.LogCaptureFixture
) -> None:
    runner = parallel.lift(add_mean, how, devices=n, **options)
    # weakly typed and 64-bit host numbers, as people write them, must not cost a second time
    state = runner.put({"w": jnp.zeros(3), "rate": jnp.asarray(0.5), "n": 3})
    with jax.log_compiles():
        for _ in range(4):
            state, _ = runner.step(state, {"x": np.ones((8, 3))})
    assert len([r for r in caplog.messages if r.startswith("Finished XLA compilation")]) == 1


@pytest.mark.devices
@pytest.mark.parametrize(("how", "options"), [("pmap", {}), ("shard_map", {})])
def test_check_names_the_leaf_whose_replicas_differ(how: Any, options: dict) -> None:
    def forgetful(state: Tree, batch: Tree) -> tuple[Tree, Tree]:
        w = {"kernel": state["w"]["kernel"] + batch["x"].sum(), "bias": state["w"]["bias"] + 1}
        return {"w": w}, {"mean": batch["x"].mean()}

    runner = parallel.lift(forgetful, how, devices=4)
    state = runner.put({"w": {"kernel": np.full(3, np.nan), "bias": np.zeros(2)}})
    runner.check(state)  # NaN, bit for bit the same, is no difference
    state = runner.put({"w": {"kernel": np.zeros(3), "bias": np.zeros(2)}})
    state, _ = runner.step(state, {"x": np.arange(8.0)})
    with pytest.raises(RuntimeError, match=r"replicas of w\.kernel differ between .*0.* and .*1"):
        runner.check(state)


@pytest.mark.devices
def test_checked_shard_map_refuses_a_step_that_forgets_to_average() -> None:
    def forgetful(state: Tree, batch: Tree) -> tuple[Tree, Tree]:
        return state + batch["x"].sum(), {}

    runner = parallel.lift(forgetful, "shard_map", devices=4, check_vma=True)
    with pytest.raises(ValueError, match="out_specs"):
        runner.step(runner.put(np.zeros(())), {"x": np.arange(8.0)})


@pytest.mark.devices
@pytest.mark.parametrize("how", ["none", "pmap", "shard_map"])
def test_devices_can_be_named(how: Any) -> None:
    chosen = jax.devices()[5:7]
    runner = parallel.lift(add_mean, how, devices=chosen)
    state, _ = runner.step(runner.put({"w": np.zeros(3)}), {"x": np.ones((8, 3))})
    expected = chosen[:1] if how == "none" else chosen
    assert [s.device for s in state["w"].addressable_shards] == expected


@pytest.mark.devices
@pytest.mark.parametrize("how", ["pmap", "shard_map"])
def test_batch_that_cannot_be_shared_out_is_refused(how: Any) -> None:
    runner = parallel.lift(add_mean, how, devices=4)
    with pytest.raises(InputError, match="^batch size 6 is not divisible by 4 devices$"):
        runner.step(runner.put({"w": np.zeros(3)}), {"x": np.ones((6, 3))})


def test_lift_refuses_what_it_cannot_do() -> None:
    with pytest.raises(InputError, match="must be none, pmap or shard_map, got 'jit'"):
        parallel.lift(add_mean, "jit")  # type: ignore[arg-type]
    for n in (0, -1, 9):
        with pytest.raises(InputError, match=f"must be from 1 to 8 here, got {n}"):
            parallel.lift(add_mean, "pmap", devices=n)
    with pytest.raises(ValueError, match=r"lift\(ahead=...\) must be >= 1, got 0"):
        parallel.lift(add_mean, ahead=0)


@pytest.mark.parametrize("ahead", [1, 2, 3, 8])
def test_at_most_so_many_steps_are_in_flight(ahead: int) -> None:
    in_flight: list[object] = []
    most = []

    class Result:
        def block_until_ready(self) -> None:
            if self in in_flight:  # devices work in order: what was started before is over too
                del in_flight[: in_flight.index(self) + 1]

    def step(state: int, batch: None) -> tuple[int, dict]:
        result = Result()
        in_flight.append(result)
        most.append(len(in_flight))
        return state + 1, {"loss": result}

    bounded = parallel._bounded(step, ahead)
    state = 0
    for _ in range(40):
        state, _ = bounded(state, None)
    assert state == 40 and max(most) <= ahead
    assert min(most[ahead:]) >= (ahead + 1) // 2  # the device never waits for the host


@pytest.mark.devices
def test_a_step_without_metrics_is_bounded_too() -> None:
    runner = parallel.lift(lambda state, batch: (state + 1, {}), "none", ahead=2)
    state = runner.put(np.zeros(()))
    for _ in range(5):
        state, _ = runner.step(state, {"x": np.ones(2)})
    assert runner.get(state) == 5


UNSYNCED = """
import jax.numpy as jnp, numpy as np
from fdl.train.parallel import lift, mean_over_devices

def step(state, batch):
    h = batch["x"]
    for _ in range(4):  # slower than the host that starts it, with several collectives
        h = mean_over_devices(jnp.tanh(h @ state["w"]))
    return state | {"n": state["n"] + 1}, {"h": h.sum()}

runner = lift(step, HOW, devices=4)
state = runner.put({"n": np.int32(0), "w": np.full((128, 128), 1 / 128, np.float32)})
batch = {"x": np.ones((256, 128), np.float32)}
for _ in range(2000):
    state, _ = runner.step(state, batch)
assert runner.get(state)["n"] == 2000
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pmap", "shard_map"])
def test_two_thousand_steps_that_nobody_waits_for_end(how: str) -> None:
    """With XLA's own number of threads, where JAX 0.10 aborts if nothing bounds the run-ahead."""
    env = {k: v for k, v in os.environ.items() if k != "NPROC"}
    env["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
    code = UNSYNCED.replace("HOW", repr(how))
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, timeout=500, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
