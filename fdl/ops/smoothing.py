"""Smoothing of images."""

import math

import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array

REACH = 4.0  # standard deviations, beyond which the weights are 0 (they are below 4e-4), as SciPy's


def gaussian_smooth(images: ArrayLike, sigma: float) -> Array:
    """Smooth images by a Gaussian, with zeros around them.

    y = g * x along rows and columns, g_i = exp(-i^2 / (2 sigma^2)) / sum, |i| <= 4 sigma

    Args:
      images: (..., H, W), floating point.
      sigma: standard deviation in pixels, >= 0; 0 changes nothing.

    Returns:
      The shape and dtype of `images`.

    Raises:
      ValueError: for a negative sigma or images of fewer than two axes or not floating point.

    Example:
      >>> point = jnp.zeros((5, 5)).at[2, 2].set(1.0)
      >>> [round(float(v), 3) for v in gaussian_smooth(point, 0.5)[2]]
      [0.0, 0.084, 0.619, 0.084, 0.0]

    Source: scipy.ndimage.gaussian_filter(mode="constant").
    """
    x = jnp.asarray(images)
    if x.ndim < 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"gaussian_smooth(images) must be floating, (..., H, W), got {x.dtype}{x.shape}"
        )
    if not sigma >= 0:
        raise ValueError(f"gaussian_smooth(sigma=...) must be >= 0, got {sigma}")
    reach = int(REACH * sigma + 0.5)
    if reach == 0:
        return x
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(reach + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    for axis in (-2, -1):
        x = _filtered(x, [w / total for w in weights], axis)
    return x


def _filtered(x: Array, weights: list[float], axis: int) -> Array:
    """Return sum_i w_|i| x shifted by i; sums of shifts, exact where a convolution rounds."""
    reach, size = len(weights) - 1, x.shape[axis]
    pad = [(0, 0)] * x.ndim
    pad[axis] = (reach, reach)
    wide = jnp.moveaxis(jnp.pad(x, pad), axis, 0)
    shifted = (
        weights[abs(i)] * wide[reach + i : reach + i + size] for i in range(-reach, reach + 1)
    )
    return jnp.moveaxis(sum(shifted, jnp.zeros((), x.dtype)), 0, axis)
