"""Random changes of one image by whole pixels: mirror, crop, cut out.

Each takes one key and one image, (H, W) or (H, W, C); `jax.vmap` over both for a batch.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array


def random_flip(key: Array, image: ArrayLike, *, axis: int = 1, probability: float = 0.5) -> Array:
    """Mirror an image with some probability.

    Args:
      key: one typed PRNG key.
      image: (H, W) or (H, W, C).
      axis: 1 swaps left and right, 0 top and bottom.
      probability: in [0, 1].

    Returns:
      The shape and dtype of `image`.

    Raises:
      ValueError: a wrong shape or axis, or a probability outside [0, 1].

    Example:
      >>> random_flip(jax.random.key(0), jnp.array([[1, 2, 3]]), probability=1.0).tolist()
      [[3, 2, 1]]

    Source: DLB 7.4.
    """
    image = as_image("random_flip", image)
    if axis not in (0, 1):
        raise ValueError(f"random_flip(axis=...) must be 0 or 1, got {axis}")
    if not 0 <= probability <= 1:
        raise ValueError(f"random_flip(probability=...) must lie in [0, 1], got {probability}")
    return jnp.where(
        jax.random.bernoulli(key, jnp.float32(probability)), jnp.flip(image, axis), image
    )


def random_crop(key: Array, image: ArrayLike, *, padding: int) -> Array:
    """Put a border of zeros around an image and cut a random piece of the old size out.

    A shift by whole pixels, uniform in -padding..padding down and across, independently.

    Args:
      key: one typed PRNG key.
      image: (H, W) or (H, W, C).
      padding: width of the border in pixels, >= 0.

    Returns:
      The shape and dtype of `image`.

    Raises:
      ValueError: a wrong shape or a negative padding.

    Example:
      >>> random_crop(jax.random.key(0), jnp.ones((4, 4)), padding=1).shape
      (4, 4)

    Source: DLB 7.4; He et al. 2016, arXiv 1512.03385, section 4.2.
    """
    image = as_image("random_crop", image)
    if padding < 0:
        raise ValueError(f"random_crop(padding=...) must be >= 0, got {padding}")
    channels = ((0, 0),) * (image.ndim - 2)
    padded = jnp.pad(image, ((padding, padding), (padding, padding), *channels))
    top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    start = (top, left, *(jnp.zeros_like(top) for _ in channels))
    return jax.lax.dynamic_slice(padded, start, image.shape)


def cutout(key: Array, image: ArrayLike, *, size: int, fill: float = 0.0) -> Array:
    """Blank a square of an image.

    The square's centre is uniform over the pixels; what lies beyond the border is lost, so that
    at most size^2 pixels change.

    Args:
      key: one typed PRNG key.
      image: (H, W) or (H, W, C).
      size: side of the square in pixels, >= 0.
      fill: the new value.

    Returns:
      The shape and dtype of `image`.

    Raises:
      ValueError: a wrong shape or a negative size.

    Example:
      >>> int((cutout(jax.random.key(0), jnp.ones((9, 9)), size=1) == 0).sum())
      1

    Source: DeVries and Taylor 2017, arXiv 1708.04552.
    """
    image = as_image("cutout", image)
    if size < 0:
        raise ValueError(f"cutout(size=...) must be >= 0, got {size}")
    height, width = image.shape[:2]
    key_row, key_column = jax.random.split(key)
    top = jax.random.randint(key_row, (), 0, height) - size // 2
    left = jax.random.randint(key_column, (), 0, width) - size // 2
    inside = box((height, width), top, left, top + size, left + size)
    inside = inside.reshape(inside.shape + (1,) * (image.ndim - 2))
    return jnp.where(inside, jnp.asarray(fill, image.dtype), image)


def box(
    size: tuple[int, int],
    top: ArrayLike,
    left: ArrayLike,
    bottom: ArrayLike,
    right: ArrayLike,
) -> Array:
    """Mark the pixels with top <= row < bottom and left <= column < right: bool (H, W)."""
    row, column = jnp.arange(size[0])[:, None], jnp.arange(size[1])[None, :]
    return ((row >= top) & (row < bottom)) & ((column >= left) & (column < right))


def as_image(function: str, image: ArrayLike) -> Array:
    """Return the image as an array, or raise ValueError for one that is no (H, W[, C])."""
    image = jnp.asarray(image)
    if image.ndim not in (2, 3):
        raise ValueError(f"{function}(image) must be (H, W) or (H, W, C), got {image.shape}")
    return image
