"""A step on any number of devices, in any number of parts, is the step of one device."""

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import fdl.train.step as step_module
from fdl import ops
from fdl.errors import InputError
from fdl.models.mlp import MLP, MLPConfig
from fdl.models.units import dense
from fdl.pure import in_precision, pure
from fdl.train import metrics as metric
from fdl.train.parallel import lift, shared
from fdl.train.state import State, init_state
from fdl.train.step import example_keys, make_step

pytestmark = pytest.mark.usefixtures("compile_quickly")

B, STEPS, SEED, RATE, MOMENTUM = 16, 5, 3, 0.3, 0.9
HOWS: dict[str, tuple[str, dict]] = {
    "none": ("none", {}),
    "pmap": ("pmap", {}),
    "shard_map": ("shard_map", {}),
    "shard_map checked": ("shard_map", {"check_vma": True}),
}
GRID = [("none", 1), *((how, n) for how in list(HOWS)[1:] for n in (1, 2, 4, 8))]

Tree = Any


def quick(*pairs: tuple[str, int]) -> list:
    """Mark all other combinations of the grid as slow."""
    return [pytest.param(*p, marks=[] if p in pairs else pytest.mark.slow) for p in GRID]


def batches(n: int = STEPS, size: int = B, dtype: Any = np.float64) -> list[dict]:
    """Make batches whose examples weigh differently, so that devices and parts do too."""
    rng = np.random.default_rng(1)
    return [
        {
            "x": rng.standard_normal((size, 5)).astype(dtype),
            "y": rng.integers(0, 3, size).astype(np.int32),
            "weight": np.where(np.arange(size) < size // 3, 0, rng.uniform(0.1, 3, size)),
        }
        for _ in range(n)
    ]


def network(*, batch_norm: bool = True, dtype: Any = jnp.float64) -> tuple[Callable, Tree, Tree]:
    config = MLPConfig(5, (8,), 3, unit=dense(ops.tanh), dropout=0.3, batch_norm=batch_norm)
    apply, params, extra = pure(MLP(config, rngs=nnx.Rngs(0)))
    return apply, *jax.tree.map(lambda a: a.astype(dtype), (params, extra))


def weighted(apply: Callable) -> Callable:
    """Return the objective sum_i w_i l_i / sum_i w_i with two metrics."""

    def objective(params: Tree, extra: Tree, batch: Tree, key: jax.Array) -> tuple:
        logits, extra = apply(params, extra, batch["x"], key=key, train=True)
        loss = optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch["y"])
        right = logits.argmax(-1) == batch["y"]
        accuracy = metric.mean(right, where=batch["weight"] > 0)
        metrics = {"accuracy": accuracy, "spread": jnp.square(logits).mean()}
        return metric.mean(loss, where=batch["weight"]), (extra, metrics)

    return objective


@cache
def by_hand(*, batch_norm: bool, parts: int = 1) -> Tree:
    """The truth: no fdl step, no optax, one device, the parts one after another in Python."""
    apply, params, extra = network(batch_norm=batch_norm)
    objective = weighted(apply)
    momentum = jax.tree.map(jnp.zeros_like, params)
    history = []

    @jax.jit
    def total(params: Tree, extra: Tree, part: Tree, keys: jax.Array) -> tuple:
        def value(params: Tree) -> tuple:
            (total, count), (new, metrics) = objective(params, extra, part, keys)
            return total, (count, new, metrics)

        return jax.value_and_grad(value, has_aux=True)(params)

    for i, batch in enumerate(batches()):
        root = jax.random.fold_in(jax.random.key(SEED), i)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(root, jnp.arange(B))
        done = []
        for j in range(parts):
            s = slice(j * B // parts, (j + 1) * B // parts)
            (value, (count, extra, metrics)), grad = total(
                params, extra, {k: a[s] for k, a in batch.items()}, keys[s]
            )
            done.append((value, count, grad))
        count = sum(c for _, c, _ in done)
        grad = jax.tree.map(lambda *g, n=count: sum(g) / n, *[g for *_, g in done])
        momentum = jax.tree.map(lambda m, g: MOMENTUM * m + g, momentum, grad)
        params = jax.tree.map(lambda p, m: p - RATE * m, params, momentum)
        numbers = {"loss": sum(v for v, *_ in done) / count}
        if parts == 1:
            accuracy = metrics["accuracy"]
            numbers["accuracy"] = float(accuracy.total) / float(accuracy.count)
            numbers["spread"] = metrics["spread"]
            numbers["grad_norm"] = jnp.sqrt(sum((g**2).sum() for g in jax.tree.leaves(grad)))
        history.append(jax.tree.map(float, numbers))
    return {"params": params, "extra": extra, "momentum": momentum, "history": history}


def trained(
    objective: Callable,
    params: Tree,
    extra: Tree,
    how: str,
    n: int,
    *,
    tx: Any = None,
    data: list[dict] | None = None,
    **options: Any,
) -> tuple[State, list[dict]]:
    """Train by the step under test; replicas must be equal bit for bit and traced once."""
    tx = optax.sgd(RATE, MOMENTUM) if tx is None else tx
    made, traces = make_step(objective, tx, **options), []

    def step(state: State, batch: Tree) -> tuple:
        traces.append(1)
        return made(state, batch)

    name, lifting = HOWS[how]
    runner = lift(step, name, devices=n, **lifting)
    state = runner.put(init_state(params, extra, tx, seed=SEED))
    history = []
    for batch in batches() if data is None else data:
        state, metrics = runner.step(state, batch)
        runner.check((state, metrics))
        history.append(metric.floats(runner.get(metrics)))
    assert len(traces) == 1
    return runner.get(state), history


def assert_same(found: Tree, expected: Tree, what: str, rtol: float = 1e-12) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-14, err_msg=what),
        found,
        expected,
    )


