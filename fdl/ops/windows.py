"""Where the windows of a convolution or a pooling lie: strides, dilation, padding of each axis."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import jax.numpy as jnp

from fdl.types import Array

PerAxis: TypeAlias = int | Sequence[int]
Padding: TypeAlias = int | Sequence[int | tuple[int, int]] | str


class Windows(NamedTuple):
    """Windows along each spatial axis; window i covers padded positions i stride + j dilation."""

    sizes: tuple[int, ...]  # of the input
    window: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]  # before and behind, >= 0 or cut off

    @property
    def reach(self) -> tuple[int, ...]:
        """How far a window reaches, from its first position to behind its last."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.window, self.dilation, strict=True))

    @property
    def padded(self) -> tuple[int, ...]:
        """Sizes of the input with its padding."""
        return tuple(n + sum(pair) for n, pair in zip(self.sizes, self.padding, strict=True))

    @property
    def outputs(self) -> tuple[int, ...]:
        """How many windows fit."""
        axes = zip(self.padded, self.reach, self.strides, strict=True)
        return tuple((n - reach) // stride + 1 for n, reach, stride in axes)


def per_axis(where: str, value: PerAxis, axes: int, *, least: int = 1) -> tuple[int, ...]:
    """Repeat one number for each axis, and check those given for each.

    Args:
      where: function and argument, for messages.
      value: one for all axes or one for each.
      axes: how many there are.
      least: the smallest allowed.

    Raises:
      ValueError: when it is neither, or too small.

    Example:
      >>> per_axis("conv(strides=...)", 2, 3)
      (2, 2, 2)
    """
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(values) != axes or any(v < least for v in values):
        raise ValueError(f"{where} must be one number >= {least} or {axes} of them, got {value}")
    return values


def place(
    function: str,
    x: Array,
    window: tuple[int, ...],
    *,
    strides: PerAxis,
    padding: Padding,
    dilation: PerAxis = 1,
) -> tuple[Array, Windows]:
    """Lay windows over an array (batch, *spatial, channels).

    "SAME" gives ceil(size / stride) windows and pads evenly, the odd one behind; "VALID" is 0;
    "CIRCULAR" goes round: the array is continued at its other end, by as much as "SAME" needs with
    stride 1.

    Args:
      function: for messages.
      x: the array.
      window: one size for each spatial axis.
      strides: from a window to the next.
      padding: for all axes or for each, a number or (before, behind); or one of the names.
      dilation: from a position of a window to the next.

    Returns:
      The array, continued where the padding is circular, and the windows.

    Raises:
      ValueError: when an argument is out of range or no window fits.

    Example:
      >>> place("conv", jnp.ones((1, 8, 8, 1)), (3, 3), strides=2, padding="SAME")[1].outputs
      (4, 4)
    """
    axes = x.ndim - 2
    sizes = x.shape[1:-1]
    strides = per_axis(f"{function}(strides=...)", strides, axes)
    dilation = per_axis(f"{function}(dilation=...)", dilation, axes)
    reach = tuple((k - 1) * d + 1 for k, d in zip(window, dilation, strict=True))
    if padding == "CIRCULAR":
        around = [((r - 1) // 2, r // 2) for r in reach]
        x = jnp.pad(x, [(0, 0), *around, (0, 0)], mode="wrap")
        sizes, padding = x.shape[1:-1], 0
    pads = _pads(function, padding, sizes, reach, strides)
    windows = Windows(sizes, window, strides, dilation, pads)
    if min(windows.outputs) < 1:
        raise ValueError(
            f"{function}: a window that reaches over {reach} does not fit into {windows.padded}"
        )
    return x, windows


def _pads(
    function: str,
    padding: Padding,
    sizes: tuple[int, ...],
    reach: tuple[int, ...],
    strides: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    if padding == "SAME":
        missing = [
            max((-(-n // s) - 1) * s + r - n, 0)
            for n, r, s in zip(sizes, reach, strides, strict=True)
        ]
        return tuple((m // 2, m - m // 2) for m in missing)
    if padding == "VALID":
        padding = 0
    if isinstance(padding, str):
        raise ValueError(
            f'{function}(padding=...) must be numbers, "SAME", "VALID" or "CIRCULAR", '
            f"got {padding!r}"
        )
    each = [padding] * len(sizes) if isinstance(padding, int) else list(padding)
    pairs = tuple((p, p) if isinstance(p, int) else (p[0], p[1]) for p in each)
    if len(pairs) != len(sizes) or any(p < 0 for pair in pairs for p in pair):
        raise ValueError(
            f"{function}(padding=...) must be >= 0, one number or {len(sizes)} numbers or pairs, "
            f"got {padding}"
        )
    return pairs
