"""One of two processes of a run that stops and goes on: two_processes.py RANK PORT FOLDER.

Prints one line of JSON: what it restored, and how it ended.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

os.environ["FDL_COORDINATOR"] = f"127.0.0.1:{sys.argv[2]}"
os.environ["FDL_PROCESSES"] = "2"
os.environ["FDL_PROCESS"] = sys.argv[1]

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import AxisType, NamedSharding, PartitionSpec  # noqa: E402

from fdl.errors import CheckpointError, InputError  # noqa: E402
from fdl.run import processes  # noqa: E402
from fdl.run.signals import StopRequest  # noqa: E402
from fdl.train.checkpoint import Checkpoints  # noqa: E402

LAST = 400


def main(folder: Path) -> dict:
    processes.start()
    rank = jax.process_index()
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    everywhere = NamedSharding(mesh, PartitionSpec())
    spread = NamedSharding(mesh, PartitionSpec("data"))

    def globally(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    state = {
        "w": globally(np.zeros((4, 3), np.float32), everywhere),
        "rows": globally(np.arange(2.0, dtype=np.float32), spread),
        "host": np.int32(0),
        "key": jax.random.key(1),
    }
    update = jax.jit(lambda w, step: w * 0.9 + jnp.sin(step))
    outcome: dict = {"rank": rank}
    with StopRequest() as stop, Checkpoints(folder, keep=9) as checkpoints:
        try:
            found = checkpoints.latest(state)
        except CheckpointError as error:
            return {**outcome, "error": str(error)}
        if found is not None:
            try:
                checkpoints.latest({**state, "host": np.int64(0)})
            except (CheckpointError, InputError) as error:
                outcome["refused"] = f"{type(error).__name__}: {error}"
            assert all(
                a.sharding == b.sharding
                for a, b in zip(jax.tree.leaves(found.tree), jax.tree.leaves(state), strict=True)
                if isinstance(b, jax.Array) and not b.is_fully_addressable
            )
            state = found.tree
            outcome |= {"restored": found.step, "rejected": found.rejected}
        first = 0 if found is None else found.step
        if rank == 1 and found is not None:
            os.kill(os.getpid(), signal.SIGTERM)  # before it ever asked
        time.sleep(2 if found is not None else 0)
        for step in range(first + 1, LAST + 1):
            state = {**state, "w": update(state["w"], step), "host": np.int32(step)}
            jax.block_until_ready(state["w"])
            time.sleep(0.01)
            if rank == 1 and step == 30:
                os.kill(os.getpid(), signal.SIGINT)
            if stop.requested(step):
                checkpoints.save(step, state, config={"rank": rank})
                checkpoints.wait()
                w = np.asarray(state["w"].addressable_data(0))
                outcome |= {"stopped": step, "w": w.tobytes().hex()}
                return outcome
            if step % 10 == 0 and found is None and step <= 20:
                checkpoints.save(step, state, config={"rank": rank})
    return {**outcome, "stopped": None}


if __name__ == "__main__":
    result = main(Path(sys.argv[3]))
    print(json.dumps(result), flush=True)
    processes.end()
