"""Time training steps and decoding of fdl's networks against other ways to write them.

    python scripts/bench/nets.py [--only lenet lstm] [--without torch.compile] [--rounds 9]
                                 [--memory] [--json FILE]

In one run and on the same NumPy batches: fdl; a functional JAX step written by hand; Flax's own
layers in the idiom nnx.jit + nnx.Optimizer; PyTorch, eager and compiled, where it is installed.
The networks have the same number of parameters, but weights of their own: every one must learn.
A figure is the median over interleaved rounds of the ratio inside a round. With --memory each
contender also runs alone in a process, and the rise of its peak of memory is shown.
"""

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import nets_jax as ours
import numpy as np
import optax
from flax import nnx
from timing import Turn, calls, ratio, rounds, spread

from fdl.pure import pure

try:
    import nets_torch as theirs
except ImportError:
    theirs = None

VOCABULARY, UNITS = 128, 256
WARM_UP, MEMORY_STEPS = 3, 5
POSITIONS = 10, 10_000  # tokens before the one that is decoded
TORCH = "torch eager", "torch.compile"


class Workload(NamedTuple):
    """A training step; `goals` are the ratios fdl / contender it should stay below."""

    shape: tuple[int, ...]  # of the input, batch first; of tokens where it has two axes
    fdl: Callable[[], nnx.Module]
    hand: Callable[[], Any]
    flax: Callable[[], nnx.Module]
    torch: Callable[[], Any]
    adam: bool
    goals: dict[str, float]


WORKLOADS = {
    "mlp": Workload(
        (128, 784),
        ours.fdl_mlp,
        ours.hand_mlp,
        lambda: ours.FlaxMLP(nnx.Rngs(0)),
        lambda: theirs.mlp(),
        False,
        {"hand-written jit": 1.1},
    ),
    "lenet": Workload(
        (128, 28, 28, 1),
        ours.fdl_lenet,
        ours.hand_lenet,
        lambda: ours.FlaxLeNet(nnx.Rngs(0)),
        lambda: theirs.lenet(),
        True,
        {"torch eager": 0.85},
    ),
    "resnet18": Workload(
        (32, 32, 32, 3),
        ours.fdl_resnet,
        ours.hand_resnet,
        lambda: ours.FlaxResNet(nnx.Rngs(0)),
        lambda: theirs.resnet(),
        False,
        {"torch eager": 1.1},
    ),
    "lstm": Workload(
        (32, 128),
        lambda: ours.fdl_lm(VOCABULARY, UNITS),
        partial(ours.hand_lm, VOCABULARY, UNITS),
        lambda: ours.FlaxLM(VOCABULARY, UNITS, nnx.Rngs(0)),
        lambda: theirs.LM(VOCABULARY, UNITS),
        True,
        {"torch eager": 1.0, "nnx.jit + nnx.Optimizer": 1.1},
    ),
}


def batches(workload: Workload) -> list[dict[str, np.ndarray]]:
    """Inputs with a pattern that can be learned: the class shows in the values."""
    rng, made = np.random.default_rng(0), []
    for _ in range(8):
        if workload.shape[1:] == (128,):
            tokens = rng.integers(0, VOCABULARY, workload.shape).astype(np.int32)
            made.append({"x": tokens, "y": tokens})  # copy the token that is read
        else:
            y = rng.integers(0, 10, workload.shape[0]).astype(np.int32)
            x = 0.5 * rng.standard_normal(workload.shape, np.float32)
            made.append({"x": x + 0.2 * y.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype), "y": y})
    return made


