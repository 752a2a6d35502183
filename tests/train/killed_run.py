"""Tiny training runs to be killed, each a process forked from this one, which loads JAX once.

A line of JSON on the standard input starts one: {"folder": ..., "steps": ..., "hang": step or null}.
Printed are "lazy" or "loaded" (is Orbax loaded before it is needed?), then for each run its process
number, "ready", with "hang" set "hanging" inside the save of that step, and its exit code.

A run is momentum on a noisy quadratic, saved every 5 steps, its loss logged at each; it goes on from
what is in the folder.
"""

import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp

from fdl.run.folder import lock
from fdl.run.log import MetricsLog
from fdl.run.signals import StopRequest
from fdl.train.checkpoint import Checkpoints
from fdl.train.storage import Storage


@jax.jit
def update(state):
    key = jax.random.fold_in(state["key"], state["step"])
    grad = state["w"] - jax.random.normal(key, state["w"].shape)
    velocity = 0.9 * state["velocity"] + grad
    new = {"w": state["w"] - 0.01 * velocity, "velocity": velocity, "step": state["step"] + 1}
    return {**new, "key": state["key"]}, jnp.sum(grad**2)


def run(folder: Path, steps: int) -> int:
    state = {
        "w": jnp.zeros((64, 32), jnp.float32),
        "velocity": jnp.zeros((64, 32), jnp.float32),
        "step": jnp.zeros((), jnp.int32),
        "key": jax.random.key(3),
    }
    update(state)  # compiled before a kill is timed
    folder.mkdir(exist_ok=True)
    print("ready", flush=True)
    with (
        lock(folder),
        StopRequest() as stop,
        Checkpoints(folder / "checkpoints") as checkpoints,
    ):
        log = MetricsLog(folder / "metrics.jsonl")
        found = checkpoints.latest(state)
        state = state if found is None else found.tree
        first = 0 if found is None else found.step
        log.truncate_after(first)
        for step in range(first + 1, steps + 1):
            state, loss = update(state)
            log.append(step, {"loss": loss})
            time.sleep(0.005)
            stopping = stop.requested(step)
            if step % 5 == 0 or stopping:
                checkpoints.save(step, state, config={"seed": 3})
            if stopping:
                return 75
    return 0


def hang_in_save(step: int) -> None:
    complete = Storage._complete

    def hang(self: Storage) -> None:
        if self._under_way[0].name == str(step):
            print("hanging", flush=True)
            time.sleep(60)
        complete(self)

    Storage._complete = hang


def serve() -> None:
    with tempfile.TemporaryDirectory() as folder, Checkpoints(folder) as checkpoints:
        assert checkpoints.latest({}) is None
    print("loaded" if "orbax" in sys.modules else "lazy", flush=True)
    import orbax.checkpoint  # noqa: F401

    warnings.simplefilter("ignore")  # JAX has no threads yet that a fork could lose
    for line in sys.stdin:
        order = json.loads(line)
        process = os.fork()
        if process == 0:
            code = 1
            try:
                if order["hang"] is not None:
                    hang_in_save(order["hang"])
                code = run(Path(order["folder"]), order["steps"])
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        print(process, flush=True)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
