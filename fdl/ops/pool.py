"""Pooling: the largest value or the mean of each window."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fdl.ops.windows import Padding, PerAxis, Windows, per_axis, place
from fdl.types import Array


def max_pool(
    x: Array,
    window: PerAxis,
    *,
    strides: PerAxis | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    implementation: str = "auto",
) -> Array:
    """Take the largest value of each window.

    y[b, i, c] = max_j x[b, i strides + j - before, c]

    The gradient goes to the largest value alone, and to the first of several equal ones (row by
    row), in every implementation. On a CPU windows that neither overlap nor are padded are compared
    position by position, which is faster than XLA's reduction over windows and its gradient.

    Args:
      x: shape (batch, *spatial, channels).
      window: its size, for all axes or each.
      strides: from a window to the next; the window's size if None.
      padding: as in `fdl.ops.conv`; outside lies -infinity.
      ceil_mode: whether a last window that sticks out counts, if it begins inside.
      implementation: "auto", "lax" (reduce_window) or "reshape" (for windows that neither overlap
        nor leave gaps, without padding or ceil_mode) on every platform.

    Returns:
      Shape (batch, *spatial', channels), spatial' = (size + padding - window) // strides + 1, and
      up to one more with `ceil_mode`.

    Raises:
      ValueError: when shapes do not fit or an argument is out of range.

    Example:
      >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
      >>> max_pool(x, 2)[0, ..., 0].tolist()
      [[5.0, 7.0], [13.0, 15.0]]

    Source: DLB 9.3; sizes and gradient as torch.nn.MaxPool2d.
    """
    x, windows, behind = _placed("max_pool", x, window, strides, padding, ceil_mode)
    apart = windows.strides == windows.window and not (any(map(any, windows.padding)) + sum(behind))
    if implementation not in ("auto", "lax", "reshape") or (
        implementation == "reshape" and not apart
    ):
        raise ValueError(
            'max_pool(implementation=...) must be "auto", "lax" or, where windows neither overlap '
            f'nor are padded, "reshape", got {implementation!r}'
        )
    if implementation == "reshape":
        return _compared(x, windows)
    lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    reduced = partial(_reduce, start=lowest, operator=jax.lax.max, windows=windows, behind=behind)
    if implementation == "lax" or not apart:
        return reduced(x)
    return jax.lax.platform_dependent(x, cpu=partial(_compared, windows=windows), default=reduced)


def avg_pool(
    x: Array,
    window: PerAxis,
    *,
    strides: PerAxis | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Take the mean of each window.

    y[b, i, c] = (1 / n_i) sum_j x[b, i strides + j - before, c]

    Args:
      x: shape (batch, *spatial, channels), floating point.
      window: its size, for all axes or each.
      strides: from a window to the next; the window's size if None.
      padding: as in `fdl.ops.conv`; outside lies 0.
      ceil_mode: whether a last window that sticks out counts, if it begins inside.
      count_include_pad: whether the padding counts in n_i. What `ceil_mode` adds never does.

    Returns:
      Shape (batch, *spatial', channels), as `max_pool`.

    Raises:
      ValueError: when shapes do not fit or an argument is out of range.

    Example:
      >>> x = jnp.array([1.0, 2.0, 6.0]).reshape(1, 3, 1)
      >>> avg_pool(x, 3, strides=1, padding=1, count_include_pad=False)[0, :, 0]
      Array([1.5, 3. , 4. ], dtype=float32)

    Source: DLB 9.3; LeCun et al. 1998; sizes as torch.nn.AvgPool2d.
    """
    x, windows, behind = _placed("avg_pool", x, window, strides, padding, ceil_mode)
    counts = np.asarray(1)
    for axis in range(x.ndim - 2):
        counts = np.multiply.outer(counts, _counted(windows, axis, behind[axis], count_include_pad))
    total = _reduce(x, 0, jax.lax.add, windows, behind)
    return total / jnp.asarray(counts[None, ..., None], x.dtype)


def _compared(x: Array, windows: Windows) -> Array:
    """Compare the positions of windows that neither overlap nor are padded."""
    whole = [n * k for n, k in zip(windows.outputs, windows.window, strict=True)]
    split = [size for pair in zip(windows.outputs, windows.window, strict=True) for size in pair]
    x = x[:, *(slice(0, n) for n in whole)].reshape(len(x), *split, x.shape[-1])
    best = None
    for position in itertools.product(*map(range, windows.window)):
        here = x[:, *(at for p in position for at in (slice(None), p))]
        if best is None:
            best = here
        else:  # jnp.maximum would share the gradient between equal values
            best = jnp.where((best >= here) | jnp.isnan(best), best, here)
    assert best is not None
    return best


def _placed(
    function: str,
    x: Array,
    window: PerAxis,
    strides: PerAxis | None,
    padding: Padding,
    ceil_mode: bool,
) -> tuple[Array, Windows, tuple[int, ...]]:
    """Return the array, its windows and the positions behind each axis that no padding covers."""
    x = jnp.asarray(x)
    if x.ndim < 3:
        raise ValueError(f"{function}(x) must be (batch, *spatial, channels), got {x.shape}")
    window = per_axis(f"{function}(window)", window, x.ndim - 2)
    strides = window if strides is None else strides
    x, windows = place(function, x, window, strides=strides, padding=padding)
    return x, windows, _behind(windows) if ceil_mode else (0,) * len(window)


def _behind(windows: Windows) -> tuple[int, ...]:
    """Count the positions that the last window needs when it may stick out (PyTorch's rule)."""
    missing = []
    for n, (low, high), k, stride in zip(
        windows.sizes, windows.padding, windows.window, windows.strides, strict=True
    ):
        count = -(-(n + low + high - k) // stride) + 1
        if (count - 1) * stride >= n + low:  # it would begin in the padding behind
            count -= 1
        missing.append(max((count - 1) * stride + k - (n + low + high), 0))
    return tuple(missing)


def _counted(windows: Windows, axis: int, behind: int, padding: bool) -> np.ndarray:
    """Count the positions of each window along an axis that belong to the mean."""
    n, k, stride = windows.sizes[axis], windows.window[axis], windows.strides[axis]
    low, high = windows.padding[axis]
    first = np.arange((n + low + high + behind - k) // stride + 1) * stride
    start, end = (0, n + low + high) if padding else (low, n + low)
    return np.maximum(np.minimum(first + k, end) - np.maximum(first, start), 1)


def _reduce(
    x: Array,
    start: float,
    operator: Callable[[Any, Any], Any],
    windows: Windows,
    behind: tuple[int, ...],
) -> Array:
    pads = [(a, b + c) for (a, b), c in zip(windows.padding, behind, strict=True)]
    return jax.lax.reduce_window(
        x,
        np.asarray(start, x.dtype),
        operator,
        (1, *windows.window, 1),
        (1, *windows.strides, 1),
        [(0, 0), *pads, (0, 0)],
    )