def assert_by_hand(state: State, history: list[dict], expected: Tree) -> None:
    assert int(state.step) == STEPS
    np.testing.assert_array_equal(state.key, jax.random.key_data(jax.random.key(SEED)))
    for found, numbers in zip(history, expected["history"], strict=True):
        assert_same({name: found[name] for name in numbers}, numbers, "metrics")
    assert_same(state.params, expected["params"], "params")
    assert_same(state.extra, expected["extra"], "extra")
    assert_same(state.opt_state[0].trace, expected["momentum"], "momentum")


@pytest.mark.devices
@pytest.mark.parametrize(
    ("how", "n"), quick(("none", 1), ("pmap", 4), ("shard_map", 8), ("shard_map checked", 2))
)
def test_training_is_that_of_one_device(how: str, n: int) -> None:
    """Dropout, batch statistics and unequal weights included."""
    apply, params, extra = network()
    state, history = trained(weighted(apply), params, extra, how, n, grad_norm=True)
    assert_by_hand(state, history, by_hand(batch_norm=True))


@pytest.mark.devices
@pytest.mark.parametrize(
    ("how", "n", "parts"),
    [
        ("none", 1, 4),
        ("pmap", 4, 2),
        ("shard_map checked", 4, 2),
        pytest.param("none", 1, 2, marks=pytest.mark.slow),
        pytest.param("shard_map", 2, 4, marks=pytest.mark.slow),
    ],
)
def test_parts_of_a_batch_give_the_step_of_the_batch(how: str, n: int, parts: int) -> None:
    apply, params, extra = network(batch_norm=False)
    found = trained(weighted(apply), params, extra, how, n, accumulate=parts, grad_norm=True)
    assert_by_hand(*found, by_hand(batch_norm=False))


def test_statistics_of_parts_follow_one_another() -> None:
    apply, params, extra = network()
    found = trained(weighted(apply), params, extra, "none", 1, accumulate=2)
    assert_by_hand(*found, by_hand(batch_norm=True, parts=2))


@cache
def searched(how: str, n: int, parts: int) -> tuple[State, list[dict]]:
    apply, params, extra = network(batch_norm=False)
    search = optax.scale_by_backtracking_linesearch(max_backtracking_steps=8, max_learning_rate=64)
    tx = optax.chain(optax.sgd(1.0), search)
    return trained(weighted(apply), params, extra, how, n, tx=tx, accumulate=parts)


@pytest.mark.devices
@pytest.mark.parametrize(
    ("how", "n", "parts"),
    [
        ("none", 1, 2),
        ("shard_map checked", 2, 4),
        pytest.param("pmap", 4, 1, marks=pytest.mark.slow),
        pytest.param("shard_map", 8, 2, marks=pytest.mark.slow),
    ],
)
def test_line_search_sees_the_whole_batch(how: str, n: int, parts: int) -> None:
    """Every trial point is judged on the loss of all devices and parts, dropout masks fixed."""
    trained(*line(), how, n)  # devices that disagree would dead-lock in the search
    (one, alone), (state, history) = searched("none", 1, 1), searched(how, n, parts)
    assert_same(state.params, one.params, "params", 1e-11)
    assert_same([m["loss"] for m in history], [m["loss"] for m in alone], "loss")
    assert float(one.opt_state[1].learning_rate) not in (1.0, 64.0)  # something was searched


