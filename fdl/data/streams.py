"""Token sequences as batches: streams that go on, windows anywhere, rows in order.

Targets are the tokens one place further on: y_t = x_{t+1}.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdl.data.batches import process_share
from fdl.data.permutation import permutation
from fdl.data.splits import Arrays
from fdl.errors import InputError


def streams_per_epoch(n: int, batch_size: int, length: int) -> int:
    """Return in how many steps `stream_batch` shows each token once: ceil(((N - 1) // T) / B).

    Raises:
      InputError: the text is too short for so many streams, or a size is below 1.

    Example:
      >>> streams_per_epoch(1001, 4, 10)
      25
    """
    for name, value in {"batch size": batch_size, "length": length}.items():
        if value < 1:
            raise InputError(f"{name} must be >= 1, got {value}")
    pieces = (n - 1) // length
    if pieces < batch_size:
        raise InputError(
            f"{n} tokens are too few for {batch_size} streams in pieces of {length}: "
            f"{batch_size * length + 1} are needed"
        )
    return -(-pieces // batch_size)


def stream_batch(
    tokens: NDArray[Any],
    batch_size: int,
    length: int,
    *,
    step: int,
    process: tuple[int, int] = (0, 1),
) -> Arrays:
    """Return the pieces that B readers of one text read at a step; the next step reads on.

    The text is P = (N - 1) // T pieces of T tokens. Reader b starts at piece floor(b P / B) and at
    step s reads piece (floor(b P / B) + s) mod P: it goes on where its neighbour began, and round
    to the beginning. A recurrent state carried from step to step is the state after all that the
    reader has read; where "reset" is 1 it has to be the initial one, as nothing precedes the piece.

    Args:
      tokens: shape (N,).
      batch_size: B readers over all processes, divisible by the number of processes.
      length: T tokens of a piece: so far back goes the gradient.
      step: >= 0; the batch is a function of it alone.
      process: (rank, count); joined in rank order the shares are the batch.

    Returns:
      {"x": (b, T), "y": (b, T), "reset": (b,)}, the last float32, with b = B // count.

    Raises:
      InputError: the text is too short for B readers, a size is below 1, or B is not divisible by
        the number of processes.
      ValueError: `tokens` is not one row, or `step` or `process` is out of range.

    Example:
      >>> for step in range(3):
      ...     batch = stream_batch(np.arange(9), 2, 2, step=step)
      ...     print(batch["x"].tolist(), batch["reset"].tolist())
      [[0, 1], [4, 5]] [1.0, 1.0]
      [[2, 3], [6, 7]] [0.0, 0.0]
      [[4, 5], [0, 1]] [0.0, 1.0]

    Source: Sutskever 2013, truncated back-propagation through time; DLB 10.2.2.
    """
    _check_row(tokens, "stream_batch")
    streams_per_epoch(len(tokens), batch_size, length)
    if step < 0:
        raise ValueError(f"stream_batch(step=...) must be >= 0, got {step}")
    pieces = (len(tokens) - 1) // length
    starts = np.arange(batch_size)[process_share(batch_size, process)] * pieces // batch_size
    now = (starts + step) % pieces
    reset = (now == 0) | (step == 0)
    return _cut(tokens, now * length, length) | {"reset": reset.astype(np.float32)}


def window_batch(
    tokens: NDArray[Any],
    batch_size: int,
    length: int,
    *,
    seed: int,
    step: int,
    process: tuple[int, int] = (0, 1),
) -> Arrays:
    """Return windows that begin anywhere in the text, for models that carry no state.

    The N - T places where a window may begin are visited in the order of `permutation`, each once
    before one comes again.

    Args:
      tokens: shape (N,).
      batch_size: B windows over all processes, divisible by the number of processes.
      length: T tokens of a window.
      seed: of the order.
      step: >= 0; the batch is a function of seed and step.
      process: (rank, count); joined in rank order the shares are the batch.

    Returns:
      {"x": (b, T), "y": (b, T)} with b = B // count.

    Raises:
      InputError: the text has no B windows, a size is below 1, or B is not divisible by the number
        of processes.
      ValueError: `tokens` is not one row, or `step`, `seed` or `process` is out of range.

    Example:
      >>> window_batch(np.arange(100), 2, 3, seed=0, step=0)["x"].tolist()
      [[66, 67, 68], [0, 1, 2]]
    """
    _check_row(tokens, "window_batch")
    if min(batch_size, length) < 1:
        raise InputError(f"batch size and length must be >= 1, got {batch_size} and {length}")
    places = len(tokens) - length
    if places < batch_size:
        raise InputError(
            f"{len(tokens)} tokens are too few for {batch_size} windows of {length}: "
            f"{batch_size + length} are needed"
        )
    if step < 0:
        raise ValueError(f"window_batch(step=...) must be >= 0, got {step}")
    epoch, position = divmod(step, places // batch_size)
    share = process_share(batch_size, process)
    rows = np.arange(position * batch_size, (position + 1) * batch_size)[share]
    return _cut(tokens, permutation(places, seed=seed, stream=epoch)[rows], length)


def text_rows(tokens: NDArray[Any], length: int) -> Arrays:
    """Cut a text into rows that predict each token but the first exactly once, for evaluation.

    Args:
      tokens: shape (N,), N >= 2.
      length: T >= 1; a row knows nothing of the rows before, so take it long.

    Returns:
      {"x": (R, T), "y": (R, T), "where": (R, T)} with R = ceil((N - 1) / T): the rows in order, and
      float32 weights that are 0 where the last row is filled up.

    Raises:
      InputError: fewer than two tokens.
      ValueError: `tokens` is not one row, or `length` is below 1.

    Example:
      >>> rows = text_rows(np.arange(6), 3)
      >>> rows["x"].tolist(), rows["y"].tolist(), rows["where"].sum()
      ([[0, 1, 2], [3, 4, 0]], [[1, 2, 3], [4, 5, 0]], np.float32(5.0))
    """
    _check_row(tokens, "text_rows")
    if length < 1:
        raise ValueError(f"text_rows(length=...) must be >= 1, got {length}")
    n = len(tokens) - 1
    if n < 1:
        raise InputError(f"a text to predict must have two tokens or more, got {len(tokens)}")
    rows = -(-n // length)

    def cut(values: NDArray[Any]) -> NDArray[Any]:
        return np.pad(values, (0, rows * length - n)).reshape(rows, length)

    return {"x": cut(tokens[:-1]), "y": cut(tokens[1:]), "where": cut(np.ones(n, np.float32))}


def _cut(tokens: NDArray[Any], starts: NDArray[np.int64], length: int) -> Arrays:
    at = starts[:, None] + np.arange(length)
    return {"x": tokens[at], "y": tokens[at + 1]}


def _check_row(tokens: NDArray[Any], function: str) -> None:
    if np.ndim(tokens) != 1:
        raise ValueError(f"{function}(tokens) must be one row, shape (N,), got {np.shape(tokens)}")
