"""Convolutional layers."""

import jax.numpy as jnp
from flax import nnx

from fdl import initializers, ops
from fdl.ops.windows import Padding, PerAxis
from fdl.types import Array, DTypeLike

KERNEL_INIT = initializers.lecun_normal()  # variance 1 / (window * features_in / groups)


class Fixed(nnx.Variable[Array]):
    """Weights that do not learn: not among the parameters of `fdl.pure.pure`, but in `extra`."""


class Conv(nnx.Module):
    """Slide a kernel over signals, images or volumes: `fdl.ops.conv` with weights, plus a bias.

    y = conv(x, kernel) + bias

    Args:
      features_in: channels of the input.
      features_out: channels of the output.
      window: size of the kernel along each spatial axis, which says how many there are.
      strides: from an output to the next, for all axes or each.
      padding: as in `fdl.ops.conv`: number(s), pairs, "SAME", "VALID" or "CIRCULAR".
      dilation: from a weight to the next.
      groups: of channels that do not see one another; `features_in` of them is depthwise.
      use_bias: whether there is a bias; none is needed before a normalisation.
      kernel_init: of the kernel, shape (*window, features_in / groups, features_out).
      bias_init: of the bias, shape (features_out,).
      trained: whether the kernel is a parameter; if not it stays what `kernel_init` made.
      dtype: in which is computed; that of parameters and input if None. Parameters are float32.
      implementation: as in `fdl.ops.conv`.
      rngs: for the parameters.

    Raises:
      ValueError: when `groups` does not divide both numbers of channels; from the call, when the
        input does not fit.

    Example:
      >>> Conv(3, 8, (3, 3), padding=1, rngs=nnx.Rngs(0))(jnp.ones((2, 9, 9, 3))).shape
      (2, 9, 9, 8)

    Source: DLB chapter 9.
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        window: tuple[int, ...],
        *,
        strides: PerAxis = 1,
        padding: Padding = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        use_bias: bool = True,
        kernel_init: initializers.Initializer = KERNEL_INIT,
        bias_init: initializers.Initializer = initializers.zeros,
        trained: bool = True,
        dtype: DTypeLike | None = None,
        implementation: str = "auto",
        rngs: nnx.Rngs,
    ):
        kernel, bias = _parameters(
            "Conv",
            (*window, features_in, features_out),
            groups,
            kernel_init,
            bias_init if use_bias else None,
            rngs,
        )
        self.kernel = nnx.Param(kernel) if trained else Fixed(kernel)
        self.bias = bias
        self.strides = strides
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        self.dtype = dtype
        self.implementation = implementation

    def __call__(self, x: Array) -> Array:
        """Convolve x, shape (batch, *spatial, features_in)."""
        kernel = self.weights()
        kind = self.dtype or jnp.promote_types(x.dtype, kernel.dtype)
        y = ops.conv(
            x.astype(kind),
            kernel.astype(kind),
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            implementation=self.implementation,
        )
        return _shifted(y, self.bias)

    def weights(self) -> Array:
        """Return the kernel that is used, shape (*window, features_in / groups, features_out)."""
        return self.kernel[...]


class ConvTranspose(nnx.Module):
    """Spread every position over a window: `fdl.ops.conv_transpose` with weights, plus a bias.

    Args:
      features_in: channels of the input.
      features_out: channels of the output.
      window: size of the kernel along each spatial axis.
      strides: from where one input is spread to where the next is.
      padding: cut off on both sides.
      output_padding: added behind, to choose among the sizes that a strided convolution takes to
        the same one.
      dilation: from a weight to the next.
      groups: of channels that do not see one another.
      use_bias: whether there is a bias.
      kernel_init: of the kernel, shape (*window, features_in / groups, features_out).
      bias_init: of the bias, shape (features_out,).
      dtype: in which is computed; that of parameters and input if None. Parameters are float32.
      rngs: for the parameters.

    Raises:
      ValueError: as `Conv`.

    Example:
      >>> layer = ConvTranspose(8, 3, (4, 4), strides=2, padding=1, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 7, 7, 8))).shape
      (2, 14, 14, 3)

    Source: DLB 9.5.
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        window: tuple[int, ...],
        *,
        strides: PerAxis = 1,
        padding: PerAxis = 0,
        output_padding: PerAxis = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        use_bias: bool = True,
        kernel_init: initializers.Initializer = KERNEL_INIT,
        bias_init: initializers.Initializer = initializers.zeros,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        kernel, self.bias = _parameters(
            "ConvTranspose",
            (*window, features_in, features_out),
            groups,
            kernel_init,
            bias_init if use_bias else None,
            rngs,
        )
        self.kernel = nnx.Param(kernel)
        self.strides = strides
        self.padding = padding
        self.output_padding = output_padding
        self.dilation = dilation
        self.groups = groups
        self.dtype = dtype

    def __call__(self, x: Array) -> Array:
        """Spread x, shape (batch, *spatial, features_in)."""
        kernel = self.kernel[...]
        kind = self.dtype or jnp.promote_types(x.dtype, kernel.dtype)
        y = ops.conv_transpose(
            x.astype(kind),
            kernel.astype(kind),
            strides=self.strides,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return _shifted(y, self.bias)


def _parameters(
    layer: str,
    shape: tuple[int, ...],
    groups: int,
    kernel_init: initializers.Initializer,
    bias_init: initializers.Initializer | None,
    rngs: nnx.Rngs,
) -> tuple[Array, nnx.Param | None]:
    """Return kernel and bias of a layer between all channels of `shape`, in groups."""
    *window, inputs, outputs = shape
    if groups < 1 or inputs % groups or outputs % groups:
        raise ValueError(
            f"{layer}(groups=...) must divide the channels {inputs} and {outputs}, got {groups}"
        )
    kernel = kernel_init(rngs.params(), (*window, inputs // groups, outputs), jnp.float32)
    if bias_init is None:
        return kernel, nnx.data(None)
    return kernel, nnx.Param(bias_init(rngs.params(), (outputs,), jnp.float32))


def _shifted(y: Array, bias: nnx.Param | None) -> Array:
    if bias is None:
        return y
    return y + bias[...].astype(y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
