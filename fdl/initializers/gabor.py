"""Gabor filters for the first layer of a convolutional network."""

import math

import jax
import jax.numpy as jnp

from fdl.initializers.form import Initializer, initializer
from fdl.ops.gabor import gabor as wave
from fdl.types import Array, DTypeLike


def gabor(scale: float = 2.0, *, bandwidth: float = 1.0) -> Initializer:
    """Draw a bank of Gabor filters: edges and bars of all orientations, sizes and phases.

    Each output channel is a `fdl.ops.gabor` function at the middle of the kernel, without its mean.
    Orientations are spread evenly and put in random order; wavelengths lie between 2.5 pixels and
    the size of the kernel, evenly on a logarithmic scale; phases are uniform. The window is as wide
    as `bandwidth` says, and round. All input channels of a filter have the same weights, and its
    squared weights add up to `scale`, as those of `he_normal` do on average with 2.

    Args:
      scale: sum of the squared weights of a filter, > 0.
      bandwidth: of a filter, in octaves, > 0; those of simple cells lie around 1.

    Returns:
      `(key, shape, dtype) -> array` for kernels (height, width, inputs, outputs).

    Raises:
      ValueError: for arguments out of range; from the initializer, for a shape that is not of
        four axes with height and width of 3 or more.

    Example:
      >>> filters = gabor()(jax.random.key(0), (7, 7, 1, 16), jnp.float32)
      >>> bool(abs(filters.sum((0, 1))).max() < 1e-4), round(float((filters[..., 0] ** 2).sum()), 3)
      (True, 2.0)

    Source: DLB 9.10; bandwidth: Daugman 1985.
    """
    for name, value in (("scale", scale), ("bandwidth", bandwidth)):
        if not value > 0:
            raise ValueError(f"gabor({name}=...) must be > 0, got {value}")
    octave = (2**bandwidth + 1) / (2**bandwidth - 1)
    width = math.sqrt(math.log(2) / 2) / math.pi * octave  # standard deviation / wavelength

    def draw(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        if len(shape) != 4 or min(shape[:2]) < 3:
            raise ValueError(
                f"gabor(shape) must be (height, width, inputs, outputs), 3x3 at least, got {shape}"
            )
        height, wide, inputs, outputs = shape
        kind = jnp.promote_types(dtype, jnp.float32)
        order, length, phase = jax.random.split(key, 3)
        angles = jnp.pi * jax.random.permutation(order, outputs).astype(kind) / outputs
        octaves = jax.random.uniform(length, (outputs,), kind)
        wavelength = 2.5 * (max(height, wide) / 2.5) ** octaves
        beta = 0.5 / jnp.square(width * wavelength)
        y = jnp.arange(height, dtype=kind)[:, None, None] - (height - 1) / 2
        x = jnp.arange(wide, dtype=kind)[None, :, None] - (wide - 1) / 2
        per_filter = {
            "frequency": 2 * jnp.pi / wavelength,
            "orientation": angles,
            "phase": jax.random.uniform(phase, (outputs,), kind, 0, 2 * math.pi),
            "beta_x": beta,
            "beta_y": beta,
        }
        filters = wave(x, y, **{name: v[None, None] for name, v in per_filter.items()})
        filters = filters - filters.mean((0, 1), keepdims=True)
        size = jnp.sqrt(jnp.square(filters).sum((0, 1), keepdims=True) * inputs / scale)
        return jnp.broadcast_to((filters / size)[:, :, None], shape).astype(dtype)

    return initializer(draw)
