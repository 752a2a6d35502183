"""Time one training step of fdl against other ways to write the same step.

    python scripts/bench/step.py [--rounds 9] [--json FILE]

Everyone trains the same multi-layer perceptron (ReLU, mean softmax cross-entropy, SGD with
momentum, float32) from the same weights on the same NumPy batches, and must reach the same loss.
A figure is the median over interleaved rounds of the ratio inside a round, so that a load that
comes and goes touches all alike. PyTorch takes part where it is installed.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from timing import ratio, rounds

from fdl.pure import pure
from fdl.train.parallel import lift
from fdl.train.state import init_state
from fdl.train.step import make_step

RATE, MOMENTUM = 1e-3, 0.9  # low: a loss of NaN or of denormal numbers would be timed differently
WARM_UP = 20

Batch = dict[str, np.ndarray]
Contender = Callable[[Batch], Any]  # one step; returns the loss, not waited for


class Workload(NamedTuple):
    """A network and a batch; `goals` are the ratios fdl / contender it should stay below."""

    sizes: tuple[int, ...]
    batch: int
    goals: dict[str, float]


WORKLOADS = {
    "784-1024-1024-10 batch 128": Workload(
        (784, 1024, 1024, 10), 128, {"hand-written jit": 1.05, "torch eager": 0.6}
    ),
    "784-64-10 batch 32": Workload(
        (784, 64, 10),
        32,
        {"hand-written jit": 1.15, "nnx.jit + nnx.Optimizer": 0.35, "torch eager": 0.6},
    ),
}


class MLP(nnx.Module):
    """Linear layers with ReLU between them, from given weights."""

    def __init__(self, weights: list[np.ndarray]):
        rngs = nnx.Rngs(0)
        self.layers = nnx.List([nnx.Linear(*w.shape, rngs=rngs) for w in weights])
        for layer, w in zip(self.layers, weights, strict=True):
            layer.kernel[...] = jnp.asarray(w)

    def __call__(self, x: jax.Array) -> jax.Array:
        *hidden, last = self.layers
        for layer in hidden:
            x = jax.nn.relu(layer(x))
        return last(x)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def fdl_step(weights: list[np.ndarray]) -> Contender:
    apply, params, extra = pure(MLP(weights))
    tx = optax.sgd(RATE, MOMENTUM)

    def objective(params: Any, extra: Any, batch: Any, key: jax.Array) -> Any:
        logits, extra = apply(params, extra, batch["x"], key=key, train=True)
        return cross_entropy(logits, batch["y"]), (extra, {})

    runner = lift(make_step(objective, tx), "none")
    state = runner.put(init_state(params, extra, tx))

    def step(batch: Batch) -> jax.Array:
        nonlocal state
        state, metrics = runner.step(state, batch)
        return metrics["loss"]

    return step


def hand_written(weights: list[np.ndarray]) -> Contender:
    params = [(jnp.array(w), jnp.zeros(w.shape[1], jnp.float32)) for w in weights]
    momentum = jax.tree.map(jnp.zeros_like, params)

    def loss_fn(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        return cross_entropy(x @ params[-1][0] + params[-1][1], y)

    def update(params: Any, momentum: Any, x: jax.Array, y: jax.Array) -> Any:
        loss, grads = jax.value_and_grad(loss_fn)(params, x, y)
        momentum = jax.tree.map(lambda m, g: MOMENTUM * m + g, momentum, grads)
        return jax.tree.map(lambda p, m: p - RATE * m, params, momentum), momentum, loss

    compiled = jax.jit(update, donate_argnums=(0, 1))

    def step(batch: Batch) -> jax.Array:
        nonlocal params, momentum
        params, momentum, loss = compiled(params, momentum, batch["x"], batch["y"])
        return loss

    return step


def nnx_split_once(weights: list[np.ndarray]) -> Contender:
    graph, params = nnx.split(MLP(weights))
    tx = optax.sgd(RATE, MOMENTUM)
    opt_state = tx.init(params)

    def update(params: Any, opt_state: Any, x: jax.Array, y: jax.Array) -> Any:
        loss, grads = jax.value_and_grad(lambda p: cross_entropy(nnx.merge(graph, p)(x), y))(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    compiled = jax.jit(update, donate_argnums=(0, 1))

    def step(batch: Batch) -> jax.Array:
        nonlocal params, opt_state
        params, opt_state, loss = compiled(params, opt_state, batch["x"], batch["y"])
        return loss

    return step


def nnx_idiom(weights: list[np.ndarray]) -> Contender:
    model = MLP(weights)
    optimizer = nnx.Optimizer(model, optax.sgd(RATE, MOMENTUM), wrt=nnx.Param)

    @nnx.jit
    def train_step(model: MLP, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array) -> jax.Array:
        loss, grads = nnx.value_and_grad(lambda m: cross_entropy(m(x), y))(model)
        optimizer.update(model, grads)
        return loss

    return lambda batch: train_step(model, optimizer, batch["x"], batch["y"])


def torch_eager(weights: list[np.ndarray]) -> Contender:
    import torch

    layers: list[Any] = []
    for w in weights:
        layer = torch.nn.Linear(*w.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(w.T.copy()))
            layer.bias.zero_()
        layers += [layer, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    loss_fn = torch.nn.CrossEntropyLoss()

    def step(batch: Batch) -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_fn(model(torch.from_numpy(batch["x"])), torch.from_numpy(batch["y64"]))
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def contenders(weights: list[np.ndarray]) -> dict[str, Contender]:
    made = {
        "fdl": fdl_step(weights),
        "hand-written jit": hand_written(weights),
        "nnx split once + jit": nnx_split_once(weights),
        "nnx.jit + nnx.Optimizer": nnx_idiom(weights),
    }
    try:
        made["torch eager"] = torch_eager(weights)
    except ImportError:
        pass
    return made


def batches(workload: Workload) -> list[Batch]:
    rng = np.random.default_rng(0)
    b, wide, classes = workload.batch, workload.sizes[0], workload.sizes[-1]
    made = []
    for _ in range(16):
        y = rng.integers(0, classes, b)
        x = rng.standard_normal((b, wide), np.float32)
        made.append({"x": x, "y": y.astype(np.int32), "y64": y.astype(np.int64)})
    return made


def run(step: Contender, source: Iterator[Batch], steps: int) -> float:
    """Return the seconds that so many steps take, until the last loss is there."""
    start = time.perf_counter()
    for _ in range(steps):
        loss = step(next(source))
    float(loss)
    return time.perf_counter() - start


def cycle(data: list[Batch], name: str) -> Iterator[Batch]:
    # torch wants 64-bit labels; JAX would be charged for bringing both
    pick = ("x", "y64") if name == "torch eager" else ("x", "y")
    data = [{key: batch[key] for key in pick} for batch in data]
    while True:
        yield from data


def measure(workload: Workload, number: int) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng(1)
    pairs = zip(workload.sizes[:-1], workload.sizes[1:], strict=True)
    weights = [rng.standard_normal((i, o), np.float32) * np.float32(i**-0.5) for i, o in pairs]
    made = contenders(weights)
    data = batches(workload)
    sources = {name: cycle(data, name) for name in made}

    losses = {}
    for name, step in made.items():
        for _ in range(WARM_UP):
            loss = step(next(sources[name]))
        losses[name] = float(loss)
    np.testing.assert_allclose(list(losses.values()), losses["fdl"], rtol=1e-4, err_msg=str(losses))

    turns = {name: partial(run, step, sources[name]) for name, step in made.items()}
    times = rounds(turns, number)
    return {
        name: {
            "ms": 1e3 * statistics.median(times[name]),
            "fdl_ratio": ratio(times, "fdl", name),
        }
        for name in made
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds, 7 or more")
    parser.add_argument("--json", help="also write the figures to this file")
    args = parser.parse_args()
    figures = {}
    for title, workload in WORKLOADS.items():
        figures[title] = measure(workload, args.rounds)
        print(f"{title}\n  {'':24} {'ms/step':>8} {'fdl / it':>9} {'goal':>6}")
        for name, row in figures[title].items():
            goal = workload.goals.get(name)
            shown = (
                ""
                if goal is None
                else f"{goal:6.2f}" + (" met" if row["fdl_ratio"] <= goal else " MISSED")
            )
            print(f"  {name:24} {row['ms']:8.3f} {row['fdl_ratio']:9.2f} {shown}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"jax": jax.__version__, "rounds": args.rounds, "figures": figures}, file)


if __name__ == "__main__":
    main()
