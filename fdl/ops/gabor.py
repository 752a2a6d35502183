"""Gabor functions: what simple cells of the visual cortex, and first layers, respond to."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array


def gabor(
    x: ArrayLike,
    y: ArrayLike,
    *,
    frequency: ArrayLike,
    orientation: ArrayLike = 0.0,
    phase: ArrayLike = 0.0,
    beta_x: ArrayLike,
    beta_y: ArrayLike,
    amplitude: ArrayLike = 1.0,
    x0: ArrayLike = 0.0,
    y0: ArrayLike = 0.0,
) -> Array:
    """Evaluate a Gabor function: a cosine wave under a Gaussian window.

    w = amplitude exp(-beta_x x'^2 - beta_y y'^2) cos(frequency x' + phase)
    x' = (x - x0) cos(t) + (y - y0) sin(t),   y' = -(x - x0) sin(t) + (y - y0) cos(t)

    Phases p and p + pi/2 are a quadrature pair: the sum of their squared responses to a grating
    does not depend on where its stripes are, as in a complex cell. The real part of
    `skimage.filters.gabor_kernel(f, theta=t, sigma_x=s, sigma_y=u, offset=p)` is this with
    frequency = 2 pi f, beta_x = 1 / (2 s^2), beta_y = 1 / (2 u^2) and amplitude = 1 / (2 pi s u);
    its imaginary part the same with phase p - pi/2.

    Args:
      x: horizontal positions, any shape.
      y: vertical positions; all arguments are broadcast against each other.
      frequency: of the wave, radians per unit of length.
      orientation: t, direction in which the wave runs, radians.
      phase: radians.
      beta_x: steepness of the window along the wave, >= 0, per squared unit of length.
      beta_y: the same across it.
      amplitude: of the whole.
      x0: centre.
      y0: centre.

    Returns:
      w, of the shape that all arguments are broadcast to.

    Example:
      >>> wave = gabor(jnp.array([0.0, 1.0]), 0.0, frequency=jnp.pi, beta_x=0.5, beta_y=0.5)
      >>> [round(float(w), 4) for w in wave]
      [1.0, -0.6065]

    Source: DLB 9.10, equations 9.16 to 9.18.
    """
    right, down = jnp.subtract(x, x0), jnp.subtract(y, y0)
    along = right * jnp.cos(orientation) + down * jnp.sin(orientation)
    across = down * jnp.cos(orientation) - right * jnp.sin(orientation)
    window = jnp.exp(-(beta_x * jnp.square(along) + beta_y * jnp.square(across)))
    return jnp.multiply(amplitude, window * jnp.cos(jnp.multiply(frequency, along) + phase))
