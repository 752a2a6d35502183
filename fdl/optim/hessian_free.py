"""Hessian-free optimisation: Gauss-Newton systems, damped by what the model of f was worth."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from fdl import tree
from fdl.curvature.conjugate_gradient import conjugate_gradient, jacobi
from fdl.optim import newton_cg, objective, trust_region
from fdl.optim.alias import searched
from fdl.optim.armijo import scale_by_armijo
from fdl.optim.hyperparams import require
from fdl.types import Array, Params, PyTree

RAISE, LOWER = 1.5, 2.0 / 3.0  # factors of the damping
BAD, GOOD = 0.25, 0.75  # quotients of the decrease found to the one promised
POWER = 0.75  # of the preconditioner
SPACING = 1.3  # between the iterates that are kept


class HessianFreeState(NamedTuple):
    """State of `scale_by_hessian_free`.

    Attributes:
      count: updates made, int32.
      damping: lambda of the next update.
      last: the last solution of the linear system, [n].
      hessian_products: Gauss-Newton products made so far, int32.
      function_values: of f, looked at so far, int32.
    """

    count: Array  # type: ignore[assignment]
    damping: Array
    last: Array
    hessian_products: Array
    function_values: Array


def scale_by_hessian_free(
    model_fn: Callable[..., Any],
    loss_fn: Callable[..., Array],
    *,
    damping: float = 1.0,
    max_cg: int = 250,
    decay: float = 0.95,
    probes: int = 1,
) -> optax.GradientTransformationExtraArgs:
    """Precondition by the damped Gauss-Newton matrix: u ~ (G + lambda I)^-1 g,  G = J' H_L J.

    Conjugate gradients start at `decay` times their last solution, stop where the quadratic stalls,
    and of their iterates, kept at growing distances, the one with the least f is taken. Then

        lambda <- 3/2 lambda  where f fell by less than 1/4 of what the quadratic promised,
        lambda <- 2/3 lambda  where by more than 3/4.

    The preconditioner is (diag G + lambda)^(3/4), its diagonal estimated as the mean of z * (G z)
    over random signs z.

    Args:
      model_fn: `(params, **data) -> outputs`.
      loss_fn: `(outputs, **data) -> scalar`, convex in the outputs; value_fn(params) must be
        loss_fn(model_fn(params)), up to terms whose curvature may be left out.
      damping: the first lambda, > 0.
      max_cg: products at most. A static argument.
      decay: of the start, in [0, 1].
      probes: random signs per update for the preconditioner; 0 for none. A static argument.

    Returns:
      A transformation; `update` needs `params` and `value_fn`. Its keywords that are parameters of
      the functions above are handed to them.

    Raises:
      ValueError: for a damping that is not positive, max_cg below 1, decay outside [0, 1], probes
        below 0; from `update` when `params` are missing.

    Example:
      >>> loss = lambda outputs: 0.5 * jnp.sum((outputs - 1.0) ** 2)
      >>> tx = scale_by_hessian_free(lambda x: 10 * x, loss, damping=1e-3)
      >>> x = jnp.zeros(2)
      >>> f = lambda x: loss(10 * x)
      >>> direction, _ = tx.update(jax.grad(f)(x), tx.init(x), x, value_fn=f)
      >>> [round(float(u), 3) for u in direction]
      [-0.1, -0.1]

    Source: Martens 2010, Deep learning via Hessian-free optimization, sections 4.1 to 4.8; the
    diagonal: Bekas, Kokiopoulou and Saad 2007.
    """
    require("scale_by_hessian_free(damping=...)", damping, "> 0", lambda d: d > 0)
    require("scale_by_hessian_free(max_cg=...)", max_cg, ">= 1", lambda m: m >= 1)
    require("scale_by_hessian_free(decay=...)", decay, "in [0, 1]", lambda d: 0 <= d <= 1)
    require("scale_by_hessian_free(probes=...)", probes, ">= 0", lambda p: p >= 0)

    def init(params: Params) -> HessianFreeState:
        flat, _ = tree.ravel(params)
        none = jnp.zeros((), jnp.int32)
        return HessianFreeState(
            none, jnp.asarray(damping, flat.dtype), jnp.zeros_like(flat), none, none
        )

    def update(
        updates: PyTree,
        state: HessianFreeState,
        params: Params | None = None,
        *,
        value_fn: objective.ValueFn,
        value: Array | None = None,
        grad: PyTree | None = None,
        gnvp_fn: Callable[[Params, PyTree], PyTree] | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, HessianFreeState]:
        if params is None:
            raise ValueError("scale_by_hessian_free: update(params=...) must be given")
        f = objective.bind(value_fn, params, grad, extra_args)
        gradient, unravel = tree.ravel(updates)
        if f is None or gradient.size == 0:
            return updates, state._replace(count=optax.safe_increment(state.count))
        multiply = newton_cg.operator(
            f, params, grad, "gauss_newton", model_fn, loss_fn, gnvp_fn, extra_args
        )
        product = newton_cg.flat(multiply, unravel, 0.0)
        damped = newton_cg.flat(product, lambda v: v, state.damping)
        steps = min(max_cg, 2 * gradient.size)
        found = conjugate_gradient(
            damped,
            -gradient,
            x0=decay * state.last,
            preconditioner=_preconditioner(product, gradient, state, probes),
            rtol=1e-10 if gradient.dtype == jnp.float64 else 1e-6,
            max_steps=steps,
            rule="martens",
            keep=_kept(steps),
        )
        start = jnp.asarray(f(params) if value is None else value)
        start = start.astype(gradient.dtype).reshape(())
        along = trust_region.restrict(f, unravel, params)
        step, reached, evals = _best(along, jnp.concatenate([found.kept, found.x[None]]), start)
        pledge = -(gradient @ step + 0.5 * step @ product(step))
        new = HessianFreeState(
            count=optax.safe_increment(state.count),
            damping=_adapt(state.damping, start - reached, pledge),
            last=jnp.where(jnp.isfinite(found.x), found.x, 0),
            hessian_products=state.hessian_products + found.steps + probes + 2,
            function_values=state.function_values + evals + (value is None),
        )
        return unravel(-step), optax.tree.cast_like(new, state)

    return optax.GradientTransformationExtraArgs(init, update)


def hessian_free(
    model_fn: Callable[..., Any],
    loss_fn: Callable[..., Array],
    learning_rate: optax.ScalarOrSchedule | None = None,
    *,
    damping: float = 1.0,
    max_cg: int = 250,
    decay: float = 0.95,
    probes: int = 1,
    linesearch: optax.GradientTransformationExtraArgs | None = scale_by_armijo(),  # noqa: B008
) -> optax.GradientTransformationExtraArgs:
    """Minimise loss_fn(model_fn(params)) by Martens' Hessian-free method.

    For deep networks on the whole data or on large batches: a step costs one gradient and up to
    `max_cg` Gauss-Newton products, about a gradient each, and the memory of some 20 gradients for
    the iterates that are kept.

    Args:
      model_fn: `(params, **data) -> outputs`.
      loss_fn: `(outputs, **data) -> scalar`.
      learning_rate: factor of the direction before the line search; None: 1.
      damping: see `scale_by_hessian_free`, as for all others.
      max_cg: products at most.
      decay: of the last solution, from which the next starts.
      probes: for the preconditioner.
      linesearch: the last link; None: none.

    Returns:
      A complete optimizer; `update` needs `params`, `value`, `grad` and `value_fn`, as that of
      `optax.lbfgs`. `fdl.optim.minimize` hands them over.

    Raises:
      ValueError: for an option out of range.

    Example:
      >>> from fdl.optim import minimize
      >>> model = lambda x: jnp.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])
      >>> loss = lambda outputs: jnp.sum(outputs**2)  # of these two: Rosenbrock's function
      >>> tx = hessian_free(model, loss)
      >>> found = minimize(tx, lambda x: loss(model(x)), jnp.array([-1.2, 1.0]))
      >>> [round(float(x), 2) for x in found.params]
      [1.0, 1.0]

    Source: Martens 2010.
    """
    direction = scale_by_hessian_free(
        model_fn, loss_fn, damping=damping, max_cg=max_cg, decay=decay, probes=probes
    )
    return searched(direction, learning_rate, linesearch)


def _kept(steps: int) -> tuple[int, ...]:
    """Return the steps whose iterates are kept: 1.3, 1.3^2, ... rounded up."""
    count = int(math.log(steps) / math.log(SPACING)) if steps > 1 else 0
    return tuple(sorted({math.ceil(SPACING**j) for j in range(1, count + 1)} - {steps}))


def _preconditioner(
    product: Callable[[Array], Array], like: Array, state: HessianFreeState, probes: int
) -> Callable[[Array], Array] | None:
    if probes == 0:
        return None
    key = jax.random.fold_in(jax.random.key(0), state.count)

    def once(total: Array, i: Array) -> tuple[Array, None]:
        signs = jax.random.rademacher(jax.random.fold_in(key, i), like.shape, like.dtype)
        return total + signs * product(signs), None

    diagonal, _ = lax.scan(once, jnp.zeros_like(like), jnp.arange(probes))
    return jacobi(jnp.maximum(diagonal / probes, 0), shift=state.damping, power=POWER)


def _best(f: Callable[[Array], Array], steps: Array, start: Array) -> tuple[Array, Array, Array]:
    """Go back from the last iterate as long as f falls; zero where none is below the start."""
    last = len(steps) - 1

    def look(i: Array) -> Array:
        value = f(steps[i])
        return jnp.where(jnp.isfinite(value), value, jnp.inf)

    def back(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        i, value, evals, _ = carry
        before = look(i - 1)
        # worse than the start: go on; an iterate that stopped early is there several times
        same = (steps[i - 1] == steps[i]).all()
        go = (before < value) | same | ~(value < start)
        return jnp.where(go, i - 1, i), jnp.where(go, before, value), evals + 1, ~go

    def unfinished(carry: tuple[Array, Array, Array, Array]) -> Array:
        return (carry[0] > 0) & ~carry[3]

    first, one = jnp.asarray(last, jnp.int32), jnp.ones((), jnp.int32)
    begin = first, look(first), one, jnp.array(False)
    i, value, evals, _ = lax.while_loop(unfinished, back, begin)
    fine = value < start
    # a line search may still find a lower value along the first iterate
    return (
        jnp.where(jnp.isfinite(steps[i]).all(), steps[i], 0),
        jnp.where(fine, value, start),
        evals,
    )


def _adapt(damping: Array, fall: Array, pledge: Array) -> Array:
    quotient = fall / jnp.where(pledge > 0, pledge, jnp.inf)
    factor = jnp.where(quotient < BAD, RAISE, jnp.where(quotient > GOOD, LOWER, 1.0))
    least = jnp.finfo(damping.dtype).tiny * 1e6
    return jnp.clip(damping * factor, least, 1 / least)
