"""Minimisation under constraints g(x) <= 0 and h(x) = 0, by a sequence of free problems."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from fdl import tree
from fdl.optim.bfgs import bfgs
from fdl.optim.hyperparams import require
from fdl.optim.minimize import OptimizeResult, Status, minimize
from fdl.types import Array, Params, PyTree

SUFFICIENT = 0.5  # the violation must fall by this factor, or the penalty grows
LARGEST_MULTIPLIER = 1e8  # in the next problem; bounds are what makes a limit point stationary
LOOSEST = 1e-2  # of the free problems' gradients, in the first of them
INFEASIBLE = 1e-2  # |J'v| / |v|, below which the violation v cannot be made less


class ConstrainedStatus(enum.IntEnum):
    """Why `augmented_lagrangian` or `penalty_method` stopped."""

    RUNNING = -1
    CONVERGED = 0  # all three residuals are small enough
    MAX_ITER = 1
    INFEASIBLE = 2  # the violation is at a minimum, at least a local one, that is not 0
    MAX_PENALTY = 3  # it cannot grow, and the violation does not fall: f may have no minimum
    NOT_FINITE = 4  # a free problem led to where f, g or h are not finite
    STALLED = 5  # only stationarity is too large, and no step helps: rounding, or f has no minimum


class ConstrainedResult(NamedTuple):
    """Where `augmented_lagrangian` came to, and how well the KKT conditions hold there.

    Attributes:
      params: x.
      value: f(x).
      inequality_multipliers: mu >= 0, in the form of g(x); () without inequalities.
      equality_multipliers: lambda, in the form of h(x); () without equalities.
      stationarity: max |grad f + sum_i mu_i grad g_i + sum_j lambda_j grad h_j|.
      feasibility: max(g_i, |h_j|, 0).
      complementarity: max |mu_i g_i|.
      penalty: rho of the last free problem.
      nit: free problems solved, int32.
      nfev: values of f, g and h computed in them, int32.
      njev: gradients computed in them, int32.
      status: a `ConstrainedStatus`, int32.
    """

    params: Params
    value: Array
    inequality_multipliers: PyTree
    equality_multipliers: PyTree
    stationarity: Array
    feasibility: Array
    complementarity: Array
    penalty: Array
    nit: Array
    nfev: Array
    njev: Array
    status: Array


class _Here(NamedTuple):
    """A point of the way; vectors of all inequalities and of all equalities."""

    x: Params
    mu: Array
    lam: Array
    rho: Array
    violation: Array  # max(|g| where it matters, |h|), which decides on the penalty
    tolerance: Array  # of the next free problem
    residuals: tuple[Array, Array, Array]  # stationarity, feasibility, complementarity
    nit: Array
    nfev: Array
    njev: Array
    status: Array


class _Problem(NamedTuple):
    """The functions as vectors, and how to solve."""

    fun: Callable[[Params], Array]
    g: Callable[[Params], Array]
    h: Callable[[Params], Array]
    tx: optax.GradientTransformation
    tol: float
    growth: float
    max_penalty: float
    max_iter: int
    inner_iter: int
    keep: bool  # multipliers from one free problem to the next


def augmented_lagrangian(
    fun: Callable[..., Array],
    x0: Params,
    *args: Any,
    inequality: Callable[..., PyTree] | None = None,
    equality: Callable[..., PyTree] | None = None,
    tx: optax.GradientTransformation | None = None,
    tol: float = 1e-6,
    penalty: float = 10.0,
    growth: float = 10.0,
    max_penalty: float | None = None,
    max_iter: int = 50,
    inner_iter: int = 500,
) -> ConstrainedResult:
    """Minimise f(x) subject to g(x) <= 0 and h(x) = 0, in one loop that compiles as a whole.

    A free problem after the other is solved, each beginning where the last one ended:

        min_x f(x) + rho/2 |h(x) + lambda / rho|^2 + rho/2 |max(0, g(x) + mu / rho)|^2
        lambda <- lambda + rho h(x),    mu <- max(0, mu + rho g(x))

    The multipliers converge to those of the Karush-Kuhn-Tucker conditions,

        grad f + mu'grad g + lambda'grad h = 0,   g <= 0,   h = 0,   mu >= 0,   mu_i g_i = 0,

    so that rho need not grow without end as it does in `penalty_method`; it does so only while the
    violation does not halve. mu_i is what f would gain if g_i were allowed to be a little larger.

    The point found is a local minimum. Residuals are absolute: write f, g and h in units in which
    they are neither tiny nor huge. Bounds on variables are better kept by `project` and
    `optax.projections`; for large, sparse or ill-scaled problems there is SciPy's trust-constr.

    Args:
      fun: `(x, *args) -> scalar`, twice differentiable where it matters.
      x0: where to begin, feasible or not: a tree of floating-point arrays.
      *args: further arguments of `fun`, `inequality` and `equality`.
      inequality: g, `(x, *args) ->` array or tree of arrays of any shape.
      equality: h, likewise.
      tx: what solves the free problems, a complete optimizer; None: `bfgs()`. One with a fixed
        learning rate must bear curvatures that grow with rho.
      tol: how small stationarity, feasibility and complementarity must become. A line search sees
        no further than the root of f's rounding error, 1e-8 in float64 where f is about 1; take
        1e-3 in float32.
      penalty: rho of the first problem, > 0. Too small a value lets x run far outside at first.
      growth: factor of rho, > 1.
      max_penalty: the largest rho; None: 1e10 in float64, 1e5 otherwise.
      max_iter: free problems at most.
      inner_iter: updates in each of them at most.

    Returns:
      A `ConstrainedResult`. Under `jax.jit` and `jax.vmap` it works as any function.

    Raises:
      ValueError: without any constraint, for parameters that are not floating point, or arguments
        out of range.

    Example:
      >>> found = augmented_lagrangian(
      ...     lambda x: jnp.sum((x - 2.0) ** 2),
      ...     jnp.zeros(2),
      ...     inequality=lambda x: jnp.sum(x**2) - 2.0,
      ...     tol=1e-4,
      ... )
      >>> found.params.round(3).tolist(), round(float(found.inequality_multipliers), 3)
      ([1.0, 1.0], 1.0)

    Source: DLB 4.4, 7.2; Nocedal and Wright 2006, framework 17.3; Birgin and Martinez 2014,
      algorithm 4.1, with a fixed first penalty.
    """
    options = (tol, penalty, growth, max_penalty, max_iter, inner_iter)
    functions = (fun, inequality, equality, tx)
    return _solve("augmented_lagrangian", functions, x0, args, options, keep=True)


def penalty_method(
    fun: Callable[..., Array],
    x0: Params,
    *args: Any,
    inequality: Callable[..., PyTree] | None = None,
    equality: Callable[..., PyTree] | None = None,
    tx: optax.GradientTransformation | None = None,
    tol: float = 1e-4,
    penalty: float = 10.0,
    growth: float = 10.0,
    max_penalty: float | None = None,
    max_iter: int = 50,
    inner_iter: int = 500,
) -> ConstrainedResult:
    """Minimise f(x) subject to g(x) <= 0 and h(x) = 0 by ever larger penalties.

    min_x f(x) + rho/2 |h(x)|^2 + rho/2 |max(0, g(x))|^2,   rho <- growth * rho

    x approaches the feasible set from outside: the violation is about multiplier / rho, and the
    problems become ill-conditioned as rho grows. `augmented_lagrangian` comes to the same point
    without; this is the plain form of it, whose multipliers are estimated as rho h and
    max(0, rho g).

    Args:
      fun: as in `augmented_lagrangian`.
      x0: as there.
      *args: as there.
      inequality: as there.
      equality: as there.
      tx: as there.
      tol: as there, but with rho up to 1 / tol times the multipliers.
      penalty: as there.
      growth: as there.
      max_penalty: as there.
      max_iter: as there.
      inner_iter: as there.

    Returns:
      A `ConstrainedResult`.

    Raises:
      ValueError: as `augmented_lagrangian`.

    Example:
      >>> found = penalty_method(
      ...     lambda x: jnp.sum(x**2), jnp.zeros(2), equality=lambda x: x.sum() - 2.0, tol=1e-2
      ... )
      >>> found.params.round(2).tolist(), round(float(found.equality_multipliers), 1)
      ([1.0, 1.0], -2.0)

    Source: Nocedal and Wright 2006, framework 17.1.
    """
    options = (tol, penalty, growth, max_penalty, max_iter, inner_iter)
    functions = (fun, inequality, equality, tx)
    return _solve("penalty_method", functions, x0, args, options, keep=False)


def _solve(
    name: str,
    functions: tuple[Any, ...],
    x0: Params,
    args: tuple[Any, ...],
    options: tuple[Any, ...],
    *,
    keep: bool,
) -> ConstrainedResult:
    fun, inequality, equality, tx = functions
    tol, penalty, growth, max_penalty, max_iter, inner_iter = options
    if inequality is None and equality is None:
        raise ValueError(f"{name}(inequality=, equality=...) must be given, one at least")
    require(f"{name}(tol=...)", tol, "> 0", lambda t: t > 0)
    require(f"{name}(penalty=...)", penalty, "> 0", lambda p: p > 0)
    require(f"{name}(growth=...)", growth, "> 1", lambda g: g > 1)
    require(f"{name}(max_iter=...)", max_iter, ">= 1", lambda n: n >= 1)
    kind = tree.dtype(x0)
    if max_penalty is None:
        max_penalty = 1e10 if kind == jnp.float64 else 1e5
    x0 = jax.tree.map(jnp.asarray, x0)
    g, g_form = _vector(inequality, x0, args, kind)
    h, h_form = _vector(equality, x0, args, kind)
    problem = _Problem(
        lambda x: jnp.asarray(fun(x, *args)).astype(kind),
        *(g, h, bfgs() if tx is None else tx),
        *(tol, growth, max_penalty, max_iter, inner_iter, keep),
    )
    begin = _begin(problem, x0, jnp.asarray(penalty, kind))
    end = lax.while_loop(
        lambda here: here.status == ConstrainedStatus.RUNNING,
        lambda here: _advance(problem, here),
        begin,
    )
    counts = (end.rho, end.nit, end.nfev, end.njev, end.status)
    multipliers = (g_form(end.mu), h_form(end.lam))
    return ConstrainedResult(end.x, problem.fun(end.x), *multipliers, *end.residuals, *counts)


def _vector(
    constraint: Callable[..., PyTree] | None, x0: Params, args: tuple[Any, ...], kind: jnp.dtype
) -> tuple[Callable[[Params], Array], Callable[[Array], PyTree]]:
    """Return a constraint as a function to vectors, and the way from vectors to its own form."""
    if constraint is None:
        return (lambda x: jnp.zeros(0, kind)), lambda vector: ()
    _, form = tree.ravel(constraint(x0, *args))
    return (lambda x: tree.ravel(constraint(x, *args))[0].astype(kind)), form


def _begin(problem: _Problem, x0: Params, rho: Array) -> _Here:
    kind = rho.dtype
    none, infinite = jnp.zeros((), jnp.int32), jnp.asarray(jnp.inf, kind)
    return _Here(
        x=x0,
        mu=jnp.zeros_like(problem.g(x0)),
        lam=jnp.zeros_like(problem.h(x0)),
        rho=rho,
        violation=infinite,
        tolerance=jnp.maximum(LOOSEST, problem.tol).astype(kind),
        residuals=(infinite, infinite, infinite),
        nit=none,
        nfev=none,
        njev=none,
        status=none + ConstrainedStatus.RUNNING,
    )


def _advance(problem: _Problem, here: _Here) -> _Here:
    """Solve a free problem, and move multipliers and penalty by what it leaves violated."""
    bound, rho = (LARGEST_MULTIPLIER if problem.keep else 0.0), here.rho
    mu, lam = jnp.clip(here.mu, 0, bound), jnp.clip(here.lam, -bound, bound)
    found = _solve_free(problem, here, mu, lam)
    g, h = problem.g(found.params), problem.h(found.params)
    new_mu, new_lam = jnp.maximum(0, mu + rho * g), lam + rho * h
    # an inequality that holds and has no multiplier does not matter
    violation = _largest(jnp.maximum(g, -mu / rho), h)
    less = violation <= jnp.maximum(SUFFICIENT * here.violation, problem.tol)
    larger = jnp.minimum(rho * problem.growth, problem.max_penalty).astype(rho.dtype)
    after = here._replace(
        x=found.params,
        mu=new_mu,
        lam=new_lam,
        violation=violation,
        tolerance=jnp.maximum(0.1 * here.tolerance, problem.tol).astype(rho.dtype),
        residuals=(found.grad_norm, _largest(jnp.maximum(g, 0), h), _largest(new_mu * g)),
        nit=here.nit + 1,
        nfev=here.nfev + found.nfev,
        njev=here.njev + found.njev,
    )
    stuck = ~less & (rho >= problem.max_penalty)
    status = _status(problem, after, stuck, found.status)
    grow = (~less if problem.keep else True) & (status == ConstrainedStatus.RUNNING)
    return after._replace(status=status, rho=jnp.where(grow, larger, rho))


def _solve_free(problem: _Problem, here: _Here, mu: Array, lam: Array) -> OptimizeResult:
    def lagrangian(x: Params) -> Array:
        over = jnp.maximum(0, problem.g(x) + mu / here.rho)
        off = problem.h(x) + lam / here.rho
        return problem.fun(x) + 0.5 * here.rho * (jnp.vdot(over, over) + jnp.vdot(off, off))

    first = tree.max_abs(jax.grad(lagrangian)(here.x))
    gtol: Any = here.tolerance / jnp.maximum(1, first)  # minimize multiplies by that
    return minimize(problem.tx, lagrangian, here.x, gtol=gtol, max_iter=problem.inner_iter)


def _status(problem: _Problem, here: _Here, stuck: Array, free: Array) -> Array:
    def infeasibility(x: Params) -> Array:
        over, h = jnp.maximum(0, problem.g(x)), problem.h(x)
        return 0.5 * (jnp.vdot(over, over) + jnp.vdot(h, h))

    size, slope = jax.value_and_grad(infeasibility)(here.x)
    flat = tree.norm(slope) <= INFEASIBLE * jnp.sqrt(2 * size)
    found = jnp.asarray(ConstrainedStatus.RUNNING, jnp.int32)
    found = jnp.where(here.nit >= problem.max_iter, ConstrainedStatus.MAX_ITER, found)
    found = jnp.where(stuck, ConstrainedStatus.MAX_PENALTY, found)
    found = jnp.where(stuck & flat, ConstrainedStatus.INFEASIBLE, found)
    small = jnp.stack(here.residuals) <= problem.tol
    last = (free == Status.STALLED) & (here.tolerance <= problem.tol) & small[1:].all()
    found = jnp.where(last, ConstrainedStatus.STALLED, found)
    found = jnp.where(small.all(), ConstrainedStatus.CONVERGED, found)
    infinite = free == Status.NOT_FINITE
    return jnp.where(infinite, ConstrainedStatus.NOT_FINITE, found).astype(jnp.int32)


def _largest(*vectors: Array) -> Array:
    return jnp.stack([jnp.abs(v).max(initial=0.0) for v in vectors]).max()
