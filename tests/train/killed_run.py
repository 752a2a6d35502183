"""Tiny training runs to be killed, each a process forked from this one, which loads JAX once.

A line on the standard input starts one: {"folder": text, "steps": number, "hang": step or null}.
Printed are "lazy" or "loaded" (is Orbax loaded before it is needed?), then for each run its process
number, "ready", with "hang" set "hanging" inside the save of that step, and its exit code.

A run is momentum on a quadratic that moves, saved every 5 steps, its loss logged at each; it goes
on from what is in the folder.
"""

import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
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
    noise = jnp.sin(jnp.arange(64 * 32).reshape(64, 32) * (state["step"] + 1.0))
    grad = state["w"] - noise
    velocity = 0.9 * state["velocity"] + grad
    new = {"w": state["w"] - 0.01 * velocity, "velocity": velocity, "step": state["step"] + 1}
    return {**new, "key": state["key"]}, jnp.sum(grad**2)


def run(folder: str, steps: int, hang: int | None) -> int:
    if hang is not None:
        hang_in_save(hang)
    state = {
        "w": jnp.zeros((64, 32), jnp.float32),
        "velocity": jnp.zeros((64, 32), jnp.float32),
        "step": jnp.zeros((), jnp.int32),
        "key": jax.random.key(3),
    }
    update(state)  # compiled before a kill is timed
    Path(folder).mkdir(exist_ok=True)
    print("ready", flush=True)
    with (
        lock(folder),
        StopRequest() as stop,
        Checkpoints(f"{folder}/checkpoints") as checkpoints,
    ):
        log = MetricsLog(f"{folder}/metrics.jsonl")
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


def look_at_nothing() -> int:
    with tempfile.TemporaryDirectory() as folder, Checkpoints(folder) as checkpoints:
        assert checkpoints.latest({}) is None
    print("loaded" if "orbax" in sys.modules else "lazy", flush=True)
    return 0


def forked(work: Callable[[], int]) -> int:
    # JAX has made no threads yet, which a fork would lose: here nothing but imports was done.
    process = os.fork()
    if process == 0:
        code = 1
        try:
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return process


def serve() -> None:
    warnings.simplefilter("ignore")
    os.waitpid(forked(look_at_nothing), 0)
    import orbax.checkpoint  # noqa: F401

    for line in sys.stdin:
        order = json.loads(line)
        process = forked(lambda order=order: run(**order))
        print(process, flush=True)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
