"""Explicit constraints: the iterate projected back as the last link of a chain.

`project` takes any projection, a function from a tree to the nearest feasible one. optax has
non-negativity, boxes, simplices, spheres, half-spaces and balls (`optax.projections`), of all
parameters as one vector. Here is what acts on each unit of a layer, or each layer, by itself.
Constraints without a projection are for `fdl.optim.augmented_lagrangian`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fdl.optim.hyperparams import require
from fdl.tree import widen
from fdl.types import Array, Params, PyTree


def project(
    projection: Callable[[Params], Params],
    mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Project the iterate: u <- P(params + u) - params.

    Behind gradient descent this is the projected gradient method for min J subject to theta in a
    convex set; fixed points fulfil the Karush-Kuhn-Tucker conditions. Behind other optimizers the
    iterates are feasible too, but a step scaled per parameter is projected in the wrong metric:
    Adam's fixed points on a box are right, those on a ball are not exactly. A constraint does not
    act where it is not active, which a norm penalty always does.

    Args:
      projection: a tree -> the nearest tree in the feasible set, such as
        `optax.projections.projection_non_negative`. It sees float32 at least.
      mask: which leaves it is given, as in `optax.masked`: a tree of bools (or a prefix of one) or
        a function that makes it of the parameters; the others pass. None: all.

    Returns:
      A transformation without state, to be the last of a chain; `update` needs `params`. A line
      search before it has searched the step without the constraint.

    Raises:
      ValueError: from `update` when `params` are missing.

    Example:
      >>> tx = optax.chain(optax.sgd(1.0), project(optax.projections.projection_non_negative))
      >>> w = jnp.array([1.0, 2.0])
      >>> updates, _ = tx.update(jnp.array([3.0, -1.0]), tx.init(w), w)
      >>> (w + updates).tolist()
      [0.0, 3.0]

    Source: DLB 7.2; Bertsekas 1999, section 2.3.
    """

    def init(params: Params) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(
        updates: PyTree, state: optax.EmptyState, params: Params | None = None, **extra_args: Any
    ) -> tuple[PyTree, optax.EmptyState]:
        del extra_args
        if params is None:
            raise ValueError("project: update(params=...) must be given")
        wide = widen(params)
        target = projection(jax.tree.map(jnp.add, wide, updates))
        moved = jax.tree.map(
            lambda t, w, p: (t - w).astype(jnp.result_type(p)), target, wide, params
        )
        return moved, state

    tx = optax.GradientTransformationExtraArgs(init, update)
    return tx if mask is None else optax.masked(tx, mask)


def projection_max_norm(
    tree: PyTree, limit: float = 1.0, axis: int | tuple[int, ...] | None = None
) -> PyTree:
    """Limit the norm of each unit's incoming weights: w_j <- w_j min(1, c / |w_j|).

    A limit for each unit keeps any one of them from growing at the cost of the others, which the
    norm of the whole matrix does not; with high learning rates it is the stable way to regularise.

    Args:
      tree: weights of any shape; leaves with one axis or none are left alone.
      limit: c > 0; 2 to 4 is usual behind dropout.
      axis: the axes of the inputs of a unit. None: all but the last, which is right for Flax's
        dense [in, out] and convolution [h, w, in, out] kernels.

    Returns:
      The nearest tree whose units have norms of at most c. `torch.renorm` makes them shorter by the
      factor |w_j| / (|w_j| + 1e-7).

    Raises:
      ValueError: for a limit that is not positive.

    Example:
      >>> w = jnp.array([[3.0, 0.3], [4.0, 0.4]])  # columns of norms 5 and 0.5
      >>> [[round(float(x), 4) for x in row] for row in projection_max_norm(w, 1.0)]
      [[0.6, 0.3], [0.8, 0.4]]

    Source: DLB 7.2; Srebro and Shraibman 2005; Hinton et al. 2012, arXiv 1207.0580.
    """
    require("projection_max_norm(limit=...)", limit, "> 0", lambda c: c > 0)

    def shorten(w: Array) -> Array:
        norm = unit_norms(w, axis)
        return jnp.where(norm > limit, w * (limit / norm), w).astype(w.dtype)

    return jax.tree.map(lambda w: shorten(w) if jnp.ndim(w) > 1 else w, tree)


