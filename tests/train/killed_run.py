"""A tiny training run to be killed: `python killed_run.py FOLDER [steps]`; goes on by itself.

Momentum on a noisy quadratic, its state saved every 5 steps, its loss logged at every step.
"""

import sys
import time
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
    Storage().close()  # and Orbax loaded
    folder.mkdir(exist_ok=True)
    with lock(folder), StopRequest() as stop:
        print("ready", flush=True)
        with Checkpoints(folder / "checkpoints") as checkpoints:
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


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), int(sys.argv[2])))
