"""Newton's method for any number of parameters: the system is solved by conjugate gradients."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fdl import tree
from fdl.curvature import products
from fdl.curvature.conjugate_gradient import CGStatus, conjugate_gradient
from fdl.optim import objective, trust_region
from fdl.optim.alias import searched
from fdl.optim.armijo import scale_by_armijo
from fdl.optim.hyperparams import require
from fdl.types import Array, Params, PyTree

Curvature = Literal["hessian", "gauss_newton", "fisher"]
LARGEST_TOL = 0.03  # looser ones save products, but cost more gradients than they save


class NewtonCGState(NamedTuple):
    """State of `scale_by_newton_cg`.

    Attributes:
      count: updates made, int32.
      radius: length of the last step; before the first that of the parameters, 1 at least.
      grad_norm: |g| at the last update; 0 before.
      hessian_products: products with the curvature matrix made so far, int32.
      function_values: of f, looked at so far, int32.
      status: why its conjugate gradients stopped, a `fdl.curvature.CGStatus`, int32.
    """

    count: Array  # type: ignore[assignment]
    radius: Array
    grad_norm: Array
    hessian_products: Array
    function_values: Array
    status: Array


def scale_by_newton_cg(
    max_cg: int = 200,
    tol: float | Literal["eisenstat"] = "eisenstat",
    damping: float = 0.0,
    *,
    curvature: Curvature = "hessian",
    model_fn: Callable[..., Any] | None = None,
    loss_fn: Callable[..., Array] | None = None,
    search: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Precondition by the inverse of a curvature matrix A: u ~ (A + damping I)^-1 g.

    Conjugate gradients stop when |g - (A + damping I) u| <= eta |g|, with eta = tol, or

        eta_k = min(0.03, 0.9 (|g_k| / |g_{k-1}|)^2)                      for "eisenstat"

    so that the method converges superlinearly. They also stop at a direction d along which A bends
    down: u is then the iterate so far and d, equally long, with the sign that goes downhill.

    With `search` the length of u is adapted by values of f, as in `scale_by_newton`.

    Args:
      max_cg: products at most; 2 n at most in any case. A static argument.
      tol: relative residual, or "eisenstat".
      damping: >= 0, in units of the curvature.
      curvature: "hessian": of `value_fn`. "gauss_newton": J' H_L J of loss_fn(model_fn(params)).
        "fisher": J' F J, with F the Hessian of loss_fn(a, z) in z at a = z = model_fn(params).
      model_fn: `(params, **data) -> outputs`, for the last two.
      loss_fn: `(outputs, **data) -> scalar`; for "fisher" `(outputs, outputs, **data) -> scalar`,
        the divergence of the second distribution from the first, or their cross-entropy.
      search: whether the length of the direction is searched for.

    Returns:
      A transformation; `update` needs `params` and `value_fn`. Its keywords that are parameters of
      the functions above are handed to them. `hvp_fn=` in an update, `(params, v) -> A v`, takes
      the place of the product. Memory: some vectors like params.

    Raises:
      ValueError: for max_cg below 1, a tol that is not positive, a negative damping, an unknown
        curvature or one without its functions; from `update` when `params` are missing.

    Example:
      >>> tx = scale_by_newton_cg()
      >>> f, x = lambda x: x[0] ** 2 + 50 * x[1] ** 2, jnp.array([3.0, 1.0])
      >>> direction, _ = tx.update(jax.grad(f)(x), tx.init(x), x, value_fn=f)
      >>> [round(float(u), 2) for u in direction]
      [3.0, 1.0]

    Source: Nocedal and Wright 2006, algorithm 7.1; Eisenstat and Walker 1996, choice 2; Pearlmutter
    1994; DLB 8.6.
    """
    require("scale_by_newton_cg(max_cg=...)", max_cg, ">= 1", lambda m: m >= 1)
    require("scale_by_newton_cg(tol=...)", tol, "> 0", lambda t: t > 0)
    require("scale_by_newton_cg(damping=...)", damping, ">= 0", lambda d: d >= 0)
    if isinstance(tol, str) and tol != "eisenstat":
        raise ValueError(f"scale_by_newton_cg(tol=...) must be a number or eisenstat, got {tol!r}")
    check_curvature("scale_by_newton_cg", curvature, model_fn, loss_fn)

    def init(params: Params) -> NewtonCGState:
        first, none = trust_region.first_radius("params", params), jnp.zeros((), jnp.int32)
        return NewtonCGState(none, first, jnp.zeros_like(first), none, none, none)

    def update(
        updates: PyTree,
        state: NewtonCGState,
        params: Params | None = None,
        *,
        value_fn: objective.ValueFn,
        value: Array | None = None,
        grad: PyTree | None = None,
        hvp_fn: Callable[[Params, PyTree], PyTree] | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, NewtonCGState]:
        if params is None:
            raise ValueError("scale_by_newton_cg: update(params=...) must be given")
        f = objective.bind(value_fn, params, grad, extra_args)
        gradient, unravel = tree.ravel(updates)
        if f is None or gradient.size == 0:
            return updates, state._replace(count=optax.safe_increment(state.count))
        multiply = operator(f, params, grad, curvature, model_fn, loss_fn, hvp_fn, extra_args)
        product = flat(multiply, unravel, damping)
        size = jnp.linalg.norm(gradient)
        found = conjugate_gradient(
            product,
            -gradient,
            rtol=_tolerance(tol, size, state.grad_norm),
            max_steps=max(1, min(max_cg, 2 * gradient.size)),
        )
        model, down = _model(found, gradient)
        long = jnp.where(down, state.radius, jnp.inf)
        seen = state.function_values
        if search:
            start = f(params) if value is None else value
            step, _, evals = trust_region.search(
                trust_region.restrict(f, unravel, params),
                jnp.asarray(start).astype(gradient.dtype).reshape(()),
                model,
                long,
                jnp.zeros_like(size),
            )
            seen = seen + evals + (value is None)
        else:
            step = model.basis @ trust_region.solve(model, long, jnp.zeros_like(size))
        reached = jnp.linalg.norm(step)
        new = NewtonCGState(
            count=optax.safe_increment(state.count),
            radius=jnp.where(reached > 0, reached, 0.1 * state.radius),
            grad_norm=size,
            hessian_products=state.hessian_products + found.steps,
            function_values=seen,
            status=found.status,
        )
        return unravel(-step), optax.tree.cast_like(new, state)

    return optax.GradientTransformationExtraArgs(init, update)


