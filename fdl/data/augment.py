"""Random changes of one image that keep its meaning; `jax.vmap` over images and keys for a batch.

Runs on the device, inside the step. An image is (H, W) or (H, W, C); positions are (row, column).
"""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array

Border: TypeAlias = Literal["grid-constant", "constant"]


def affine(
    image: ArrayLike,
    matrix: ArrayLike,
    shift: ArrayLike | None = None,
    *,
    border: Border = "grid-constant",
) -> Array:
    """Warp an image about its centre, bilinearly, with zeros around it.

    A pixel at p goes to M (p - c) + c + t with c = ((H-1)/2, (W-1)/2); so the value at p is read
    from M^-1 (p - c - t) + c.

    Args:
      image: (H, W) or (H, W, C), floating point.
      matrix: M, (2, 2) over (row, column), invertible.
      shift: t, (2,), in pixels, (down, right); None: no shift.
      border: what lies outside, in SciPy's words. "grid-constant": pixels of value 0, into which
        the image fades over one pixel; "constant": a read outside the image is 0 outright.

    Returns:
      The shape and dtype of `image`. Differentiable in `image`, `matrix` and `shift`; an M that is
      not invertible gives NaN.

    Raises:
      ValueError: a wrong shape, dtype or `border`.

    Example:
      >>> image = jnp.array([[0.0, 1.0], [0.0, 0.0]])
      >>> affine(image, jnp.array([[0.0, 1.0], [-1.0, 0.0]])).tolist()  # a quarter turn
      [[0.0, 0.0], [0.0, 1.0]]
      >>> affine(image, jnp.eye(2), jnp.array([0.5, 0.0])).tolist()
      [[0.0, 0.5], [0.0, 0.5]]

    Source: DLB 7.4; scipy.ndimage.affine_transform(order=1).
    """
    image, matrix = jnp.asarray(image), jnp.asarray(matrix)
    shift = jnp.zeros(2, matrix.dtype) if shift is None else jnp.asarray(shift)
    if image.ndim not in (2, 3) or not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(
            f"affine(image) must be floating, (H, W) or (H, W, C), got {image.dtype}{image.shape}"
        )
    if matrix.shape != (2, 2) or shift.shape != (2,):
        raise ValueError(
            f"affine(matrix, shift) must be (2, 2) and (2,), got {matrix.shape} and {shift.shape}"
        )
    if border not in ("grid-constant", "constant"):
        raise ValueError(
            f"affine(border=...) must be 'grid-constant' or 'constant', got {border!r}"
        )
    # bfloat16 cannot tell neighbouring pixels of a 512-pixel image apart.
    dtype = jnp.promote_types(image.dtype, jnp.float32)
    rows, columns = _sources(image.shape[:2], matrix.astype(dtype), shift.astype(dtype))
    return bilinear(image.astype(dtype), rows, columns, border).astype(image.dtype)


def random_affine(
    key: Array,
    image: ArrayLike,
    *,
    rotate: float = 0.0,
    scale: float = 0.0,
    translate: float = 0.0,
    shear: float = 0.0,
    border: Border = "grid-constant",
) -> Array:
    """Rotate, scale, shear and shift an image by random amounts, each uniform in its range.

    M = s R(a) [[1, 0], [h, 1]];  a, log s, h and both shifts are independent.

    It never mirrors an image. Which ranges keep the label is for the caller to know: 180 degrees
    make a 9 of a 6.

    Args:
      key: one typed PRNG key.
      image: (H, W) or (H, W, C), floating point.
      rotate: largest angle, degrees.
      scale: s in [1 / (1 + scale), 1 + scale].
      translate: largest shift along each axis, pixels.
      shear: largest h, pixels across per pixel down.
      border: as in `affine`.

    Returns:
      The shape and dtype of `image`.

    Raises:
      ValueError: a negative range, or as `affine`.

    Example:
      >>> keys = jax.random.split(jax.random.key(0), 4)
      >>> images = jnp.ones((4, 8, 8))
      >>> jax.vmap(lambda k, i: random_affine(k, i, rotate=10.0, translate=1.0))(keys, images).shape
      (4, 8, 8)

    Source: DLB 7.4.
    """
    ranges = {"rotate": rotate, "scale": scale, "translate": translate, "shear": shear}
    for name, value in ranges.items():
        if not value >= 0:
            raise ValueError(f"random_affine({name}=...) must be >= 0, got {value}")
    dtype = jnp.promote_types(jnp.asarray(image).dtype, jnp.float32)
    unit = jax.random.uniform(key, (5,), dtype, -1.0, 1.0)
    angle = jnp.deg2rad(rotate) * unit[0]
    factor = (1.0 + scale) ** unit[1]
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    slant = shear * unit[2]
    # Written out: a matrix product may run in 10 or 8 bits of precision on an accelerator.
    matrix = jnp.stack([cosine - slant * sine, -sine, sine + slant * cosine, cosine]).reshape(2, 2)
    return affine(image, factor * matrix, translate * unit[3:], border=border)


def _sources(size: tuple[int, ...], matrix: Array, shift: Array) -> tuple[Array, Array]:
    """Return where each pixel of the result is read: rows and columns, (H, W) each."""
    height, width = size
    (a, b), (c, d) = matrix
    inverse = jnp.stack([jnp.stack([d, -b]), jnp.stack([-c, a])]) / (a * d - b * c)
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2], matrix.dtype)
    offset = centre - (inverse * (centre + shift)[None, :]).sum(axis=1)
    row = jnp.arange(height, dtype=matrix.dtype)[:, None]
    column = jnp.arange(width, dtype=matrix.dtype)[None, :]
    rows = inverse[0, 0] * row + inverse[0, 1] * column + offset[0]
    columns = inverse[1, 0] * row + inverse[1, 1] * column + offset[1]
    return rows, columns


def bilinear(image: Array, rows: Array, columns: Array, border: Border = "grid-constant") -> Array:
    """Read an image between its pixels, at (H, W) positions, with zeros around it."""
    height, width = image.shape[:2]
    channels = (1,) * (image.ndim - 2)
    top, left = jnp.floor(rows), jnp.floor(columns)
    down, right = rows - top, columns - left
    total = jnp.zeros(rows.shape + image.shape[2:], image.dtype)
    for r, share_r in ((0, 1 - down), (1, down)):
        for c, share_c in ((0, 1 - right), (1, right)):
            weight = share_r * share_c
            total += weight.reshape(weight.shape + channels) * _read(image, top + r, left + c)
    if border == "constant":
        inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
        total = jnp.where(inside.reshape(inside.shape + channels), total, 0)
    return total


def _read(image: Array, rows: Array, columns: Array) -> Array:
    """Return the pixels at whole positions; 0 outside."""
    height, width = image.shape[:2]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    # Positions far outside do not fit an int32; the nearest pixel is read there, and not used.
    row = jnp.clip(rows, 0, height - 1).astype(jnp.int32)
    column = jnp.clip(columns, 0, width - 1).astype(jnp.int32)
    pixels = image.reshape((height * width,) + image.shape[2:])
    value = pixels.at[row * width + column].get(mode="promise_in_bounds")
    return jnp.where(inside.reshape(inside.shape + (1,) * (image.ndim - 2)), value, 0)
