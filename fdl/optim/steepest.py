"""Steepest descent with a sensible length: where methods that learn curvature begin and restart."""

import jax.numpy as jnp

from fdl import tree
from fdl.types import Array, Params, PyTree


def length(params: Params, updates: PyTree, value: Array | None = None) -> Array:
    """Return the factor that makes of a gradient a first step of a likely length.

        min(1, 4 |f| / |g|^2, 10 max(1, |x|) / |g|),  at least a thousandth of min(1, 1 / |g|)

    The middle one is twice the step to the zero of the parabola that touches zero: right in order
    of magnitude for sums of squares and likelihoods, and a line search mends the rest. Without a
    value it is min(1, 1 / |g|), as in scipy and optax.

    Args:
      params: x.
      updates: g.
      value: f(x), if known.

    Example:
      >>> g = jnp.array([3.0, 4.0], jnp.float32)
      >>> round(float(length(g, g)), 3), round(float(length(g, g, jnp.float32(2.5))), 3)
      (0.2, 0.4)

    Source: Hager and Zhang 2006, step I0, with other constants.
    """
    size = tree.norm(updates)
    cautious = jnp.minimum(1.0, 1.0 / size)
    if value is None:
        return cautious
    height = jnp.abs(jnp.asarray(value)).astype(size.dtype).reshape(())
    near = 10 * jnp.maximum(1.0, tree.norm(params)) / size
    likely = jnp.minimum(jnp.minimum(1.0, 4 * height / size / size), near)
    return jnp.where(height > 0, jnp.maximum(likely, 1e-3 * cautious), cautious)


def downhill(updates: PyTree, direction: PyTree) -> Array:
    """Tell whether -direction leads down: g'd > 1e-12 |g| |d|, all of it finite.

    Args:
      updates: g, the gradient.
      direction: d, of the gradient's sign.

    Example:
      >>> g = jnp.array([3.0, 4.0], jnp.float32)
      >>> bool(downhill(g, g)), bool(downhill(g, -g)), bool(downhill(g, jnp.nan * g))
      (True, False, False)
    """
    fall = tree.vdot(updates, direction)
    # what is not finite fails too: the sum is NaN, or infinite as the bound is
    return fall > 1e-12 * tree.norm(updates) * tree.norm(direction)


def least_curvature(dtype: jnp.dtype) -> float:
    """Return the cosine of step and change of gradient below which a pair shows no curvature.

    Example:
      >>> least_curvature(jnp.dtype("float64"))
      1e-10
    """
    return 1e-10 if dtype == jnp.float64 else float(jnp.finfo(dtype).eps) ** 0.5