def for_torch(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    x = batch["x"]
    x = np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim == 4 else x
    return {"x": x.astype(np.int64) if x.dtype == np.int32 else x, "y": batch["y"].astype(np.int64)}


def contenders(workload: Workload) -> dict[str, Callable[[], Any]]:
    """Return a maker of each step by name; making one may compile for long."""
    tx = optax.adam(1e-3) if workload.adam else optax.sgd(1e-3, momentum=0.9)
    made: dict[str, Callable[[], Any]] = {
        "fdl": lambda: ours.fdl_step(workload.fdl(), tx),
        "hand-written jit": lambda: ours.hand_step(workload.hand(), tx),
        "nnx.jit + nnx.Optimizer": lambda: ours.nnx_step(workload.flax(), tx),
    }
    if theirs is not None:
        made |= {name: partial(torch_step, workload, name == "torch.compile") for name in TORCH}
    return made


def torch_step(workload: Workload, compiled: bool) -> Any:
    torch, model = theirs.torch, workload.torch()
    if workload.adam:
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    else:
        optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    return theirs.train_step(model, optimizer, compiled)


def sizes(workload: Workload) -> dict[str, int]:
    """Return the number of parameters of each network, without PyTorch's second bias of an LSTM."""

    def total(tree: Any) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    found = {
        "fdl": total(pure(workload.fdl()).params),
        "by hand": total(workload.hand()[0]),
        "flax": total(pure(workload.flax()).params),
    }
    if theirs is not None:
        model = workload.torch()
        found["torch"] = theirs.count(model)
        if hasattr(model, "rnn"):
            found["torch"] -= model.rnn.bias_hh_l0.numel()
    return found


def turn(step: Any, data: list[dict[str, np.ndarray]]) -> Turn:
    source = itertools.cycle(data)

    def run(repetitions: int) -> float:
        start = time.perf_counter()
        for _ in range(repetitions):
            loss = step(next(source))
        float(loss)
        return time.perf_counter() - start

    return run


def training(workload: Workload, number: int, without: list[str]) -> dict[str, dict[str, Any]]:
    if len(set((found := sizes(workload)).values())) != 1:
        raise SystemExit(f"nets: networks of other sizes do not compare: {found}")
    plain = batches(workload)
    turns, rows = {}, {}
    for name, make in contenders(workload).items():
        if name in without:
            continue
        data = [for_torch(b) for b in plain] if name in TORCH else plain
        start, step = time.perf_counter(), make()
        first = float(step(data[0]))
        rows[name] = {"first_s": time.perf_counter() - start}
        for _ in range(WARM_UP):
            loss = float(step(data[0]))
        if not loss < first:
            raise SystemExit(f"nets: {name} does not learn: loss {first} and then {loss}")
        turns[name] = turn(step, data)
    spent = rounds(turns, number)
    for name in turns:
        rows[name] |= figures(spent, name)
    return rows


def figures(spent: Any, name: str) -> dict[str, Any]:
    return {
        "ms": 1e3 * statistics.median(spent[name]),
        "fdl_ratio": ratio(spent, "fdl", name),
        "quartiles": spread(spent, "fdl", name),
    }


def decoding(number: int) -> dict[str, dict[str, Any]]:
    """Time one greedy token of each of 8 texts, behind few tokens and behind many."""
    apply, params, extra = pure(ours.fdl_lm(VOCABULARY, UNITS))

    @partial(jax.jit, static_argnums=2)
    def many(token: jax.Array, cache: Any, tokens: int) -> Any:
        def body(carry: Any, _: None) -> Any:
            (logits, cache), _ = apply(params, extra, *carry, method="decode_step")
            return (jnp.argmax(logits, -1), cache), None

        return jax.lax.scan(body, (token, cache), None, tokens)[0]

    turns: dict[str, Turn] = {}
    for position in POSITIONS:
        prompt = np.random.default_rng(0).integers(0, VOCABULARY, (8, position))
        cache, _ = apply(params, extra, 8, position, method="init_cache")
        (_, cache), _ = jax.jit(partial(apply, method="prefill"))(params, extra, prompt, cache)
        token = jnp.zeros(8, jnp.int32)
        name = "fdl" if position == POSITIONS[0] else f"fdl, behind {position}"
        turns[name] = calls(partial(many, token, cache, 64))
        if theirs is not None:
            name = "torch eager" if position == POSITIONS[0] else f"torch eager, behind {position}"
            turns[name] = calls(partial(theirs.decoding(VOCABULARY, UNITS, prompt), 64))
    for run in turns.values():
        run(1)  # compiles
    spent = rounds(turns, number)
    for name in spent:
        spent[name] = [seconds / 64 for seconds in spent[name]]
    return {name: figures(spent, name) for name in spent}


def memory(workload: str, contender: str) -> float:
    """Return by how many MiB the peak of a process grows that only trains one contender."""
    command = [sys.executable, __file__, "--alone", workload, contender]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def alone(workload: str, contender: str) -> None:
    data = batches(WORKLOADS[workload])
    before = peak()  # the libraries, PyTorch too where it is installed, and the data
    step = contenders(WORKLOADS[workload])[contender]()
    for batch in data[:MEMORY_STEPS]:
        loss = step(for_torch(batch) if contender in TORCH else batch)
    float(loss)
    print(peak() - before)


def peak() -> float:
    """Return the most memory in MiB that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux's rusage begins with the peak of the process that started this one
        return float(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts in bytes


def show(title: str, rows: dict[str, dict[str, Any]], goals: dict[str, float]) -> None:
    print(
        f"{title}\n  {'':26} {'ms':>9} {'fdl / it':>9} {'quartiles':>12} {'first s':>8} {'MiB':>6}"
    )
    for name, row in rows.items():
        low, high = row["quartiles"]
        first, peak = (f"{row[k]:.1f}" if k in row else "" for k in ("first_s", "mib"))
        goal = goals.get(name)
        verdict = "met" if goal is not None and row["fdl_ratio"] <= goal else "MISSED"
        print(
            f"  {name:26} {row['ms']:9.3f} {row['fdl_ratio']:9.2f} {low:6.2f}-{high:.2f}"
            f" {first:>8} {peak:>6}" + ("" if goal is None else f"  goal {goal} {verdict}"),
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[*WORKLOADS, "decoding"], help="workloads")
    parser.add_argument("--without", nargs="+", default=[], help="contenders, all but fdl")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds, 7 or more")
    parser.add_argument("--memory", action="store_true", help="also the peak memory of each")
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        return alone(*args.alone)
    if theirs is None:
        print("PyTorch is not installed: its rows are left out")
    found = {}
    for name in args.only or [*WORKLOADS, "decoding"]:
        if name == "decoding":
            found[name] = decoding(args.rounds)
            show("decoding, one token of 8 texts", found[name], {})
            continue
        found[name] = training(WORKLOADS[name], args.rounds, args.without)
        if args.memory:
            for contender, row in found[name].items():
                row["mib"] = memory(name, contender)
        show(f"{name}, batch {WORKLOADS[name].shape}", found[name], WORKLOADS[name].goals)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"jax": jax.__version__, "rounds": args.rounds, "figures": found}, file)


if __name__ == "__main__":
    main()
