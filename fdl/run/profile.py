"""Trace of some steps of a run for a profiler's timeline."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax


@contextlib.contextmanager
def profile(folder: str | Path, first: int = 10, last: int = 20) -> Iterator[Callable[[Any], None]]:
    """Trace the steps `first` to `last` of this process into `folder/profile`.

    Steps are counted from 1 in this process, not in the run: the first ones compile and would
    hide all else. The trace opens in TensorBoard's profile plugin, in XProf, and in Perfetto
    (the file `*.trace.json.gz`). A run that ends early still leaves a complete trace.

    Args:
      folder: run folder.
      first: first step to trace, >= 1.
      last: last step to trace, >= first.

    Yields:
      A function to call after each step with what the step returned. Before the trace starts
      and before it ends it waits for these arrays, so that the trace holds whole steps.

    Raises:
      ValueError: the range of steps is empty.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     with profile(folder, 2, 3) as done:
      ...         for step in range(5):
      ...             done(jax.numpy.ones(3) + step)
      ...     len(list(Path(folder, "profile").rglob("*.xplane.pb")))
      1
    """
    if not 1 <= first <= last:
        raise ValueError(f"profile(first, last) must be 1 <= first <= last, got {first}, {last}")
    target = Path(folder) / "profile"
    if jax.process_count() > 1:  # the files are named by host, and one host may run many
        target /= f"process_{jax.process_index()}"
    steps = 0
    tracing = False

    def turn(on: bool, arrays: Any = None) -> None:
        nonlocal tracing
        jax.block_until_ready(arrays)
        if on:
            jax.profiler.start_trace(target)
        else:
            jax.profiler.stop_trace()
        tracing = on

    def done(arrays: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == first - 1:
            turn(True, arrays)
        elif steps == last:
            turn(False, arrays)

    if first == 1:
        turn(True)
    try:
        yield done
    finally:
        if tracing:
            turn(False)
