"""Ways to write one convolution. XLA's own is the best on GPU and TPU, but not always on a CPU.

Each is `(x, kernel, windows, groups, precision) -> y` for x (batch, *spatial, in), kernel (*window,
in / groups, out) and y (batch, *spatial', out), x being continued already where the padding is
circular. `choose` says which is taken on a CPU.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from fdl.ops.windows import Windows
from fdl.types import Array

FEW_INPUTS, FEW_OUTPUTS = 3, 16  # channels, as in a first layer: XLA's form has short inner loops
SOME_INPUTS, LARGE_WINDOW = 8, 25  # the same, and weights in a window, of the layer behind
SMALL_IMAGE = 4  # positions along the longest axis of the output
MANY_CHANNELS = 128
MANY_WEIGHTS = 64  # in a window: so many slices take long to compile
MANY_SLOPES = 49  # the same for the gradients of a depthwise convolution
FEW_ROWS = 2**21  # numbers in all windows of a batch, written out: 8 MB stay in the cache
# XLA of jax 0.10 fuses through a barrier: it would add up the shifts again for each reader
FIRST_LAYER = "shifts" if jax.__version_info__ >= (0, 11) else "matmul"
Precision = jax.lax.PrecisionLike


class Forms(NamedTuple):
    """The forms that a convolution is computed in.

    Both tangents have one form: XLA computes them at the same time, and its convolution and its
    product of matrices, side by side, get into each other's way. A gradient is the transposed of
    the tangent, and so costs what that form's transposed does.

    Attributes:
      value: of the convolution itself.
      slope: of its tangents, by the input and by the kernel.
    """

    value: str
    slope: str


def choose(windows: Windows, batch: int, inputs: int, outputs: int, groups: int) -> Forms:
    """Name the forms that are fastest on a CPU, by measurement (`scripts/bench/conv.py`).

    Args:
      windows: sizes, strides and the like.
      batch: number of examples.
      inputs: channels of the input.
      outputs: channels of the output.
      groups: of channels that do not see one another.

    Returns:
      Keys of `FORMS`.

    Example:
      >>> windows = Windows((32, 32), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)))
      >>> for groups in (1, 64, 4):
      ...     print(*choose(windows, 32, 64, 64, groups))
      lax lax
      shifts shifts
      blocks blocks
    """
    weights = math.prod(windows.window)
    if groups == inputs > 1:
        names = ("shifts" if weights < most else "fft" for most in (MANY_WEIGHTS, MANY_SLOPES))
        return Forms(*names)
    if groups > 1:
        return Forms("blocks", "blocks")
    if weights == 1 or (weights < MANY_WEIGHTS and _as_rows(windows, batch, inputs)):
        return Forms("matmul", "matmul")
    few = inputs <= FEW_INPUTS and outputs <= FEW_OUTPUTS
    return Forms(FIRST_LAYER if few and weights < MANY_WEIGHTS else "lax", "lax")


def _as_rows(windows: Windows, batch: int, inputs: int) -> bool:
    """Tell whether many channels on a small image, or few under a large window, are best as rows.

    XLA's form has inner loops over channels.
    """
    if inputs >= MANY_CHANNELS:
        return max(windows.outputs) <= SMALL_IMAGE
    weights = math.prod(windows.window)
    rows = batch * math.prod(windows.outputs) * weights * inputs
    return FEW_INPUTS < inputs <= SOME_INPUTS and weights >= LARGE_WINDOW and rows <= FEW_ROWS


def fits(form: str, inputs: int, groups: int) -> bool:
    """Tell whether a form can write a convolution with so many channels in so many groups.

    Example:
      >>> fits("fft", 64, 64), fits("fft", 64, 1)
      (True, False)
    """
    depthwise = groups == inputs
    allowed = {"matmul": groups == 1, "shifts": groups == 1 or depthwise, "fft": depthwise}
    return allowed.get(form, True)


def lax(
    x: Array,
    kernel: Array,
    windows: Windows,
    groups: int,
    precision: Precision,
    spread: tuple[int, ...] | None = None,
) -> Array:
    """Leave all to XLA; `spread` puts that many positions less one of zeros between those of x."""
    space = tuple(range(1, x.ndim - 1))
    data = (0, x.ndim - 1, *space)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        windows.strides,
        windows.padding,
        lhs_dilation=spread,
        rhs_dilation=windows.dilation,
        dimension_numbers=jax.lax.ConvDimensionNumbers(
            data, (x.ndim - 1, x.ndim - 2, *range(x.ndim - 2)), data
        ),
        feature_group_count=groups,
        precision=precision,
    )


def matmul(x: Array, kernel: Array, windows: Windows, groups: int, precision: Precision) -> Array:
    """Write every window as a row (im2col), axis after axis, then multiply by one matrix."""
    del groups  # there is one
    rows = _padded(x, windows)
    for axis in reversed(range(len(windows.window))):
        window, stride = windows.window[axis], windows.strides[axis]
        width = (windows.outputs[axis] - 1) * stride + 1
        firsts = [position * windows.dilation[axis] for position in range(window)]
        parts = [jax.lax.slice_in_dim(rows, f, f + width, stride, axis + 1) for f in firsts]
        if window > 1:
            # in one piece with what comes before or, in the transposed, behind, XLA would compute
            # that again for every position of the window
            rows = jax.lax.optimization_barrier(jnp.concatenate(parts, axis=-1))
        else:
            rows = parts[0]
    return jnp.matmul(rows, kernel.reshape(-1, kernel.shape[-1]), precision=precision)


def shifts(x: Array, kernel: Array, windows: Windows, groups: int, precision: Precision) -> Array:
    """Add up shifted copies of the input, each times one weight; of one group or depthwise."""
    del precision  # no matrix product
    total = jnp.zeros((), x.dtype)
    for part, weight in _shifts(x, kernel, windows):
        if groups > 1:  # depthwise: weight (1, outputs), which lie channel by channel
            weight = weight.reshape(*(1,) * (x.ndim - 1), groups, -1)
            total = total + part[..., None] * weight
        else:
            for channel in range(x.shape[-1]):
                row = weight[channel].reshape((1,) * (x.ndim - 1) + (-1,))
                total = total + part[..., channel : channel + 1] * row
    # fused with what reads it, it would be computed again for each reader
    y = total.reshape(*total.shape[: x.ndim - 1], kernel.shape[-1])
    return jax.lax.optimization_barrier(y)


def blocks(x: Array, kernel: Array, windows: Windows, groups: int, precision: Precision) -> Array:
    """Convolve each group of channels on its own."""
    parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    return jnp.concatenate([lax(a, k, windows, 1, precision) for a, k in parts], axis=-1)


def fft(x: Array, kernel: Array, windows: Windows, groups: int, precision: Precision) -> Array:
    """Multiply Fourier transforms, for a depthwise kernel: the cost hardly depends on the window.

    y = F^-1(F(x) conj(F(kernel))), on an axis long enough that nothing wraps round to a result
    """
    del precision
    axes = tuple(range(1, x.ndim - 1))
    dilated = jax.lax.pad(
        kernel, jnp.zeros((), x.dtype), [(0, 0, d - 1) for d in windows.dilation] + [(0, 0, 0)] * 2
    )
    sizes = [_fast_length(n) for n in windows.padded]
    wide = jnp.pad(x, [(0, 0), *windows.padding, (0, 0)])
    spectrum = jnp.fft.rfftn(wide, sizes, axes)
    response = jnp.conj(jnp.fft.rfftn(dilated[..., 0, :], sizes, tuple(range(len(sizes)))))
    response = response.reshape(*response.shape[:-1], groups, -1)[None]
    y = jnp.fft.irfftn(spectrum[..., None] * response, sizes, axes)
    steps = zip(windows.outputs, windows.strides, strict=True)
    y = y[:, *(slice(0, (n - 1) * s + 1, s) for n, s in steps)]
    return y.reshape(*y.shape[: x.ndim - 1], kernel.shape[-1]).astype(x.dtype)


Form: TypeAlias = Callable[..., Array]
FORMS: dict[str, Form] = {
    "lax": lax,
    "matmul": matmul,
    "shifts": shifts,
    "blocks": blocks,
    "fft": fft,
}


def _padded(x: Array, windows: Windows) -> Array:
    pads = windows.padding
    return jnp.pad(x, [(0, 0), *pads, (0, 0)]) if any(map(any, pads)) else x


def _shifts(x: Array, kernel: Array, windows: Windows) -> Iterator[tuple[Array, Array]]:
    """Yield, for each position in the window, what all windows have there and its weights."""
    wide = _padded(x, windows)
    for position in itertools.product(*map(range, windows.window)):
        first = [p * d for p, d in zip(position, windows.dilation, strict=True)]
        ends = [
            f + (n - 1) * s + 1
            for f, n, s in zip(first, windows.outputs, windows.strides, strict=True)
        ]
        part = jax.lax.slice(
            wide,
            (0, *first, 0),
            (len(x), *ends, x.shape[-1]),
            (1, *windows.strides, 1),
        )
        yield part, kernel[position]


def _fast_length(n: int) -> int:
    """Return the next length whose prime factors are 2, 3 and 5."""
    while True:
        rest = n
        for p in (2, 3, 5):
            while rest % p == 0:
                rest //= p
        if rest == 1:
            return n
        n += 1
