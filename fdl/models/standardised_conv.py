"""A convolution whose kernels are standardised before they are used."""

import jax
import jax.numpy as jnp
from flax import nnx

from fdl import initializers, ops
from fdl.ops.windows import Padding, PerAxis
from fdl.types import Array, DTypeLike

LECUN = initializers.lecun_normal()


class StandardisedConv(nnx.Module):
    """Convolve with kernels of mean 0 and variance 1: weight standardisation.

    K_o = (kernel_o - mean(kernel_o)) / sqrt(var(kernel_o) + epsilon),  y = conv(x, K)

    for each output channel o. With group normalisation it takes the place of batch normalisation
    where batches are small. Neither the scale nor the mean of a kernel then matters.

    Args:
      features_in: channels of the input.
      features_out: channels of the output.
      window: size of the kernel along each spatial axis.
      strides: from an output to the next, for all axes or each.
      padding: as in `fdl.ops.conv`.
      epsilon: added to the variance.
      kernel_init: of the kernel, shape (*window, features_in, features_out).
      dtype: in which is computed; that of parameters and input if None.
      implementation: as in `fdl.ops.conv`.
      rngs: for the parameters.

    Raises:
      ValueError: from the call, when the input does not fit.

    Example:
      >>> layer = StandardisedConv(3, 8, (3, 3), padding=1, rngs=nnx.Rngs(0))
      >>> flat = layer(jnp.ones((1, 5, 5, 3)))[0, 2, 2]  # the kernels' sums
      >>> bool(jnp.abs(flat).max() < 1e-4)
      True

    Source: Qiao et al. 2019, arXiv 1903.10520.
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        window: tuple[int, ...],
        *,
        strides: PerAxis = 1,
        padding: Padding = 0,
        epsilon: float = 1e-8,
        kernel_init: initializers.Initializer = LECUN,
        dtype: DTypeLike | None = None,
        implementation: str = "auto",
        rngs: nnx.Rngs,
    ):
        shape = (*window, features_in, features_out)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, jnp.float32))
        self.strides = strides
        self.padding = padding
        self.epsilon = epsilon
        self.dtype = dtype
        self.implementation = implementation

    def __call__(self, x: Array) -> Array:
        """Convolve x, shape (batch, *spatial, features_in)."""
        kernel = self.kernel[...]
        axes = tuple(range(kernel.ndim - 1))
        centred = kernel - kernel.mean(axes, keepdims=True)
        variance = jnp.square(centred).mean(axes, keepdims=True)
        kernel = centred * jax.lax.rsqrt(variance + self.epsilon)
        kind = self.dtype or jnp.promote_types(x.dtype, kernel.dtype)
        return ops.conv(
            x.astype(kind),
            kernel.astype(kind),
            strides=self.strides,
            padding=self.padding,
            implementation=self.implementation,
        )
