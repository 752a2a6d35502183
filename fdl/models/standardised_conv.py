"""A convolution whose kernels are standardised before they are used."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fdl.models.conv import Conv
from fdl.types import Array


class StandardisedConv(Conv):
    """Convolve with kernels of mean 0 and variance 1: weight standardisation.

    K_o = (kernel_o - mean(kernel_o)) / sqrt(var(kernel_o) + epsilon),  y = conv(x, K)

    for each output channel o. With group normalisation it takes the place of batch normalisation
    where batches are small. Neither the scale nor the mean of a kernel then matters.

    Args:
      features_in: channels of the input.
      features_out: channels of the output.
      window: size of the kernel along each spatial axis.
      epsilon: added to the variance.
      use_bias: whether there is a bias; a normalisation mostly follows.
      rngs: for the parameters.
      options: all others of `Conv`.

    Raises:
      ValueError: as `Conv`.

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
        epsilon: float = 1e-8,
        use_bias: bool = False,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        super().__init__(features_in, features_out, window, use_bias=use_bias, rngs=rngs, **options)
        self.epsilon = epsilon

    def weights(self) -> Array:
        """Return the standardised kernel."""
        kernel = self.kernel[...]
        axes = tuple(range(kernel.ndim - 1))
        centred = kernel - kernel.mean(axes, keepdims=True)
        variance = jnp.square(centred).mean(axes, keepdims=True)
        return centred * jax.lax.rsqrt(variance + self.epsilon)
