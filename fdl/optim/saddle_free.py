"""Saddle-free Newton in a Krylov subspace, for any number of parameters."""

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import optax
from jax import lax

from fdl import tree
from fdl.curvature import products
from fdl.curvature.lanczos import lanczos, tridiagonal
from fdl.optim import objective, trust_region
from fdl.optim.alias import searched
from fdl.optim.armijo import scale_by_armijo
from fdl.optim.hyperparams import require
from fdl.optim.newton import make_model, scale_by_newton
from fdl.optim.newton_cg import flat
from fdl.types import Array, Params, PyTree

HIGHEST = lax.Precision.HIGHEST


class SaddleFreeState(NamedTuple):
    """State of `scale_by_saddle_free_krylov`.

    Attributes:
      count: updates made, int32.
      radius: how long the next step may be to begin with.
      last: the last direction, [n], a member of the next subspace.
      hessian_products: made so far, int32.
      function_values: of f, looked at so far, int32.
    """

    count: Array  # type: ignore[assignment]
    radius: Array
    last: Array
    hessian_products: Array
    function_values: Array


def scale_by_saddle_free_krylov(
    rank: int = 20,
    *,
    damping: float = 0.0,
    radius: float | Literal["params"] | None = "params",
) -> optax.GradientTransformationExtraArgs:
    """Precondition by |H| in a Krylov space: u <- V' (|V H V'| + m I)^-1 V g.

    The rows of V are `rank` steps of Lanczos' method started at the gradient, and the direction of
    the last update. Along negative curvature the step goes downhill, where Newton's would climb to
    the saddle. m >= damping is found through the radius by values of f (see `scale_by_newton`); the
    paper tries a grid of them.

    Args:
      rank: products per update, n at most, >= 1. A static argument. The memory is that of as many
        gradients.
      damping: >= 0, in units of the curvature.
      radius: the first radius, > 0; "params": |params|, at least 1; None for steps of any length
        and no search.

    Returns:
      A transformation; `update` needs `params` and the keyword `value_fn`.

    Raises:
      ValueError: for rank below 1, a negative damping, a radius that is not positive; from `update`
        when `params` are missing.

    Example:
      >>> import jax
      >>> tx = scale_by_saddle_free_krylov(2, radius=None)
      >>> f, x = lambda x: x[0] ** 2 - x[1] ** 2, jnp.array([1.0, 0.1])
      >>> direction, _ = tx.update(jax.grad(f)(x), tx.init(x), x, value_fn=f)
      >>> [round(float(u), 3) for u in direction]  # towards x[0] = 0, away from x[1] = 0
      [1.0, -0.1]

    Source: Dauphin et al. 2014, arXiv 1406.2572, algorithm 1.
    """
    require("scale_by_saddle_free_krylov(rank=...)", rank, ">= 1", lambda r: r >= 1)
    require("scale_by_saddle_free_krylov(damping=...)", damping, ">= 0", lambda d: d >= 0)
    trust_region.check_radius("scale_by_saddle_free_krylov", radius)

    def init(params: Params) -> SaddleFreeState:
        flat_params, _ = tree.ravel(params)
        first = trust_region.first_radius(radius, params)
        none = jnp.zeros((), jnp.int32)
        return SaddleFreeState(none, first, jnp.zeros_like(flat_params), none, none)

    def update(
        updates: PyTree,
        state: SaddleFreeState,
        params: Params | None = None,
        *,
        value_fn: objective.ValueFn,
        value: Array | None = None,
        grad: PyTree | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, SaddleFreeState]:
        if params is None:
            raise ValueError("scale_by_saddle_free_krylov: update(params=...) must be given")
        f = objective.bind(value_fn, params, grad, extra_args)
        gradient, unravel = tree.ravel(updates)
        if f is None or gradient.size == 0:
            return updates, state._replace(count=optax.safe_increment(state.count))
        _, product = products.hvp_operator(lambda x: f(unravel(x)), tree.ravel(params)[0])
        values, basis = _subspace(flat(product, lambda v: v, 0.0), gradient, state.last, rank)
        model = make_model(values, gradient, basis.T, absolute=True)
        least = jnp.asarray(damping, gradient.dtype)
        wide, seen = state.radius, state.function_values
        if radius is None:
            step = model.basis @ trust_region.solve(model, wide, least)
        else:
            start = f(params) if value is None else value
            step, wide, evals = trust_region.search(
                trust_region.restrict(f, unravel, params),
                jnp.asarray(start).astype(gradient.dtype).reshape(()),
                model,
                wide,
                least,
            )
            seen = seen + evals + (value is None)
        step = jnp.where(jnp.isfinite(step).all(), step, 0)
        new = SaddleFreeState(
            count=optax.safe_increment(state.count),
            radius=wide,
            last=step,
            hessian_products=state.hessian_products + min(rank + 1, gradient.size),
            function_values=seen,
        )
        return unravel(-step), optax.tree.cast_like(new, state)

    return optax.GradientTransformationExtraArgs(init, update)


