"""Every derivative of a loss spread over devices is that of one device with the whole batch."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from fdl.errors import InputError
from fdl.train import parallel

B, IN, HIDDEN, OUT = 16, 5, 4, 3
RUNNERS = ["vmap", "pmap", "shard_map", "shard_map checked"]
GRID = [(runner, n) for runner in RUNNERS for n in (1, 2, 4, 8)]


def quick(*pairs: tuple[str, int]) -> list:
    """Mark all other combinations of the grid as slow."""
    return [pytest.param(*p, marks=[] if p in pairs else pytest.mark.slow) for p in GRID]


Tree = Any


@pytest.fixture(autouse=True, scope="module")
def compile_quickly() -> Iterator[None]:
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def problem() -> tuple[Tree, Tree, Tree]:
    """Return parameters, a direction and a batch: float64, labels that are distributions."""
    rng = np.random.default_rng(0)
    shapes = {"b1": (HIDDEN,), "b2": (OUT,), "w1": (IN, HIDDEN), "w2": (HIDDEN, OUT)}
    params, v = ({k: rng.standard_normal(s) for k, s in shapes.items()} for _ in range(2))
    batch = {"x": rng.standard_normal((B, IN)), "y": rng.dirichlet(np.ones(OUT), B)}
    return params, v, batch


def model(p: Tree, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ p["w1"] + p["b1"][None]) @ p["w2"] + p["b2"][None]


def loss_of(p: Tree, batch: Tree) -> jax.Array:
    return -(batch["y"] * jax.nn.log_softmax(model(p, batch["x"]))).sum(-1).mean()


def vdot(a: Tree, b: Tree) -> jax.Array:
    return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def loss_curvature(logits: jax.Array, u: jax.Array) -> jax.Array:
    """Multiply u by the Hessian of the mean cross-entropy with respect to the logits."""
    p = jax.nn.softmax(logits)
    return (p * u - p * (p * u).sum(-1, keepdims=True)) / len(logits)


def derivatives(p: Tree, v: Tree, batch: Tree) -> Tree:
    """What one device of many computes, written as the documentation tells its users to."""

    def loss(p: Tree) -> jax.Array:
        return parallel.mean_over_devices(loss_of(parallel.shared(p), batch))

    def local_model(p: Tree) -> jax.Array:
        return model(parallel.shared(p), batch["x"])

    value, grad = jax.value_and_grad(loss)(p)
    logits, jv = jax.jvp(local_model, (p,), (v,))
    hjv = jax.lax.stop_gradient(loss_curvature(logits, jv))
    return {
        "value": value,
        "gradient": grad,
        "jvp": jax.jvp(loss, (p,), (v,))[1],
        "hvp forward over reverse": jax.jvp(jax.grad(loss), (p,), (v,))[1],
        "hvp reverse over reverse": jax.grad(lambda q: vdot(jax.grad(loss)(q), v))(p),
        "dense hessian": jax.hessian(loss)(p),
        "gauss-newton product": jax.grad(
            lambda q: parallel.mean_over_devices(jnp.vdot(hjv, local_model(q)))
        )(p),
    }


def first_derivative(p: Tree, v: Tree, batch: Tree) -> Tree:
    """The cheapest part of `derivatives`, to see what the comparison notices."""
    del v

    def loss(p: Tree) -> jax.Array:
        return parallel.mean_over_devices(loss_of(parallel.shared(p), batch))

    value, grad = jax.value_and_grad(loss)(p)
    return {"value": value, "gradient": grad}


def line_search(p: Tree, v: Tree, batch: Tree) -> Tree:
    """Make three steps of L-BFGS, whose line search evaluates the loss again by itself."""
    del v

    def loss(p: Tree) -> jax.Array:
        return parallel.mean_over_devices(loss_of(parallel.shared(p), batch))

    return lbfgs(loss, p)


def lbfgs(loss: Callable[[Tree], jax.Array], p: Tree) -> Tree:
    tx = optax.lbfgs(memory_size=3)

    def step(carry: Tree, _: None) -> tuple[Tree, jax.Array]:
        p, state = carry
        value, grad = jax.value_and_grad(loss)(p)
        updates, state = tx.update(grad, state, p, value=value, grad=grad, value_fn=loss)
        return (optax.apply_updates(p, updates), state), value

    (p, _), values = jax.lax.scan(step, (p, tx.init(p)), length=3)
    return {"params": p, "values": values}


@cache
def one_device(what: Callable) -> Tree:
    """The truth: plain JAX on the whole batch; second-order products from dense matrices."""
    p, v, batch = problem()
    loss = partial(loss_of, batch=batch)
    if what is line_search:
        return jax.device_get(jax.jit(partial(lbfgs, loss))(p))
    return jax.device_get(jax.jit(dense)(p, v, batch))


def dense(p: Tree, v: Tree, batch: Tree) -> Tree:
    flat, unravel = ravel_pytree(p)
    v_flat, _ = ravel_pytree(v)
    loss = partial(loss_of, batch=batch)
    grad = jax.grad(loss)(p)
    hessian = jax.hessian(loss)(p)
    rows = [jnp.concatenate([h.reshape(p[a].size, -1) for h in hessian[a].values()], 1) for a in p]
    hvp = unravel(jnp.concatenate(rows) @ v_flat)
    jacobian = jax.jacrev(lambda f: model(unravel(f), batch["x"]))(flat)
    prob = jax.nn.softmax(model(p, batch["x"]))
    curvature = jnp.einsum("bi,ij->bij", prob, jnp.eye(OUT)) - jnp.einsum("bi,bj->bij", prob, prob)
    gauss_newton = jnp.einsum("bip,bij,bjq->pq", jacobian, curvature, jacobian) / B
    return {
        "value": loss(p),
        "gradient": grad,
        "jvp": vdot(grad, v),
        "hvp forward over reverse": hvp,
        "hvp reverse over reverse": hvp,
        "dense hessian": hessian,
        "gauss-newton product": unravel(gauss_newton @ v_flat),
    }


def on_devices(what: Callable, runner: str, n: int) -> list[Tree]:
    """Run the per-device function with the batch spread over n devices; return each replica."""
    p, v, batch = problem()
    spread = jax.tree.map(lambda a: a.reshape(n, B // n, *a.shape[1:]), batch)
    chosen = jax.devices()[:n]
    if runner in ("vmap", "pmap"):
        lifted = (
            jax.jit(jax.vmap(what, (None, None, 0), axis_name="data"))
            if runner == "vmap"
            else jax.pmap(what, "data", in_axes=(None, None, 0), devices=chosen)
        )
        stacked = jax.device_get(lifted(p, v, spread))
        return [jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(n)]
    mesh = Mesh(np.array(chosen), ("data",), axis_types=(AxisType.Auto,))
    checked = runner == "shard_map checked"
    lifted = jax.jit(
        jax.shard_map(
            what, mesh=mesh, in_specs=(P(), P(), P("data")), out_specs=P(), check_vma=checked
        )
    )
    out = lifted(p, v, batch)
    return [jax.tree.map(lambda a, i=i: np.asarray(a.addressable_data(i)), out) for i in range(n)]


def assert_as_one_device(what: Callable, runner: str, n: int) -> None:
    expected = one_device(what)
    for replica in on_devices(what, runner, n):
        for name, tree in replica.items():
            same = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-13, err_msg=name)
            jax.tree.map(same, tree, expected[name])


@pytest.mark.devices
@pytest.mark.parametrize(
    ("runner", "n"), quick(("vmap", 4), ("pmap", 4), ("shard_map", 8), ("shard_map checked", 2))
)
def test_derivatives_are_those_of_one_device(runner: str, n: int) -> None:
    assert_as_one_device(derivatives, runner, n)


@pytest.mark.devices
@pytest.mark.parametrize(
    ("runner", "n"), quick(("pmap", 4), ("shard_map", 8), ("shard_map checked", 2))
)
def test_line_search_goes_the_way_of_one_device(runner: str, n: int) -> None:
    assert_as_one_device(line_search, runner, n)


def test_without_an_axis_nothing_is_done() -> None:
    p, v, batch = problem()
    assert parallel.shared(p) is p and parallel.mean_over_devices(v) is v
    found = jax.device_get(jax.jit(first_derivative)(p, v, batch))
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-12),
        found["gradient"],
        one_device(derivatives)["gradient"],
    )


# The comparison above is worth something only if it notices the two mistakes that are easily made.


@pytest.mark.devices
@pytest.mark.parametrize("runner", ["vmap", "pmap", "shard_map"])
def test_comparison_notices_that_shared_was_dropped(
    runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "shared", lambda tree: tree)
    with pytest.raises(AssertionError, match="gradient"):
        assert_as_one_device(first_derivative, runner, 4)


@pytest.mark.devices
@pytest.mark.parametrize("runner", RUNNERS)
def test_comparison_notices_that_gradients_were_averaged_twice(
    runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "shared", averaged_twice(parallel.shared))
    with pytest.raises(AssertionError, match="gradient"):
        assert_as_one_device(first_derivative, runner, 4)


def averaged_twice(shared: Callable) -> Callable:
    """Keep the values and divide the gradients, already averaged, by the devices once more."""

    def once_more(a: jax.Array) -> jax.Array:
        part = a / jax.lax.psum(1, "data")
        return part + jax.lax.stop_gradient(a - part)

    return lambda tree, axis="data": jax.tree.map(once_more, shared(tree, axis))


@pytest.mark.devices
def test_gradient_of_a_local_loss_then_pmean_is_n_times_too_large_under_check_vma() -> None:
    """The trap that `shared` is there for; if JAX ever mends it, `shared` can go."""

    def naive(p: Tree, v: Tree, batch: Tree) -> Tree:
        return jax.lax.pmean(jax.grad(loss_of)(p, batch), "data")

    grad = one_device(derivatives)["gradient"]
    for runner, times in (("pmap", 1), ("shard_map", 1), ("shard_map checked", 4)):
        found = on_devices(naive, runner, 4)[0]
        np.testing.assert_allclose(found["w1"], times * grad["w1"], rtol=1e-10)


@pytest.mark.devices
def test_shared_leaves_integers_alone_and_batches() -> None:
    tree = {"n": jnp.arange(3), "w": jnp.ones((5, 2)), "flag": jnp.array(True)}

    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        marked = parallel.shared(tree | {"w": w})
        assert marked["n"].dtype == tree["n"].dtype and marked["flag"].dtype == bool
        return parallel.mean_over_devices((marked["w"] @ x).sum())

    each = jax.vmap(jax.grad(loss), (0, None))  # five vectors of parameters, inside the axis
    grads = jax.vmap(each, (None, 0), axis_name="data")(tree["w"], jnp.array([[1.0, 2], [3, 6]]))
    np.testing.assert_allclose(grads, np.broadcast_to([2.0, 4.0], (2, 5, 2)))


# Runners

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
def test_the_state_given_is_donated_unless_told_otherwise(how: Any, n: int, options: dict) -> None:
    batch = {"x": np.ones((8, 3))}
    for donate in (True, False):
        runner = parallel.lift(add_mean, how, devices=n, donate=donate, **options)
        state = runner.put({"w": np.zeros(3)})
        runner.step(state, batch)
        assert state["w"].is_deleted() is donate


@pytest.mark.devices
@pytest.mark.parametrize(("how", "n", "options"), LIFTED)
def test_a_step_is_traced_once(how: Any, n: int, options: dict) -> None:
    traces = []

    def step(state: Tree, batch: Tree) -> tuple[Tree, Tree]:
        traces.append(1)
        return add_mean(state, batch)

    runner = parallel.lift(step, how, devices=n, **options)
    # a weakly typed and a 64-bit host number, as people write them, must not cost a second one
    state = runner.put({"w": jnp.zeros(3), "rate": jnp.asarray(0.5), "n": 3})
    for _ in range(4):
        state, _ = runner.step(state, {"x": np.ones((8, 3))})
    assert len(traces) == 1


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
import numpy as np, jax
from fdl.train.parallel import lift, mean_over_devices

def step(w, batch):
    w = w + mean_over_devices(batch["x"].mean())
    return w, {"w": w}

runner = lift(step, HOW, devices=4)
w, batch = runner.put(np.float32(0)), {"x": np.ones((8, 3), np.float32)}
for _ in range(2000):
    w, _ = runner.step(w, batch)
assert runner.get(w) == 2000
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pmap", "shard_map"])
def test_two_thousand_steps_that_nobody_waits_for_end(how: str) -> None:
    """With XLA's own number of threads, where unbounded run-ahead aborts on JAX 0.10."""
    env = {k: v for k, v in os.environ.items() if k != "NPROC"}
    env["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
    code = UNSYNCED.replace("HOW", repr(how))
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, timeout=500, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