@pytest.mark.devices
@pytest.mark.parametrize(("how", "n"), [("pmap", 4), ("shard_map", 4)])
def test_dropping_shared_makes_replicas_differ(
    how: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_module, "shared", lambda tree, axis: tree)
    with pytest.raises(RuntimeError, match=r"replicas of 0\.params\.w differ"):
        trained(*line(), how, n)


@pytest.mark.devices
@pytest.mark.parametrize(("how", "n"), [("pmap", 4), ("shard_map", 4), ("shard_map checked", 4)])
def test_averaging_gradients_twice_is_noticed(
    how: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, params, extra = line()
    one, _ = trained(objective, params, extra, "none", 1)
    state, _ = trained(objective, params, extra, how, n)
    assert_same(state.params, one.params, "params")

    def once_more(a: jax.Array) -> jax.Array:
        part = a / jax.lax.psum(1, "data")
        return part + jax.lax.stop_gradient(a - part)

    monkeypatch.setattr(
        step_module, "shared", lambda tree, axis: jax.tree.map(once_more, shared(tree, axis))
    )
    state, _ = trained(objective, params, extra, how, n)
    with pytest.raises(AssertionError, match="params"):
        assert_same(state.params, one.params, "params")


def line() -> tuple[Callable, Tree, Tree]:
    def objective(params: Tree, extra: Tree, batch: Tree, key: jax.Array) -> tuple:
        return jnp.square(batch["x"] @ params["w"] - 1).mean(), (extra, {})

    return objective, {"w": jnp.zeros(5)}, {}


@pytest.mark.parametrize("parts", [1, 2])
def test_gradients_cross_the_devices_once(parts: int) -> None:
    """A second mean of equal values would change no number, only cost time."""
    objective, params, extra = line()
    tx = optax.sgd(0.1)
    step = make_step(objective, tx, accumulate=parts)
    state = init_state(params, extra, tx)
    program = str(jax.make_jaxpr(step, axis_env=[("data", 4)])(state, {"x": np.ones((4, 5))}))
    assert re.findall(r"f64\[([\d,]+)\] = psum", program) == ["5"]  # the shape of w


@pytest.mark.devices
def test_keys_of_examples_are_those_of_the_whole_batch() -> None:
    key = jax.random.key(9)
    expected = [
        jax.random.key_data(jax.random.fold_in(jax.random.fold_in(key, 5), i)) for i in range(8)
    ]
    np.testing.assert_array_equal(jax.random.key_data(example_keys(key, 5, 8)), expected)
    spread = jax.pmap(lambda _: jax.random.key_data(example_keys(key, 5, 2)), "data")
    np.testing.assert_array_equal(spread(jnp.zeros(4)).reshape(8, -1), expected)
    other = jax.random.key_data(example_keys(key, 6, 8))
    assert not (np.asarray(other) == np.asarray(expected)).all(-1).any()


@pytest.mark.devices
def test_half_precision_keeps_parameters_whole() -> None:
    apply, params, extra = network(dtype=jnp.float32)
    data = batches(dtype=np.float32)
    for batch in data:
        batch["weight"] = batch["weight"].astype(np.float32)
    half = weighted(in_precision(apply, jnp.bfloat16))
    keys = example_keys(jax.random.key(0), 0, B)
    program = str(jax.make_jaxpr(half)(params, extra, data[0], keys))
    assert set(re.findall(r":(\w+)\[[\d,]*\] = dot_general", program)) == {"bf16"}
    full, history = trained(weighted(apply), params, extra, "pmap", 2, data=data)
    low, low_history = trained(half, params, extra, "pmap", 2, data=data)
    types = {a.dtype for a in jax.tree.leaves((low.params, low.extra, low.opt_state))}
    assert types == {np.dtype(np.float32)}
    assert_same([m["loss"] for m in low_history], [m["loss"] for m in history], "loss", 0.02)
    assert low_history[-1]["loss"] != history[-1]["loss"]
    differences = jax.tree.map(lambda a, b: np.abs(a - b).max(), low.params, full.params)
    assert 0 < max(jax.tree.leaves(differences)) < 0.05


def test_loss_and_gradients_of_half_precision_are_float32() -> None:
    seen = []
    tx = optax.stateless(lambda g, _: seen.extend(a.dtype for a in jax.tree.leaves(g)) or g)
    apply, params, extra = network(dtype=jnp.float32)
    data = batches(1, dtype=np.float32)[0]
    data["weight"] = data["weight"].astype(np.float32)
    step = make_step(weighted(in_precision(apply, jnp.bfloat16)), tx)
    _, metrics = jax.eval_shape(step, init_state(params, extra, tx), data)
    assert set(seen) == {np.dtype(np.float32)} and metrics["loss"].dtype == np.float32


def functions() -> dict[str, tuple[Callable, Tree, Tree]]:
    """The same affine map as a bare function, a Linen module and an NNX module."""
    module = linen.Dense(1)
    variables = module.init(jax.random.key(0), jnp.ones((1, 3)))
    wide = jax.tree.map(lambda a: a.astype(jnp.float64), variables["params"])

    def bare(params: Tree, extra: Tree, x: jax.Array, **_: Any) -> tuple:
        return x @ params["kernel"] + params["bias"][None], extra

    def of_linen(params: Tree, extra: Tree, x: jax.Array, **_: Any) -> tuple:
        return module.apply({"params": params}, x), extra

    start = {"kernel": jnp.zeros((3, 1)), "bias": jnp.zeros(1)}
    return {
        "function": (bare, start, {}),
        "linen": (of_linen, wide, {}),
        "nnx": tuple(pure(nnx.Linear(3, 1, param_dtype=jnp.float64, rngs=nnx.Rngs(0)))),
    }


@pytest.mark.devices
@pytest.mark.parametrize("name", ["function", "linen", "nnx"])
def test_anything_that_is_apply_and_params_trains(name: str) -> None:
    apply, params, extra = functions()[name]
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((16, 3)), rng.standard_normal((16, 1))

    def objective(params: Tree, extra: Tree, batch: Tree, key: jax.Array) -> tuple:
        out, extra = apply(params, extra, batch["x"], key=key, train=True)
        return jnp.square(out - batch["y"]).mean(), (extra, {})

    state, _ = trained(
        objective, params, extra, "pmap", 2, tx=optax.sgd(0.2), data=[{"x": x, "y": y}] * 200
    )
    solution, *_ = np.linalg.lstsq(np.column_stack([x, np.ones(16)]), y, rcond=None)
    found = np.concatenate([state.params["kernel"], state.params["bias"][None]])
    np.testing.assert_allclose(found, solution, rtol=1e-8)


def test_step_refuses_what_has_no_meaning() -> None:
    objective, params, extra = line()
    tx = optax.sgd(0.1)
    state = init_state(params, extra, tx)

    def run(objective: Callable, batch: Tree, **options: Any) -> None:
        jax.eval_shape(make_step(objective, tx, **options), state, batch)

    with pytest.raises(ValueError, match=r"one length, got \{'x': \(4,\), 'y': \(3,\)\}"):
        run(objective, {"x": np.ones((4, 5)), "y": np.ones(3)})
    with pytest.raises(ValueError, match=r"one length, got \{'n': \(\), 'x': \(4,\)\}"):
        run(objective, {"x": np.ones((4, 5)), "n": np.ones(())})
    with pytest.raises(ValueError, match="one length, got {}"):
        run(objective, {})
    with pytest.raises(ValueError, match=r"must be a scalar, got shape \(4,\)"):
        run(lambda p, e, b, k: (b["x"] @ p["w"], (e, {})), {"x": np.ones((4, 5))})
    with pytest.raises(InputError, match=r"\(accumulate=3\) must divide .* on a device, got 4"):
        run(objective, {"x": np.ones((4, 5))}, accumulate=3)
    with pytest.raises(InputError, match=r"\(accumulate=...\) must be >= 1, got 0"):
        make_step(objective, tx, accumulate=0)


def test_counters_in_extra_are_carried_and_not_averaged() -> None:
    def objective(params: Tree, extra: Tree, batch: Tree, key: jax.Array) -> tuple:
        seen = {"calls": extra["calls"] + 1, "mean": batch["x"].mean()}
        return jnp.square(params["w"]).sum(), (seen, {})

    extra = {"calls": jnp.int32(0), "mean": jnp.float64(0)}
    state, _ = trained(objective, {"w": jnp.ones(2)}, extra, "pmap", 4)
    assert state.extra["calls"] == STEPS and state.extra["calls"].dtype == np.int32
    assert state.extra["mean"] == pytest.approx(batches()[-1]["x"].mean())