def newton_cg(
    learning_rate: optax.ScalarOrSchedule | None = None,
    *,
    max_cg: int = 200,
    tol: float | Literal["eisenstat"] = "eisenstat",
    damping: float = 0.0,
    curvature: Curvature = "hessian",
    model_fn: Callable[..., Any] | None = None,
    loss_fn: Callable[..., Array] | None = None,
    linesearch: optax.GradientTransformationExtraArgs | None = scale_by_armijo(),  # noqa: B008
) -> optax.GradientTransformationExtraArgs:
    """Minimise by Newton's method with systems solved by conjugate gradients.

    For smooth functions of any number of parameters whose value and gradient are exact. A step
    costs one gradient and at most `max_cg` Hessian-vector products, about a gradient each, and the
    memory of some gradients. Negative curvature is followed downhill.

    Args:
      learning_rate: factor of the direction before the line search; None: 1.
      max_cg: see `scale_by_newton_cg`, as for all others.
      tol: how well a system is solved.
      damping: added to the curvature.
      curvature: which matrix.
      model_fn: `(params, **data) -> outputs`, for Gauss-Newton and Fisher matrices.
      loss_fn: of the outputs.
      linesearch: the last link; None: none.

    Returns:
      A complete optimizer; `update` needs `params`, `value`, `grad` and `value_fn`, as that of
      `optax.lbfgs`. `fdl.optim.minimize` hands them over.

    Raises:
      ValueError: for an unknown option, or one out of range.

    Example:
      >>> from fdl.optim import minimize
      >>> def rosenbrock(x):
      ...     return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
      >>> found = minimize(newton_cg(), rosenbrock, jnp.array([-1.2, 1.0]))
      >>> [round(float(x), 3) for x in found.params]
      [1.0, 1.0]

    Source: Nocedal and Wright 2006, algorithm 7.1.
    """
    direction = scale_by_newton_cg(
        max_cg, tol, damping, curvature=curvature, model_fn=model_fn, loss_fn=loss_fn
    )
    return searched(direction, learning_rate, linesearch)