def projection_unit_norm(tree: PyTree, axis: int | tuple[int, ...] | None = None) -> PyTree:
    """Scale each unit's incoming weights to norm 1: w_j <- w_j / |w_j|.

    Args:
      tree: weights of any shape; leaves with one axis or none are left alone.
      axis: as in `projection_max_norm`.

    Returns:
      The nearest tree whose units have norm 1. A unit of zeros, from which all are equally far,
      becomes the one with equal weights.

    Example:
      >>> w = jnp.array([[3.0, 0.0], [4.0, 0.0]])
      >>> [[round(float(x), 4) for x in row] for row in projection_unit_norm(w)]
      [[0.6, 0.7071], [0.8, 0.7071]]

    Source: DLB 13.4 (the atoms of a dictionary have norm 1).
    """

    def scale(w: Array) -> Array:
        w = jnp.where((w == 0).all(_axes(w, axis), keepdims=True), 1, w)
        return (w / unit_norms(w, axis)).astype(w.dtype)

    return jax.tree.map(lambda w: scale(w) if jnp.ndim(w) > 1 else w, tree)


def projection_frobenius_ball(tree: PyTree, limit: float = 1.0) -> PyTree:
    """Limit the Frobenius norm of each weight matrix: W <- W min(1, c / |W|_F).

    Args:
      tree: weights of any shape; leaves with one axis or none are left alone. Of the norm of all
        leaves together `optax.projections.projection_l2_ball` takes care.
      limit: c > 0.

    Returns:
      The nearest tree whose matrices have norms of at most c.

    Raises:
      ValueError: for a limit that is not positive.

    Example:
      >>> w = {"kernel": jnp.array([[3.0, 4.0]]), "bias": jnp.ones(2)}
      >>> projection_frobenius_ball(w, 2.5)["kernel"].tolist()
      [[1.5, 2.0]]

    Source: DLB 7.2.
    """
    require("projection_frobenius_ball(limit=...)", limit, "> 0", lambda c: c > 0)

    def shorten(w: Array) -> Array:
        return projection_max_norm(w, limit, tuple(range(jnp.ndim(w))))

    return jax.tree.map(shorten, tree)


def per_unit(projection: Callable[[Array], Array]) -> Callable[[PyTree], PyTree]:
    """Make a projection of vectors act on each unit's incoming weights.

    Args:
      projection: a vector [n] -> the nearest feasible one, such as
        `optax.projections.projection_simplex` or a `functools.partial` of `projection_l1_ball`.

    Returns:
      A projection of trees, for `project`: of the columns of dense [in, out] and the filters of
      convolution [h, w, in, out] kernels; leaves with one axis or none are left alone.

    Example:
      >>> from optax.projections import projection_simplex
      >>> per_unit(projection_simplex)(jnp.array([[1.0, 0.5], [2.0, 0.5]])).tolist()
      [[0.0, 0.5], [1.0, 0.5]]

    Source: DLB 7.2; Duchi et al. 2008 for the L1 ball and the simplex.
    """

    def columns(w: Array) -> Array:
        # the widest type that is on: optax's L1 ball wants that of its own constants
        widest = jnp.promote_types(w.dtype, jax.dtypes.canonicalize_dtype(float))
        matrix = jnp.reshape(w, (-1, w.shape[-1])).astype(widest)
        return jax.vmap(projection, 1, 1)(matrix).reshape(w.shape).astype(w.dtype)

    return lambda tree: jax.tree.map(lambda w: columns(w) if jnp.ndim(w) > 1 else w, tree)


def _axes(w: Array, axis: int | tuple[int, ...] | None) -> int | tuple[int, ...]:
    return tuple(range(w.ndim - 1)) if axis is None else axis


def unit_norms(w: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Return the norms over some axes, kept with length 1, in float32 at least.

    Squares neither overflow nor underflow.

    Args:
      w: any shape.
      axis: over which; None: all but the last.

    Example:
      >>> unit_norms(jnp.array([[3.0, 0.0], [4.0, 0.0]])).tolist()
      [[5.0, 0.0]]
    """
    w, axes = widen(w), _axes(w, axis)
    largest = jnp.abs(w).max(axes, keepdims=True, initial=0.0)
    unit = jnp.where(largest > 0, largest, 1)
    return unit * jnp.sqrt(jnp.square(jnp.abs(w / unit)).sum(axes, keepdims=True))
