"""Norm penalties: scalars to add to the loss.

They do in the loss what the name says for any optimizer that follows the gradient. Under Adam and
its kin the gradient of a penalty is rescaled with the rest, so that large gradients switch the
penalty off; `fdl.optim.decoupled_l2` and `fdl.optim.proximal_l1` act on the parameters instead.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp

from fdl.regularizers.select import Select, selected, weights_only
from fdl.types import Array, Params


def l2(params: Params, strength: float | Array, *, select: Select = weights_only) -> Array:
    """Penalise the squared norm: strength / 2 * |w|^2.

    Its gradient is strength * w. Along an eigenvector of the loss's Hessian with eigenvalue lambda
    the minimum moves from w to lambda / (lambda + strength) * w. The negative log-density of a
    Gaussian prior of variance 1 / strength.

    Args:
      params: any tree.
      strength: >= 0, of the unit loss / w^2.
      select: which leaves count; the weights by default.

    Returns:
      A scalar, at least float32.

    Raises:
      ValueError: when the strength is a negative number or nothing is selected.

    Example:
      >>> float(l2({"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}, 0.5))
      1.5

    Source: DLB 7.1.1, equations 7.2 and 7.13.
    """
    _check("l2(strength=...)", strength)
    return 0.5 * strength * _total(params, select, jnp.square)


def l1(params: Params, strength: float | Array, *, select: Select = weights_only) -> Array:
    """Penalise the sum of absolute values: strength * |w|_1.

    Its gradient is strength * sign(w), 0 at 0. The minimum is sparse, but following the gradient
    only comes near to its zeros: `fdl.optim.proximal_l1` reaches them. The negative log-density of
    a Laplace prior of scale 1 / strength.

    Args:
      params: any tree.
      strength: >= 0, of the unit loss / w.
      select: which leaves count; the weights by default.

    Returns:
      A scalar, at least float32.

    Raises:
      ValueError: when the strength is a negative number or nothing is selected.

    Example:
      >>> float(l1({"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.ones(2)}, 0.5))
      1.5

    Source: DLB 7.1.2, equation 7.19.
    """
    _check("l1(strength=...)", strength)
    # the derivative of jnp.abs at 0 is 1
    return strength * _total(params, select, lambda w: w * jnp.sign(w))


def elastic_net(
    params: Params,
    strength: float | Array,
    *,
    l1_ratio: float,
    select: Select = weights_only,
) -> Array:
    """Penalise both norms: strength * (l1_ratio * |w|_1 + (1 - l1_ratio) / 2 * |w|^2).

    Sparse like l1, but weights of inputs that say the same share the work, as with l2.

    Args:
      params: any tree.
      strength: >= 0.
      l1_ratio: share of the first norm, in [0, 1]; as scikit-learn's ElasticNet has it.
      select: which leaves count; the weights by default.

    Returns:
      A scalar, at least float32.

    Raises:
      ValueError: when the strength is a negative number, the ratio outside [0, 1] or nothing is
        selected.

    Example:
      >>> float(elastic_net({"kernel": jnp.array([[2.0]])}, 1.0, l1_ratio=0.5))
      2.0

    Source: Zou and Hastie 2005.
    """
    _check("elastic_net(strength=...)", strength)
    if not 0 <= l1_ratio <= 1:
        raise ValueError(f"elastic_net(l1_ratio=...) must lie in [0, 1], got {l1_ratio}")
    first = l1(params, l1_ratio * strength, select=select)
    return first + l2(params, (1 - l1_ratio) * strength, select=select)


def _total(params: Params, select: Select, function: Callable[[Array], Array]) -> Array:
    leaves = [jnp.asarray(w) for w in selected(params, select)]
    wide = [w.astype(jnp.promote_types(w.dtype, jnp.float32)) for w in leaves]
    return functools.reduce(jnp.add, (function(w).sum() for w in wide))


def _check(what: str, strength: float | Array) -> None:
    if isinstance(strength, float | int) and not strength >= 0:
        raise ValueError(f"{what} must be >= 0, got {strength}")
