"""Elastic deformation: each part of an image moves its own way, neighbours nearly alike."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.data.augment import bilinear
from fdl.data.crops import as_image
from fdl.types import Array


def random_elastic(key: Array, image: ArrayLike, *, amount: float, sigma: float = 2.0) -> Array:
    """Move the pixels of an image along a smooth random field.

    u = amount G_sigma * z,  z ~ N(0, I) at each pixel;  the value at p is read at p + u(p)

    G is a Gaussian filter that is scaled so that each shift has the standard deviation `amount`
    everywhere, also near the border, whatever sigma is.

    Args:
      key: one typed PRNG key.
      image: (H, W) or (H, W, C), floating point.
      amount: standard deviation of the shift down, and of that across, in pixels, >= 0.
      sigma: of the filter in pixels, > 0: over how far neighbours move alike.

    Returns:
      The shape and dtype of `image`; bilinear, with zeros around it.

    Raises:
      ValueError: a wrong shape or dtype, or an argument out of range.

    Example:
      >>> random_elastic(jax.random.key(0), jnp.ones((8, 8)), amount=0.3).shape
      (8, 8)

    Source: Simard, Steinkraus, Platt 2003, "Best practices for convolutional neural networks",
    section 2; there z is uniform and the field is scaled by a factor of no unit.
    """
    image = as_image("random_elastic", image)
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(f"random_elastic(image) must be floating point, got {image.dtype}")
    if not amount >= 0:
        raise ValueError(f"random_elastic(amount=...) must be >= 0, got {amount}")
    if not sigma > 0:
        raise ValueError(f"random_elastic(sigma=...) must be > 0, got {sigma}")
    dtype = jnp.promote_types(image.dtype, jnp.float32)
    height, width = image.shape[:2]
    noise = jax.random.normal(key, (2, height, width), dtype)
    field = amount * jnp.einsum(
        "ij,cjk,lk->cil",
        _filter(height, sigma, dtype),
        noise,
        _filter(width, sigma, dtype),
        precision="highest",  # else 8 bits of a shift are left on an accelerator
    )
    rows = jnp.arange(height, dtype=dtype)[:, None] + field[0]
    columns = jnp.arange(width, dtype=dtype)[None, :] + field[1]
    return bilinear(image.astype(dtype), rows, columns).astype(image.dtype)


def _filter(size: int, sigma: float, dtype: jnp.dtype) -> Array:
    """Return a Gaussian filter as a matrix whose rows have length 1: unit variance stays unit."""
    place = jnp.arange(size, dtype=dtype)
    weight = jnp.exp(-((place[:, None] - place[None, :]) ** 2) / (2 * sigma**2))
    return weight / jnp.sqrt((weight**2).sum(1, keepdims=True))
