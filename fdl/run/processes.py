"""Many processes, one run: how they meet, and how the failure of one ends them all.

JAX is imported inside the functions: a wrong flag must be refused before the seconds that takes.
"""

import atexit
import contextlib
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, NoReturn

from fdl.errors import InputError
from fdl.run.cluster import Plan, number, plan
from fdl.run.exits import explain

START_TIMEOUT = 300.0  # seconds; the machines of a cluster may start minutes apart
# A machine that vanished is noticed after about 1.5 times this; with JAX's own 100, in minutes.
HEARTBEAT = 20  # seconds
# As in JAX: process 0 may draw curves and write reports long after the others are done.
SHUTDOWN_TIMEOUT = 300  # seconds
EXIT_TIMEOUT = 10.0  # seconds; the same for a script that just stops
# What a process reads in its error when the other end of a connection has died.
LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Socket closed",
    "remote process exited",
    "stopped sending heartbeats",
    "another task died",
)


class Here(NamedTuple):
    """Where this process stands."""

    rank: int  # in [0, size)
    size: int  # processes in the run


# The one fact that must be readable also while JAX is not imported yet, hangs or is shut down.
_here = Here(0, 1)


def start(*, devices: int | None = None) -> Here:
    """Join the run that the environment describes (see `fdl.run.cluster.plan`).

    Must come before anything that makes JAX choose its devices. A lone process stays as it is. In a
    run of many, an exception that nobody catches ends its process at once (see `fail`).

    Args:
      devices: virtual devices of this process where it computes on a CPU, > 0; None: as JAX's
          own settings say. Other platforms ignore it.

    Returns:
      The rank of this process, and how many there are.

    Raises:
      InputError: the environment contradicts itself, or the coordinator's port is taken.

    Example:
      >>> start()
      Here(rank=0, size=1)
    """
    global _here
    import jax

    _set_devices(devices)
    joined = plan(os.environ)
    if joined.how == "single":
        return _here
    if joined.rank is not None and joined.size is not None:
        _here = Here(joined.rank, joined.size)
    sys.excepthook = _fail_uncaught
    _join(joined)
    # Choosing the devices is a meeting of all processes: do it here, where all of them are.
    _here = Here(jax.process_index(), jax.process_count())
    if joined.size not in (None, _here.size):
        problem = f"must be the same in all processes, got {joined.size} in process {_here.rank}"
        fail(InputError(f"FDL_PROCESSES {problem} and {_here.size} in process 0"))
    atexit.register(_part_at_exit)
    _follow_launcher()
    return _here


def _set_devices(devices: int | None) -> None:
    import jax

    if devices is not None:
        if devices <= 0:
            raise InputError(f"devices must be > 0, got {devices}")
        with contextlib.suppress(RuntimeError):  # too late: then `fdl.train.lift` counts them
            jax.config.update("jax_num_cpu_devices", devices)
    # XLA sizes its CPU thread pool from NPROC; with fewer threads than devices that wait for each
    # other, jax 0.10 dead-locks and aborts after 40 s.
    threads = max(8, 2 * (devices or 1), number(os.environ, "NPROC"))
    os.environ["NPROC"] = str(threads)


def _join(joined: Plan) -> None:
    import jax

    seconds = float(os.environ.get("FDL_START_TIMEOUT", START_TIMEOUT))
    settings: dict[str, Any] = {
        "initialization_timeout": round(seconds + 60),  # ours comes first, and speaks plainly
        "heartbeat_timeout_seconds": HEARTBEAT,
        "shutdown_timeout_seconds": SHUTDOWN_TIMEOUT,
    }
    if joined.coordinator is not None:
        settings |= {
            "coordinator_address": joined.coordinator,
            "num_processes": joined.size,
            "process_id": joined.rank,
            # Else a surrounding Slurm job would still hide all accelerators but one.
            "cluster_detection_method": "deactivate",
        }
        if joined.rank == 0:
            settings["coordinator_bind_address"] = _bind_address(joined.coordinator)
    elif joined.how != "tpu":  # jax has several kinds of TPU cluster, and tells them apart
        settings["cluster_detection_method"] = joined.how
    with _deadline(seconds, joined):
        jax.distributed.initialize(**settings)