def _tolerance(tol: float | str, size: Array, before: Array) -> Array | float:
    if not isinstance(tol, str):
        return tol
    ratio = size / jnp.where(before > 0, before, size)
    return jnp.clip(0.9 * ratio**2, 1e-10, LARGEST_TOL)


def _model(found: Any, gradient: Array) -> tuple[trust_region.Model, Array]:
    """Return f along the direction that conjugate gradients found, and whether it bends down."""
    down = found.status == CGStatus.NEGATIVE_CURVATURE
    sign = jnp.where(gradient @ found.direction > 0, -1.0, 1.0)
    bend = _unit(sign * found.direction)
    mixed = jnp.linalg.norm(found.x) * bend + found.x
    along = jnp.where(down, jnp.where((found.x == 0).all(), bend, mixed), found.x)
    unit = _unit(along)
    slope = gradient @ unit
    good = (slope < 0) & jnp.isfinite(unit).all()
    unit, slope = jnp.where(good, unit, -_unit(gradient)), jnp.where(good, slope, -_size(gradient))
    # (A u) u = -g'u / |x| follows from the residual of x, orthogonal to x
    bent = jnp.where(down | ~good, jnp.minimum(found.curvature, 0.0), -slope / _positive(along))
    bent = jnp.where(jnp.isfinite(bent), bent, 0.0)[None]
    return trust_region.Model(bent, bent, slope[None], unit[:, None]), down | ~good


def _size(v: Array) -> Array:
    return jnp.linalg.norm(v)


def _positive(v: Array) -> Array:
    size = _size(v)
    return jnp.where(size > 0, size, 1)


def _unit(v: Array) -> Array:
    return v / _positive(v)


def flat(
    multiply: Callable[[PyTree], PyTree], unravel: Callable[[Array], PyTree], damping: float | Array
) -> Callable[[Array], Array]:
    """Return v -> A v + damping v for vectors as `fdl.tree.ravel` lays them out."""

    def product(v: Array) -> Array:
        return tree.ravel(multiply(unravel(v)))[0].astype(v.dtype) + damping * v

    return product


def operator(
    f: Callable[[Params], Array],
    params: Params,
    like: PyTree | None,
    curvature: Curvature,
    model_fn: Callable[..., Any] | None,
    loss_fn: Callable[..., Array] | None,
    hvp_fn: Callable[[Params, PyTree], PyTree] | None,
    extra_args: dict[str, Any],
) -> Callable[[PyTree], PyTree]:
    """Return v -> A v at params; the data are bound as `objective.bind` binds them."""
    form = objective.unflattener(params, like)
    if hvp_fn is not None:
        return lambda v: objective.reform(hvp_fn(form(params), form(v)), params)
    if curvature == "hessian":
        return _conjugated(products.hvp_operator(f, params)[1])
    model = with_data(model_fn, 1, extra_args)
    loss = with_data(loss_fn, 1 if curvature == "gauss_newton" else 2, extra_args)
    if curvature == "fisher":
        at = jax.lax.stop_gradient(model(form(params)))
        loss = functools.partial(loss, at)
    return _conjugated(products.gnvp_operator(lambda p: model(form(p)), loss, params)[1])


def _conjugated(product: Callable[[PyTree], PyTree]) -> Callable[[PyTree], PyTree]:
    """Turn JAX's gradients of complex numbers into directions; nothing for real ones."""
    return lambda v: jax.tree.map(jnp.conj, product(v))


def with_data(function: Any, first: int, extra_args: dict[str, Any]) -> Callable[..., Any]:
    """Bind the keywords of an update that are parameters of a function, after its first ones."""
    names = list(inspect.signature(function).parameters)[first:]
    return functools.partial(function, **{n: extra_args[n] for n in names if n in extra_args})


def check_curvature(
    where: str,
    curvature: str,
    model_fn: Callable[..., Any] | None,
    loss_fn: Callable[..., Array] | None,
) -> None:
    """Raise unless a curvature is known and has the functions that it needs."""
    if curvature not in ("hessian", "gauss_newton", "fisher"):
        raise ValueError(
            f"{where}(curvature=...) must be hessian, gauss_newton or fisher, got {curvature!r}"
        )
    if curvature != "hessian" and (model_fn is None or loss_fn is None):
        raise ValueError(f"{where}(curvature={curvature!r}) must be given model_fn and loss_fn")
