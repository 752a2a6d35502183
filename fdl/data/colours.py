"""Random changes of the light and the colours of one image.

Each takes one key and one floating-point image, (H, W) or (H, W, C); `jax.vmap` over both for a
batch. Nothing is clipped unless a range is given.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.data.crops import as_image
from fdl.types import Array

Range = tuple[float, float]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: how bright red, green and blue look


def random_brightness(
    key: Array, image: ArrayLike, *, amount: float, data_range: Range | None = None
) -> Array:
    """Add one random number to all pixels: x + d, d uniform in [-amount, amount].

    Args:
      key: one typed PRNG key.
      image: (H, W) or (H, W, C), floating point.
      amount: >= 0, in the units of the image.
      data_range: (low, high) to clip to; None: no limit.

    Returns:
      The shape and dtype of `image`.

    Raises:
      ValueError: a wrong shape or dtype, or a negative amount.

    Example:
      >>> lit = random_brightness(jax.random.key(0), jnp.zeros((2, 2)), amount=0.5)
      >>> bool((lit == lit[0, 0]).all()), bool(abs(lit[0, 0]) <= 0.5)
      (True, True)

    Source: DLB 7.4.
    """
    image, unit = _unit("random_brightness", key, image, amount)
    return _clip(image + (amount * unit[0]).astype(image.dtype), data_range)


def random_contrast(
    key: Array, image: ArrayLike, *, amount: float, data_range: Range | None = None
) -> Array:
    """Stretch the pixels about their mean: m + s (x - m), log s uniform within log(1 + amount).

    m is the mean of each channel, which does not change.

    Args:
      key: one typed PRNG key.
      image: (H, W) or (H, W, C), floating point.
      amount: s in [1 / (1 + amount), 1 + amount].
      data_range: (low, high) to clip to; None: no limit.

    Returns:
      The shape and dtype of `image`.

    Raises:
      ValueError: a wrong shape or dtype, or a negative amount.

    Example:
      >>> image = jnp.array([[0.0, 1.0]])
      >>> round(float(random_contrast(jax.random.key(0), image, amount=0.5).mean()), 6)
      0.5

    Source: DLB 7.4, 12.2.1.1 (where contrast is removed instead).
    """
    image, unit = _unit("random_contrast", key, image, amount)
    factor = ((1.0 + amount) ** unit[0]).astype(image.dtype)
    mean = image.mean((0, 1), keepdims=True)
    return _clip(mean + factor * (image - mean), data_range)


def random_colour(
    key: Array, image: ArrayLike, *, amount: float, data_range: Range | None = None
) -> Array:
    """Change the saturation of an RGB image, and the light of each channel.

    With grey g = .299 r + .587 g + .114 b of each pixel:  f_c (g + s (x_c - g)), where s and the
    three f_c are independent, their logs uniform within log(1 + amount).

    Args:
      key: one typed PRNG key.
      image: (H, W, 3), floating point.
      amount: s and f in [1 / (1 + amount), 1 + amount].
      data_range: (low, high) to clip to; None: no limit.

    Returns:
      The shape and dtype of `image`.

    Raises:
      ValueError: a wrong shape or dtype, or a negative amount.

    Example:
      >>> random_colour(jax.random.key(0), jnp.ones((4, 4, 3)), amount=0.2).shape
      (4, 4, 3)

    Source: DLB 7.4; Howard 2013, arXiv 1312.5402, section 2.
    """
    image, unit = _unit("random_colour", key, image, amount)
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"random_colour(image) must be (H, W, 3), got {image.shape}")
    factor = ((1.0 + amount) ** unit).astype(image.dtype)
    weights = jnp.asarray(_LUMA, image.dtype)[None, None, :]
    grey = (weights * image).sum(2, keepdims=True)
    return _clip(factor[None, None, 1:] * (grey + factor[0] * (image - grey)), data_range)


def _unit(function: str, key: Array, image: ArrayLike, amount: float) -> tuple[Array, Array]:
    """Return the image, checked, and four numbers uniform in [-1, 1]."""
    image = as_image(function, image)
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(f"{function}(image) must be floating point, got {image.dtype}")
    if not amount >= 0:
        raise ValueError(f"{function}(amount=...) must be >= 0, got {amount}")
    dtype = jnp.promote_types(image.dtype, jnp.float32)
    return image, jax.random.uniform(key, (4,), dtype, -1.0, 1.0)


def _clip(image: Array, data_range: Range | None) -> Array:
    return image if data_range is None else jnp.clip(image, *data_range)
