"""Penalties on the derivative of a model along directions in which its input may change."""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array

Outputs: TypeAlias = Callable[[Array], Array]  # (b, ...) -> (b, ...), example by example


def directional_derivatives(function: Outputs, x: ArrayLike, directions: ArrayLike) -> Array:
    """Differentiate the outputs of each example along its own directions.

    J_i v_ij, with J_i = df(x_i)/dx; forward mode, without forming J.

    Args:
      function: (b, ...) -> (b, ...); the output of an example depends on that example only, so
        normalise by running statistics.
      x: inputs, (b, ...), floating point.
      directions: v, (b, k, ...).

    Returns:
      (b, k) followed by the shape of an output.

    Raises:
      ValueError: when the directions do not have the shape of the inputs.

    Example:
      >>> x, v = jnp.array([[1.0, 2.0]]), jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
      >>> directional_derivatives(lambda x: x**2, x, v).tolist()
      [[[2.0, 0.0], [0.0, 4.0]]]
    """
    x, v = jnp.asarray(x), jnp.asarray(directions)
    if v.ndim != x.ndim + 1 or (v.shape[0], *v.shape[2:]) != x.shape:
        raise ValueError(
            f"directional_derivatives(directions) must be (b, k, ...) over x {x.shape}, "
            f"got {v.shape}"
        )
    along = lambda d: jax.jvp(function, (x,), (d.astype(x.dtype),))[1]  # noqa: E731
    return jax.vmap(along, in_axes=1, out_axes=1)(v)


def tangent_prop(
    function: Outputs, x: ArrayLike, tangents: ArrayLike, *, strength: float | Array
) -> Array:
    """Penalise the change of a model's outputs along the tangents of its inputs.

    strength * mean_i sum_j |J_i v_ij|^2

    The model learns that a small move along a tangent does not matter, of which augmentation would
    have to show it examples. It only says so about infinitesimal moves, and rectified units can
    obey by switching off.

    Args:
      function: (b, ...) -> outputs (b, ...), a closure over the parameters that are trained;
        example by example, as in `directional_derivatives`.
      x: inputs, (b, ...), floating point.
      tangents: v, (b, k, ...), such as those of `ops.tangents` or `leading_tangents`.
      strength: >= 0, of the unit loss / (output change)^2.

    Returns:
      A scalar.

    Raises:
      ValueError: for a negative strength, or tangents that do not have the shape of the inputs.

    Example:
      >>> total = lambda x: x.sum(-1, keepdims=True)
      >>> x, v = jnp.zeros((1, 2)), jnp.array([[[1.0, 1.0], [1.0, -1.0]]])
      >>> float(tangent_prop(total, x, v, strength=0.5))
      2.0

    Source: Simard et al. 1992, Tangent prop; DLB 7.14, equation 7.67.
    """
    if isinstance(strength, float | int) and not strength >= 0:
        raise ValueError(f"tangent_prop(strength=...) must be >= 0, got {strength}")
    change = directional_derivatives(function, x, tangents)
    return strength * (change**2).sum() / change.shape[0]
