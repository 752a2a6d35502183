"""Noise on the parameters."""

import jax
import jax.numpy as jnp

from fdl import axes
from fdl.regularizers.select import Select, mask, weights_only
from fdl.types import Array, Params


def weight_noise(
    key: Array,
    params: Params,
    scale: float | Array,
    *,
    select: Select = weights_only,
    axis: str | None = axes.DATA,
) -> Params:
    """Add Gaussian noise to the weights: w + scale z, z ~ N(0, I); once for a whole batch.

    Evaluate the loss there and differentiate with respect to `params`. For small noise the
    expected squared error of an output f grows by scale^2 |df/dw|^2, exactly so for a linear
    model: minima are preferred whose surroundings are flat.

    Args:
      key: one typed PRNG key, or one for each example, (b,), as a step hands them to an objective:
        then that of the first example of the whole batch is used, on all devices.
      params: any tree of floating-point arrays.
      scale: standard deviation, >= 0.
      select: which leaves are noisy; the weights by default.
      axis: the axis name over which the examples are spread.

    Returns:
      A tree of the same structure, shapes and dtypes.

    Raises:
      ValueError: a negative scale.

    Example:
      >>> params = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
      >>> noisy = weight_noise(jax.random.key(0), params, 0.1)
      >>> bool((noisy["kernel"] != 0).all()), noisy["bias"].tolist()
      (True, [0.0, 0.0])

    Source: DLB 7.5, equations 7.31 and 7.32; Graves 2011.
    """
    if isinstance(scale, float | int) and not scale >= 0:
        raise ValueError(f"weight_noise(scale=...) must be >= 0, got {scale}")
    key = _first(key, axis) if key.ndim else key
    leaves, structure = jax.tree.flatten(params)
    chosen = jax.tree.leaves(mask(select)(params))

    def noisy(i: int, p: Array) -> Array:
        dtype = jnp.promote_types(jnp.result_type(p), jnp.float32)
        z = jax.random.normal(jax.random.fold_in(key, i), jnp.shape(p), dtype)
        return (p + scale * z).astype(jnp.result_type(p))

    pairs = zip(leaves, chosen, strict=True)
    return jax.tree.unflatten(
        structure, [noisy(i, p) if c else p for i, (p, c) in enumerate(pairs)]
    )


def _first(keys: Array, axis: str | None) -> Array:
    """Return the key of the first example of the first device."""
    words = jax.random.key_data(keys[0])
    mine = jnp.asarray(axes.index(axis)) == 0
    words = axes.total(jnp.where(mine, words, jnp.zeros_like(words)), axis)
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(keys))
