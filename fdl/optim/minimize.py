"""A transformation run to the end in one compiled loop."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from fdl import tree
from fdl.optim.hyperparams import require
from fdl.optim.search import LinesearchState
from fdl.types import Array, Params, PyTree


class Status(enum.IntEnum):
    """Why `minimize` stopped."""

    RUNNING = -1
    CONVERGED = 0  # the gradient is small enough
    MAX_ITER = 1
    MAX_EVALS = 2
    STALLED = 3  # two searches in a row found no lower value
    NOT_FINITE = 4  # value or gradient


class OptimizeResult(NamedTuple):
    """Where `minimize` came to.

    Attributes:
      params: x.
      value: f(x).
      grad: its gradient, as `jax.grad` gives it.
      grad_norm: the largest |g_i|.
      nit: updates made, int32.
      nfev: values of f computed, int32: here, by a line search, and by what counts its own as
        `function_values` of its state, as Newton's methods do.
      njev: gradients computed, int32, here and by a line search.
      nhev: products with the Hessian computed, int32; 0 where the transformation counts none.
      status: a `Status`, int32.
      state: the state of the transformation.
    """

    params: Params
    value: Array
    grad: PyTree
    grad_norm: Array
    nit: Array
    nfev: Array
    njev: Array
    nhev: Array
    status: Array
    state: PyTree


class _Here(NamedTuple):
    """A point of the way."""

    params: Params
    value: Array
    grad: PyTree
    state: PyTree
    nit: Array
    nfev: Array
    njev: Array
    failures: Array  # searches in a row that found nothing


def minimize(
    tx: optax.GradientTransformation,
    fun: Callable[..., Array],
    x0: Params,
    *args: Any,
    gtol: float = 1e-6,
    max_iter: int = 1000,
    max_evals: int | None = None,
) -> OptimizeResult:
    """Minimise f by any optax transformation, in one loop that compiles as a whole.

    Stops where max|g| <= gtol max(1, max|g0|). A line search at the end of the chain gives value
    and gradient of the new parameters; without one they are computed once an update.

    Args:
      tx: a complete optimizer, such as `bfgs()` or `optax.adam(0.1)`. The links behind a line
        search must leave its step alone.
      fun: `(x, *args) -> scalar`, differentiable by JAX.
      x0: where to begin: a tree of floating-point arrays.
      *args: further arguments of `fun`.
      gtol: how small the gradient must become, relative to the first where that is above 1.
      max_iter: updates at most.
      max_evals: values of f at most, looked at after each update; None: any number.

    Returns:
      An `OptimizeResult`. Under `jax.jit` and `jax.vmap` it works as any function; under `vmap` all
      starts go on until the last has stopped.

    Raises:
      ValueError: for parameters that are not floating point, or arguments out of range.

    Example:
      >>> from fdl.optim import bfgs
      >>> def bowl(x, center):
      ...     return jnp.sum((x - center) ** 2)
      >>> found = minimize(bfgs(), bowl, jnp.zeros(2), jnp.array([1.0, 2.0]))
      >>> found.params.round(3).tolist(), Status(int(found.status)).name
      ([1.0, 2.0], 'CONVERGED')
    """
    require("minimize(gtol=...)", gtol, ">= 0", lambda g: g >= 0)
    require("minimize(max_iter=...)", max_iter, ">= 0", lambda n: n >= 0)
    require("minimize(max_evals=...)", max_evals, ">= 1", lambda n: n >= 1)
    x0 = jax.tree.map(jnp.asarray, x0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(x0):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            name = jax.tree_util.keystr(path, simple=True, separator=".") or "x0"
            raise ValueError(f"minimize(x0=...) must be floating point, got {leaf.dtype} in {name}")
    step, begin = _loop(optax.with_extra_args_support(tx), lambda x: fun(x, *args), x0)
    goal = gtol * jnp.maximum(1.0, tree.max_abs(begin.grad))

    def status(here: _Here) -> Array:
        found = jnp.where(here.failures >= 2, Status.STALLED, Status.RUNNING)
        if max_evals is not None:
            found = jnp.where(here.nfev >= max_evals, Status.MAX_EVALS, found)
        found = jnp.where(here.nit >= max_iter, Status.MAX_ITER, found)
        found = jnp.where(tree.max_abs(here.grad) <= goal, Status.CONVERGED, found)
        finite = jnp.isfinite(here.value) & tree.all_finite(here.grad)
        return jnp.where(finite, found, Status.NOT_FINITE).astype(jnp.int32)

    def go_on(carry: tuple[_Here, Array]) -> Array:
        return carry[1] == Status.RUNNING

    def advance(carry: tuple[_Here, Array]) -> tuple[_Here, Array]:
        here = step(carry[0])
        return here, status(here)

    end, why = lax.while_loop(go_on, advance, (begin, status(begin)))
    return OptimizeResult(
        params=end.params,
        value=end.value,
        grad=end.grad,
        grad_norm=tree.max_abs(end.grad),
        nit=end.nit,
        nfev=end.nfev,
        njev=end.njev,
        nhev=_counted(end.state, "hessian_products"),
        status=why,
        state=end.state,
    )


def _loop(
    tx: optax.GradientTransformationExtraArgs, f: Callable[[Params], Array], x0: Params
) -> tuple[Callable[[_Here], _Here], _Here]:
    """Return the update as a function of where it begins, and where the first one does."""
    kind = tree.dtype(x0)

    def evaluate(x: Params) -> tuple[Array, PyTree]:
        value, grad = jax.value_and_grad(f)(x)
        return jnp.asarray(value).astype(kind), grad

    none = jnp.zeros((), jnp.int32)
    state = tx.init(x0)
    begin = _Here(x0, *evaluate(x0), state, none, none + 1, none + 1, none)
    searched = _search_state(state, x0) is not None

    def step(here: _Here) -> _Here:
        updates, state = tx.update(
            jax.tree.map(jnp.conj, here.grad),
            here.state,
            here.params,
            value=here.value,
            grad=here.grad,
            value_fn=f,
        )
        params = optax.apply_updates(here.params, updates)
        found = _search_state(state, x0) if searched else None
        if found is None:
            value, grad = evaluate(params)
            one = jnp.ones_like(here.nit)
            evals, grads, failures = one, one, here.failures
        else:
            value, grad, info = found.value, found.grad, found.info
            evals, grads = info.num_evals, info.num_grads
            failures = jnp.where(info.failed, here.failures + 1, 0)
        own = _counted(state, "function_values") - _counted(here.state, "function_values")
        counts = here.nit + 1, here.nfev + evals + own, here.njev + grads
        return _Here(params, value, grad, state, *counts, failures)

    return step, begin


def _search_state(state: PyTree, params: Params) -> LinesearchState | None:
    """Return the state of the only line search, if it looks at all parameters."""
    is_search = lambda node: isinstance(node, LinesearchState)  # noqa: E731
    found = [s for s in jax.tree.leaves(state, is_leaf=is_search) if is_search(s)]
    whole = len(found) == 1 and tree.same_structure(found[0].grad, params)
    return found[0] if whole else None


def _counted(state: PyTree, name: str) -> Array:
    found = optax.tree.get_all_with_path(state, name)
    return sum((count for _, count in found), jnp.zeros((), jnp.int32))
