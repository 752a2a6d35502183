"""Rectified linear units and their generalisations: all piecewise linear in their input."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array


def rectifier(x: ArrayLike, alpha: ArrayLike) -> Array:
    """Apply the generalised rectifier: max(0, x) + alpha * min(0, x).

    alpha = 0 is the rectified linear unit, -1 the absolute value, 0.01 the leaky unit; a learned
    alpha makes it a parametric one. The derivative at 0 is the left one, alpha.

    Args:
      x: pre-activations, any shape, floating point.
      alpha: slope for negative x; a scalar or an array of the shape of the last axes of x.

    Returns:
      An array of x's shape.

    Raises:
      ValueError: when alpha has another shape.

    Example:
      >>> rectifier(jnp.array([-2.0, 0.0, 3.0]), 0.5)
      Array([-1.,  0.,  3.], dtype=float32)

    Source: DLB 6.3.1, h_i = g(z, alpha)_i.
    """
    x, alpha = jnp.asarray(x), jnp.asarray(alpha)
    if alpha.ndim > x.ndim or alpha.shape != x.shape[x.ndim - alpha.ndim :]:
        raise ValueError(
            "rectifier(alpha=...) must be a scalar or have the shape of the last axes of x "
            f"{x.shape}, got {alpha.shape}"
        )
    alpha = alpha.astype(x.dtype).reshape((1,) * (x.ndim - alpha.ndim) + alpha.shape)
    return jnp.where(x > 0, x, alpha * x)


def leaky_relu(x: ArrayLike, negative_slope: float = 0.01) -> Array:
    """Apply the leaky rectified linear unit: x if x > 0 else negative_slope * x.

    Differs from `jax.nn.leaky_relu` at 0 only, where that has derivative 1 and this negative_slope,
    the left derivative, as all rectifiers here (and `jax.nn.relu`, 0) have it.

    Args:
      x: pre-activations, any shape, floating point.
      negative_slope: slope for negative x.

    Returns:
      An array of x's shape.

    Example:
      >>> leaky_relu(jnp.array([-2.0, 3.0]), 0.1)
      Array([-0.2,  3. ], dtype=float32)

    Source: Maas et al. 2013; DLB 6.3.1.
    """
    return rectifier(x, negative_slope)


def absolute(x: ArrayLike) -> Array:
    """Apply the absolute value rectifier: |x|, the generalised rectifier with alpha = -1.

    The derivative at 0 is 0, the middle of the one-sided ones.

    Args:
      x: pre-activations, any shape, floating point.

    Returns:
      An array of x's shape.

    Example:
      >>> absolute(jnp.array([-2.0, 3.0]))
      Array([2., 3.], dtype=float32)

    Source: Jarrett et al. 2009; DLB 6.3.1.
    """
    x = jnp.asarray(x)
    return x * jnp.sign(x)  # the derivative of jnp.abs at 0 is 1


def prelu(x: ArrayLike, alpha: ArrayLike) -> Array:
    """Apply the parametric rectified linear unit: x if x > 0 else alpha * x, with alpha learned.

    The same function as `rectifier` under the name it has when alpha is a parameter:
    d/dalpha = min(0, x). `fdl.models.PReLU` holds the parameter.

    Args:
      x: pre-activations, shape (..., features).
      alpha: slope for negative x, shape (features,) or ().

    Returns:
      An array of x's shape.

    Raises:
      ValueError: when alpha has another shape.

    Example:
      >>> prelu(jnp.array([[-2.0, -2.0]]), jnp.array([0.25, 0.5]))
      Array([[-0.5, -1. ]], dtype=float32)

    Source: He et al. 2015, arXiv 1502.01852, equation 1; DLB 6.3.1.
    """
    return rectifier(x, alpha)


def maxout(z: ArrayLike, pieces: int) -> Array:
    """Take the largest of each group of `pieces` consecutive pre-activations.

    h_i = max_{j < pieces} z[i * pieces + j]

    A convex piecewise linear function of the layer's input, learned; with two pieces (z, 0) it is
    the rectified linear unit, with (z, -z) the absolute value. Ties share the derivative equally.

    Args:
      z: pre-activations, shape (..., units * pieces), floating point.
      pieces: size of a group, >= 1.

    Returns:
      An array of shape (..., units).

    Raises:
      ValueError: when `pieces` does not divide the last axis.

    Example:
      >>> maxout(jnp.array([[1.0, 4.0, -3.0, -2.0]]), 2)
      Array([[ 4., -2.]], dtype=float32)

    Source: Goodfellow et al. 2013, arXiv 1302.4389; DLB 6.3.1, g(z)_i = max_{j in G(i)} z_j.
    """
    z = jnp.asarray(z)
    if pieces < 1 or z.ndim == 0 or z.shape[-1] % pieces:
        raise ValueError(
            f"maxout(pieces=...) must be >= 1 and divide the last axis of z {z.shape}, got {pieces}"
        )
    return z.reshape(*z.shape[:-1], z.shape[-1] // pieces, pieces).max(-1)