def _bind_address(coordinator: str) -> str:
    """Return where process 0 listens, once that is known to be free.

    A port in use would end jax with a segmentation fault.
    """
    host, _, port = coordinator.rpartition(":")
    local = host in ("localhost", "127.0.0.1")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1" if local else "", int(port)))
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise InputError(
                f"FDL_COORDINATOR={coordinator}: process 0 cannot listen there: {reason}"
            ) from None
    # A run on one machine opens no port to the network.
    return f"127.0.0.1:{port}" if local else f"[::]:{port}"


@contextmanager
def _deadline(seconds: float, joined: Plan) -> Iterator[None]:
    """Leave with one plain line when the processes do not meet within `seconds`.

    jax would abort with a C++ stack trace, which no `except` can catch.
    """
    where = f"at {joined.coordinator}" if joined.coordinator else f"(cluster: {joined.how})"
    text = (
        f"{label()}error: not all processes met {where} within {seconds:g} s; "
        "were all started, with the same FDL_COORDINATOR and FDL_PROCESSES?"
    )
    timer = threading.Timer(seconds, leave, (2, text))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _follow_launcher() -> None:
    """End this process when scripts/launch, its parent, was killed and could not do so."""
    parent = os.getppid()
    if number(os.environ, "FDL_LAUNCHER") != parent:
        return

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        leave(1, f"{label()}error: scripts/launch is gone")

    threading.Thread(target=follow, name="follow-launcher", daemon=True).start()


def index() -> int:
    """Return the index of this process, in [0, `count()`).

    Example:
      >>> index()
      0
    """
    return _here.rank


def count() -> int:
    """Return the number of processes in the run, >= 1.

    Example:
      >>> count()
      1
    """
    return _here.size


def is_main() -> bool:
    """Tell whether this is the process that prints and writes for all.

    Example:
      >>> is_main()
      True
    """
    return _here.rank == 0


def label() -> str:
    """Return what stands before the messages of this process: nothing if it is alone.

    Example:
      >>> label()
      ''
    """
    return f"[process {_here.rank} of {_here.size}] " if _here.size > 1 else ""


def end() -> None:
    """Part from the others after a run that went well or was saved; every process must come here.

    Waits until all have come, at most 300 s.

    Example:
      >>> end()
    """
    if _here.size > 1:
        import jax

        jax.distributed.shutdown()


def _part_at_exit() -> None:
    """Part from the others on the way out without `end`, which `sys.exit(3)` in one is, too."""
    import jax

    if jax.distributed.is_initialized():
        text = f"{label()}error: it has ended without the others, which go on"
        timer = threading.Timer(EXIT_TIMEOUT, leave, (1, text))
        timer.daemon = True
        timer.start()
        jax.distributed.shutdown()


def fail(error: BaseException, settings: Any = None) -> NoReturn:
    """Say why this process fails and leave at once, so that the others notice at once.

    The usual way out would first wait up to 300 s for the others, which wait for this one. A lone
    process leaves by `SystemExit`.

    Args:
      error: what went wrong; `fdl.run.exits.explain` makes an exit code and a message of it.
      settings: the settings of the run, for the hints in the message.

    Raises:
      SystemExit: in a lone process.

    Example:
      >>> fail(InputError("--steps must be > 0, got 0"))
      Traceback (most recent call last):
          ...
      SystemExit: 2
    """
    code, text = explain(error, settings)
    if text is None and _lost_peer(error):
        text = f"error: lost another process, which failed first: {str(error).splitlines()[0]}"
    if text is None:
        head = f"{label()}failed:\n" if _here.size > 1 else ""
        text = head + "".join(traceback.format_exception(error)).rstrip()
    else:
        text = "\n".join(label() + line for line in text.splitlines())
    if _here.size > 1:
        leave(code, text)
    sys.stderr.write(text + "\n")
    raise SystemExit(code)


def _lost_peer(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in LOST)


def _fail_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    fail(error)


def leave(code: int, text: str) -> NoReturn:
    """Write `text` to stderr and end this process now, from any thread, waiting for nobody."""
    try:
        sys.stdout.flush()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # a closed terminal must not keep the process alive
    os._exit(code)