def _subspace(product: Any, gradient: Array, last: Array, rank: int) -> tuple[Array, Array]:
    """Return eigenvalues [k] and eigenvectors [k, n] of the operator restricted to a subspace."""
    found = lanczos(product, gradient, rank)
    basis, small = found.basis, tridiagonal(found)
    if len(basis) < gradient.size:
        extra = last
        for _ in range(2):
            inside = jnp.dot(basis, extra, precision=HIGHEST)
            extra = extra - jnp.dot(inside, basis, precision=HIGHEST)
        size = jnp.linalg.norm(extra)
        told = size > jnp.sqrt(jnp.finfo(extra.dtype).eps) * jnp.linalg.norm(last)
        extra = jnp.where(told, extra / jnp.where(told, size, 1), 0)
        image = product(extra)
        beside = jnp.dot(basis, image, precision=HIGHEST)[:, None]
        corner = jnp.dot(extra, image, precision=HIGHEST).reshape(1, 1)
        small = jnp.block([[small, beside], [beside.T, corner]])
        basis = jnp.concatenate([basis, extra[None]])
    values, vectors = jnp.linalg.eigh(small)
    return values, jnp.dot(vectors.T, basis, precision=HIGHEST)


def saddle_free_newton(
    learning_rate: optax.ScalarOrSchedule | None = None,
    *,
    rank: int | None = None,
    damping: float = 0.0,
    radius: float | Literal["params"] | None = "params",
    linesearch: optax.GradientTransformationExtraArgs | None = scale_by_armijo(),  # noqa: B008
) -> optax.GradientTransformationExtraArgs:
    """Minimise by saddle-free Newton: theta <- theta - e (|H| + m I)^-1 g.

    Newton's method is attracted by saddles. Here the direction of negative curvature is followed
    downhill, as fast as the curvature allows. Exact with the Hessian written out, or in a Krylov
    space for any number of parameters, which costs `rank` Hessian-vector products and gradients of
    memory.

    Args:
      learning_rate: factor of the direction before the line search; None: 1.
      rank: dimension of the Krylov space; None: the whole space, by the Hessian written out.
      damping: see `scale_by_newton`.
      radius: for the first step; None: steps of any length, the line search alone shortens them.
      linesearch: the last link; None: none.

    Returns:
      A complete optimizer; `update` needs `params`, `value`, `grad` and `value_fn`, as that of
      `optax.lbfgs`. `fdl.optim.minimize` hands them over.

    Raises:
      ValueError: for an option out of range.

    Example:
      >>> from fdl.optim import minimize
      >>> f = lambda x: x[0] ** 2 - x[1] ** 2 + 0.25 * x[1] ** 4  # a saddle at 0
      >>> found = minimize(saddle_free_newton(), f, jnp.array([1.0, 1e-6]))
      >>> round(float(found.value), 3)
      -1.0

    Source: Dauphin et al. 2014, arXiv 1406.2572; DLB 8.2.3.
    """
    if rank is None:
        direction = scale_by_newton(damping, mode="abs", radius=radius)
    else:
        direction = scale_by_saddle_free_krylov(rank, damping=damping, radius=radius)
    return searched(direction, learning_rate, linesearch)
