"""Curvature matrices written out: for trees of at most some thousand numbers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fdl import tree
from fdl.curvature.products import Operator, gnvp_operator, hvp_operator
from fdl.types import Array, Params


def hessian(fun: Callable[[Params], Array], params: Params) -> Array:
    """Return the Hessian over the ravelled tree: H_ij = d2 fun / d theta_i d theta_j.

    n Hessian-vector products at once; memory grows as n times that of one gradient.

    Args:
      fun: params -> scalar.
      params: arrays of any shape, n real numbers in all, in the order of `fdl.tree.ravel`.

    Returns:
      A symmetric matrix [n, n], float32 at least.

    Example:
      >>> hessian(lambda p: p["x"] ** 2 * p["y"], {"x": 3.0, "y": 2.0}).tolist()
      [[4.0, 6.0], [6.0, 0.0]]

    Source: DLB 4.3.1, equation 4.6.
    """
    flat, unravel = tree.ravel(params)
    return matrix(hvp_operator(lambda x: fun(unravel(x)), flat)[1], flat)


def gauss_newton(
    model: Callable[[Params], Any], loss: Callable[[Any], Array], params: Params
) -> Array:
    """Return the generalised Gauss-Newton matrix G = J' H_L J over the ravelled tree.

    Args:
      model: params -> outputs, any tree of arrays.
      loss: outputs -> scalar.
      params: arrays of any shape, n real numbers in all, in the order of `fdl.tree.ravel`.

    Returns:
      A symmetric matrix [n, n], float32 at least.

    Example:
      >>> loss = lambda outputs: 0.5 * jnp.sum(outputs**2)
      >>> gauss_newton(lambda p: jnp.array([p[0] * p[1]]), loss, jnp.array([1.0, 2.0])).tolist()
      [[4.0, 2.0], [2.0, 1.0]]

    Source: Schraudolph 2002.
    """
    flat, unravel = tree.ravel(params)
    return matrix(gnvp_operator(lambda x: model(unravel(x)), loss, flat)[1], flat)


def matrix(operator: Operator, like: Array) -> Array:
    """Write out a symmetric linear operator of flat vectors, and remove what rounding makes odd.

    Args:
      operator: [n] -> [n], linear and symmetric.
      like: [n], the type to compute in.

    Returns:
      The matrix [n, n].

    Example:
      >>> matrix(lambda v: 2.0 * v, jnp.zeros(2)).tolist()
      [[2.0, 0.0], [0.0, 2.0]]
    """
    rows = jax.vmap(operator)(jnp.eye(like.size, dtype=like.dtype))
    return 0.5 * (rows + rows.T)
