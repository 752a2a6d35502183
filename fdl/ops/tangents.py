"""Tangent vectors: how an image changes, to first order, when it is moved, turned or scaled."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.ops.smoothing import gaussian_smooth
from fdl.types import Array

Change: TypeAlias = Literal[
    "translate_x", "translate_y", "rotate", "scale", "axis", "diagonal", "thickness"
]

# of dI/dx, dI/dy and the position from the centre; x across, y down
CHANGES: dict[str, Callable[[Array, Array, Array, Array], Array]] = {
    "translate_x": lambda ix, iy, x, y: ix,
    "translate_y": lambda ix, iy, x, y: iy,
    "rotate": lambda ix, iy, x, y: y * ix - x * iy,
    "scale": lambda ix, iy, x, y: x * ix + y * iy,
    "axis": lambda ix, iy, x, y: x * ix - y * iy,
    "diagonal": lambda ix, iy, x, y: y * ix + x * iy,
    "thickness": lambda ix, iy, x, y: ix**2 + iy**2,
}


def tangents(
    images: ArrayLike,
    *,
    changes: Sequence[Change] = ("translate_x", "translate_y", "rotate", "scale"),
    sigma: float = 0.0,
    unit: bool = False,
) -> Array:
    """Differentiate images with respect to small changes that keep their meaning.

    | change | tangent | the image |
    | --- | --- | --- |
    | translate_x | I_x | moves left |
    | translate_y | I_y | moves up |
    | rotate | y I_x - x I_y | turns |
    | scale | x I_x + y I_y | shrinks |
    | axis | x I_x - y I_y | grows narrow and tall |
    | diagonal | y I_x + x I_y | is pressed along one diagonal |
    | thickness | I_x^2 + I_y^2 | gets thicker strokes |

    I_x is the derivative across, I_y down, from central differences, one-sided at the borders; x
    and y are counted in pixels from the centre ((H-1)/2, (W-1)/2).

    A pixel image is not differentiable: tangents hold for changes of about a pixel, or of about
    `sigma` if the image is smoothed first. Then compare images smoothed alike.

    Args:
      images: (..., H, W), floating point, at least 2 pixels each way. Channels: `jax.vmap` over
        them.
      changes: which, in the order of the result; at least one.
      sigma: of a Gaussian that smooths the image first, in pixels.
      unit: divide each tangent by its norm, so that one ridge suits all; one that is 0 stays 0.

    Returns:
      (..., len(changes), H, W), the dtype of `images`.

    Raises:
      ValueError: for images of another form, no or an unknown change, or a negative sigma.

    Example:
      >>> ramp = jnp.arange(3.0) + jnp.zeros((3, 1))  # brighter to the right
      >>> tangents(ramp, changes=["translate_x", "translate_y", "scale"])[:, 0].tolist()
      [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 1.0]]

    Source: Simard et al. 1998, Transformation invariance in pattern recognition, section 3; DLB
    7.14.
    """
    image = gaussian_smooth(images, sigma)
    height, width = image.shape[-2:]
    if min(height, width) < 2:
        raise ValueError(f"tangents(images) must have 2 pixels or more each way, got {image.shape}")
    if not changes or any(change not in CHANGES for change in changes):
        known = ", ".join(CHANGES)
        raise ValueError(f"tangents(changes=...) must be some of {known}, got {list(changes)}")
    down, across = (jnp.asarray(jnp.gradient(image, axis=axis)) for axis in (-2, -1))
    y, x = _positions(height, image), _positions(width, image)
    y, x = (jnp.broadcast_to(p, image.shape) for p in (y[:, None], x))
    found = jnp.stack([CHANGES[change](across, down, x, y) for change in changes], axis=-3)
    return _unit(found) if unit else found


def _positions(size: int, like: Array) -> Array:
    return jnp.arange(size, dtype=like.dtype) - (size - 1) / 2


def _unit(vectors: Array) -> Array:
    norms = jnp.sqrt((vectors**2).sum((-2, -1), keepdims=True))
    return vectors / jnp.where(norms > 0, norms, 1)
