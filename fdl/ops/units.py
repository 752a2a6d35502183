"""Smooth and saturating hidden units, and the radial basis function unit.

JAX's own functions are used under JAX's names where they agree with the definition and have a
usable derivative at their kinks; what is written out here is what JAX has not or has otherwise.
"""

import jax.numpy as jnp
from jax import nn
from jax.nn import celu as celu
from jax.nn import elu as elu
from jax.nn import hard_sigmoid as hard_sigmoid
from jax.nn import hard_silu as hard_silu
from jax.nn import hard_swish as hard_swish
from jax.nn import log_sigmoid as log_sigmoid
from jax.nn import mish as mish
from jax.nn import relu as relu
from jax.nn import relu6 as relu6
from jax.nn import selu as selu
from jax.nn import sigmoid as sigmoid
from jax.nn import silu as silu
from jax.nn import soft_sign as soft_sign
from jax.nn import softplus as softplus
from jax.nn import squareplus as squareplus
from jax.nn import swish as swish
from jax.nn import tanh as tanh
from jax.typing import ArrayLike

from fdl.types import Array


def gelu(x: ArrayLike, *, approximate: bool = False) -> Array:
    """Apply the Gaussian error linear unit: x * Phi(x), Phi the normal distribution function.

    The exact form (erf) is the default here, as in PyTorch; `jax.nn.gelu` and `nnx.gelu` default to
    the tanh approximation, x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))), off by up to 5e-4.

    Args:
      x: pre-activations, any shape, floating point.
      approximate: True for the tanh form.

    Returns:
      An array of x's shape.

    Example:
      >>> [round(float(h), 4) for h in gelu(jnp.array([-1.0, 1.0]))]
      [-0.1587, 0.8413]

    Source: Hendrycks and Gimpel 2016, arXiv 1606.08415.
    """
    return nn.gelu(x, approximate=approximate)


def hard_tanh(x: ArrayLike) -> Array:
    """Apply the hard tanh: max(-1, min(1, x)).

    Differs from `jax.nn.hard_tanh` at -1 and 1 only, where the derivative is that of the flat side,
    0, as `hard_sigmoid` and `hard_silu` have it.

    Args:
      x: pre-activations, any shape, floating point.

    Returns:
      An array of x's shape.

    Example:
      >>> hard_tanh(jnp.array([-3.0, 0.5, 3.0]))
      Array([-1. ,  0.5,  1. ], dtype=float32)

    Source: Collobert 2004; DLB 6.3.3.
    """
    x = jnp.asarray(x)
    return jnp.where(jnp.abs(x) < 1, x, jnp.sign(x))


def soft_shrink(x: ArrayLike, threshold: ArrayLike = 0.5) -> Array:
    """Shrink towards 0: sign(x) * max(|x| - threshold, 0), also known as soft thresholding.

    It is the proximal operator of threshold * |.|_1. The derivative at +-threshold is that of the
    flat side, 0.

    Args:
      x: any shape, floating point.
      threshold: >= 0; a number, or an array of x's rank.

    Returns:
      An array of x's shape, exactly 0 where |x| <= threshold.

    Raises:
      ValueError: when the threshold is a negative number.

    Example:
      >>> soft_shrink(jnp.array([-2.0, 0.3, 1.0]), 0.5)
      Array([-1.5,  0. ,  0.5], dtype=float32)

    Source: Donoho 1995; DLB 7.1.2, equation 7.23.
    """
    if isinstance(threshold, float | int) and threshold < 0:
        raise ValueError(f"soft_shrink(threshold=...) must be >= 0, got {threshold}")
    x = jnp.asarray(x)
    threshold = jnp.asarray(threshold, x.dtype)
    # the comparison is written so that a NaN stays one
    return jnp.where(jnp.abs(x) <= threshold, jnp.zeros_like(x), x - jnp.sign(x) * threshold)


def tanh_shrink(x: ArrayLike) -> Array:
    """Apply x - tanh(x): flat near 0, linear far from it, a smooth relative of `soft_shrink`.

    Args:
      x: pre-activations, any shape, floating point.

    Returns:
      An array of x's shape.

    Example:
      >>> [round(float(h), 4) for h in tanh_shrink(jnp.array([0.0, 2.0]))]
      [0.0, 1.036]

    Source: Kavukcuoglu et al. 2010, arXiv 1010.3467 (encoder of predictive sparse decomposition).
    """
    x = jnp.asarray(x)
    return x - jnp.tanh(x)


def rbf(x: ArrayLike, centres: ArrayLike, sigma: ArrayLike) -> Array:
    """Apply radial basis function units: exp(-|x - c_i|^2 / (2 sigma_i^2)).

    A unit answers near its template c_i and is flat (0 derivative) far from it, which makes it hard
    to train from centres that lie far from the data. The squared distance is taken from the
    differences, not from x.x - 2 x.c + c.c, which loses all digits near a centre; it needs memory
    for (..., units, features) numbers.

    Args:
      x: inputs, shape (..., features), floating point.
      centres: templates, shape (units, features); column i of the book's W is row i.
      sigma: widths > 0 in the unit of x, shape (units,).

    Returns:
      An array of shape (..., units) with values in (0, 1].

    Raises:
      ValueError: when the shapes do not fit.

    Example:
      >>> h = rbf(jnp.zeros(2), jnp.array([[0.0, 0.0], [1.0, 1.0]]), jnp.ones(2))
      >>> [round(float(h_i), 4) for h_i in h]
      [1.0, 0.3679]

    Source: DLB 6.3.3, h_i = exp(-|W_{:,i} - x|^2 / sigma_i^2) with sigma_i^2 there = 2 sigma_i^2
    here.
    """
    x, centres, sigma = jnp.asarray(x), jnp.asarray(centres), jnp.asarray(sigma)
    if centres.ndim != 2 or x.shape[-1:] != centres.shape[1:] or sigma.shape != centres.shape[:1]:
        raise ValueError(
            "rbf(x, centres, sigma) must have shapes (..., features), (units, features), (units,), "
            f"got {x.shape}, {centres.shape}, {sigma.shape}"
        )
    ones = (1,) * (x.ndim - 1)
    difference = x[..., None, :] - centres.reshape(*ones, *centres.shape)
    return jnp.exp(-jnp.square(difference).sum(-1) / (2 * jnp.square(sigma)).reshape(*ones, -1))
