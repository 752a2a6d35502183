"""Convolution over any number of spatial axes, and its transposed."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from fdl.ops.conv_forms import FORMS, Forms, choose, fits
from fdl.ops.windows import Padding, PerAxis, Windows, per_axis, place
from fdl.types import Array


def conv(
    x: Array,
    kernel: Array,
    *,
    strides: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    implementation: str = "auto",
    precision: jax.lax.PrecisionLike = None,
) -> Array:
    """Slide a kernel over signals, images or volumes, without flipping it.

    y[b, i, o] = sum_{j, c} x[b, i strides + j dilation - before, c] kernel[j, c, o]

    i and j run over positions, in as many axes as `x` has between the first and the last, and what
    lies outside of x is 0. In groups, an output channel sees only the input channels of its group.

    On GPU and TPU this is one operation of XLA. On a CPU that one is slow for some shapes, and
    "auto" takes another form of the same sum there, by shape (`fdl.ops.conv_forms.choose`): equal
    but for rounding, with derivatives of any order.

    Args:
      x: shape (batch, *spatial, in), floating point.
      kernel: shape (*window, in / groups, out).
      strides: from an output to the next, for all axes or each, >= 1.
      padding: zeros around x: for all axes or for each, a number or (before, behind). Or "SAME",
        which gives ceil(size / strides) outputs (an odd zero lies behind, so with strides it is not
        (window - 1) / 2 on both sides, PyTorch's habit); "VALID", none; "CIRCULAR", as many as
        "SAME" with strides 1, and not zeros: x goes on at its other end.
      dilation: from a weight to the next, for all axes or each, >= 1.
      groups: of channels; as many as there are input channels is a depthwise convolution.
      implementation: "auto", or one form on every platform: "lax" (XLA's), "matmul" (of one group),
        "shifts" (of one group or depthwise), "blocks" or "fft" (depthwise).
      precision: of the products, as in `jax.lax`.

    Returns:
      Shape (batch, *spatial', out), spatial' = (size + padding - (window - 1) dilation - 1) //
      strides + 1.

    Raises:
      ValueError: when shapes do not fit, an argument is out of range, or the form is not for these
        groups.

    Example:
      >>> x = jnp.array([1.0, 2.0, 4.0]).reshape(1, 3, 1)
      >>> conv(x, jnp.array([-1.0, 1.0]).reshape(2, 1, 1))[0, :, 0]
      Array([1., 2.], dtype=float32)

    Source: DLB 9.1, equation 9.6, and 9.5; the book calls it cross-correlation where convolution
    flips the kernel.
    """
    x, kernel = _checked("conv", x, kernel, groups)
    x, windows = place(
        "conv", x, kernel.shape[:-2], strides=strides, padding=padding, dilation=dilation
    )
    inputs, outputs = x.shape[-1], kernel.shape[-1]
    if implementation == "auto":
        real = jnp.issubdtype(x.dtype, jnp.floating)
        forms = choose(windows, len(x), inputs, outputs, groups) if real else Forms("lax", "lax")
        if set(forms) != {"lax"}:
            return _by_shape(forms, windows, groups, precision, x, kernel)
        implementation = "lax"
    elif implementation not in FORMS or not fits(implementation, inputs, groups):
        raise ValueError(
            f"conv(implementation=...) must be auto or one of {', '.join(FORMS)} that is for "
            f"{groups} groups of {inputs} channels, got {implementation!r}"
        )
    return _in_form(implementation, windows, groups, precision, x, kernel)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2, 3))
def _by_shape(
    forms: Forms,
    windows: Windows,
    groups: int,
    precision: jax.lax.PrecisionLike,
    x: Array,
    kernel: Array,
) -> Array:
    """Convolve, on a CPU in the form given, with another for the derivatives."""
    return _on_cpu(forms.value, windows, groups, precision, x, kernel)


def _by_shape_jvp(
    forms: Forms,
    windows: Windows,
    groups: int,
    precision: jax.lax.PrecisionLike,
    primals: tuple[Array, Array],
    tangents: tuple[Any, Any],
) -> tuple[Array, Array]:
    """dy = conv(dx, kernel) + conv(x, dkernel); what has no tangent, as images, costs nothing."""
    x, kernel = primals
    dx, dkernel = tangents
    y = _by_shape(forms, windows, groups, precision, x, kernel)
    dy = jnp.zeros_like(y)
    if not isinstance(dx, SymbolicZero):
        dy += _on_cpu(forms.slope, windows, groups, precision, dx, kernel)
    if not isinstance(dkernel, SymbolicZero):
        dy += _on_cpu(forms.slope, windows, groups, precision, x, dkernel)
    return y, dy


_by_shape.defjvp(_by_shape_jvp, symbolic_zeros=True)


def _on_cpu(form: str, *args: Any) -> Array:
    *options, x, kernel = args
    mine, plain = (partial(_in_form, name, *options) for name in (form, "lax"))
    return jax.lax.platform_dependent(x, kernel, cpu=mine, default=plain)


def _in_form(
    form: str,
    windows: Windows,
    groups: int,
    precision: jax.lax.PrecisionLike,
    x: Array,
    kernel: Array,
) -> Array:
    if form == "lax":
        return FORMS[form](x, kernel, windows, groups, precision)
    # the others add up in float32 at least, too
    kind = jnp.promote_types(x.dtype, jnp.float32)
    y = FORMS[form](x.astype(kind), kernel.astype(kind), windows, groups, precision)
    return y.astype(x.dtype)


def conv_transpose(
    x: Array,
    kernel: Array,
    *,
    strides: PerAxis = 1,
    padding: PerAxis = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    precision: jax.lax.PrecisionLike = None,
) -> Array:
    """Spread every position over a window: the transposed, as a matrix, of a convolution.

    y[b, i strides + j dilation - padding, o] += x[b, i, c] kernel[j, c, o]

    It is the gradient of `conv` by its input, as a layer of its own: it makes images larger.

    Args:
      x: shape (batch, *spatial, in), floating point.
      kernel: shape (*window, in / groups, out). PyTorch's weight (in, out, *window) of one group is
        this after `w.transpose(2, ..., 0, 1)`.
      strides: between the places of neighbours, for all axes or each, >= 1.
      padding: positions that are cut off on both sides, for all axes or each, >= 0.
      output_padding: positions added behind, for all axes or each, >= 0.
      dilation: from a weight to the next, for all axes or each, >= 1.
      groups: of channels that do not see one another.
      precision: of the products, as in `jax.lax`.

    Returns:
      Shape (batch, *spatial', out), spatial' = (size - 1) strides + (window - 1) dilation + 1 - 2
      padding + output_padding.

    Raises:
      ValueError: when shapes do not fit, an argument is out of range or nothing is left.

    Example:
      >>> x = jnp.array([1.0, 10.0]).reshape(1, 2, 1)
      >>> conv_transpose(x, jnp.array([1.0, 2.0, 3.0]).reshape(3, 1, 1), strides=2)[0, :, 0]
      Array([ 1.,  2., 13., 20., 30.], dtype=float32)

    Source: DLB 9.5; sizes as torch.nn.ConvTranspose2d.
    """
    x, kernel = _checked("conv_transpose", x, kernel, groups)
    axes = x.ndim - 2
    window = kernel.shape[:-2]
    strides = per_axis("conv_transpose(strides=...)", strides, axes)
    dilation = per_axis("conv_transpose(dilation=...)", dilation, axes)
    cut = per_axis("conv_transpose(padding=...)", padding, axes, least=0)
    more = per_axis("conv_transpose(output_padding=...)", output_padding, axes, least=0)
    reach = [(k - 1) * d for k, d in zip(window, dilation, strict=True)]
    pads = [(r - c, r - c + m) for r, c, m in zip(reach, cut, more, strict=True)]
    spread = [(n - 1) * s + 1 for n, s in zip(x.shape[1:-1], strides, strict=True)]
    if min(n + sum(p) - r for n, p, r in zip(spread, pads, reach, strict=True)) < 1:
        raise ValueError(f"conv_transpose(padding={padding}) leaves nothing of {x.shape}")
    return FORMS["lax"](
        x,
        jnp.flip(kernel, tuple(range(axes))),
        Windows(tuple(spread), window, (1,) * axes, dilation, tuple(pads)),
        groups,
        precision,
        spread=strides,
    )


def _checked(function: str, x: Array, kernel: Array, groups: int) -> tuple[Array, Array]:
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    if x.ndim < 3 or kernel.ndim != x.ndim:
        raise ValueError(
            f"{function}(x, kernel) must be (batch, *spatial, in) and (*window, in / groups, out), "
            f"got {x.shape} and {kernel.shape}"
        )
    inputs, outputs = kernel.shape[-2:]
    if groups < 1 or inputs * groups != x.shape[-1] or outputs % groups:
        raise ValueError(
            f"{function}(groups={groups}) needs a kernel of (*window, {x.shape[-1]} / groups, "
            f"a multiple of groups), got {kernel.shape}"
        )
    kind = jnp.promote_types(x.dtype, kernel.dtype)
    return x.astype(kind), kernel.astype(kind)
