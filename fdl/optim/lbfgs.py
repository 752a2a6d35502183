"""L-BFGS: BFGS that remembers the last steps instead of a matrix."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from fdl import tree
from fdl.optim import steepest
from fdl.optim.alias import searched
from fdl.optim.hyperparams import require
from fdl.optim.wolfe import scale_by_wolfe
from fdl.types import Array, Params, PyTree


class LBFGSState(NamedTuple):
    """State of `scale_by_lbfgs`.

    Attributes:
      count: updates made, int32 scalar.
      pairs: pairs learned since the last restart, int32 scalar.
      params: where the last gradient was taken.
      updates: that gradient.
      steps: the last m steps s, each leaf [m, ...], the k-th pair at k modulo m.
      changes: the differences y of the gradients, as `steps`.
      rates: 1 / s'y, [m]; 0 where there is no pair.
      scale: s'y / y'y of the newest pair, the inverse Hessian before the first of the pairs.
    """

    count: Array  # type: ignore[assignment]
    pairs: Array
    params: PyTree
    updates: PyTree
    steps: PyTree
    changes: PyTree
    rates: Array
    scale: Array


def scale_by_lbfgs(
    memory_size: int = 10, *, curvature_eps: float | None = None
) -> optax.GradientTransformationExtraArgs:
    """Multiply gradients by the inverse Hessian that the last m steps amount to.

    The product of BFGS with m pairs (s, y), M0 = (s'y / y'y) I, by the two-loop recursion:

        q = g;  newest to oldest: a_i = r_i s_i'q,  q <- q - a_i y_i
        d = M0 q;  oldest to newest: d <- d + (a_i - r_i y_i'd) s_i

    `optax.scale_by_lbfgs` with what it lacks: pairs without curvature are not learned (there one of
    them can make an ascent direction), a direction that does not lead down or a step of zero (a
    line search that found nothing) empties the memory, the sums are in float32 at least, and empty
    trees pass.

    Args:
      memory_size: m, at least 1.
      curvature_eps: a pair is learned where s'y > curvature_eps |s| |y|; None: 1e-10 in float64,
        the root of the machine epsilon otherwise.

    Returns:
      A transformation; `update` needs `params`, and takes the length of its first step from
      `value` where it is given. Its state holds 2 (m + 1) trees.

    Raises:
      ValueError: for arguments out of range.

    Example:
      >>> tx = optax.chain(scale_by_lbfgs(5), optax.scale(-0.5))
      >>> hessian = jnp.array([[3.0, 1.0], [1.0, 2.0]])
      >>> x = jnp.array([1.0, 1.0])
      >>> state, update = tx.init(x), jax.jit(tx.update)
      >>> for _ in range(40):
      ...     u, state = update(hessian @ x, state, x)
      ...     x = x + u
      >>> bool(jnp.allclose(x, 0, atol=1e-5))
      True

    Source: Nocedal and Wright 2006, algorithms 7.4 and 7.5; DLB section 8.6.3.
    """
    if isinstance(memory_size, bool) or not isinstance(memory_size, int) or memory_size < 1:
        raise ValueError(f"lbfgs(memory_size=...) must be an integer >= 1, got {memory_size!r}")
    require("lbfgs(curvature_eps=...)", curvature_eps, ">= 0", lambda e: e >= 0)

    def init(params: Params) -> LBFGSState:
        wide = tree.widen(params)
        kind = tree.dtype(params)
        many = jax.tree.map(lambda p: jnp.zeros((memory_size, *p.shape), p.dtype), wide)
        none = jnp.zeros((), jnp.int32)
        zeros = jax.tree.map(jnp.zeros_like, wide)
        rates, one = jnp.zeros(memory_size, kind), jnp.ones((), kind)
        return LBFGSState(none, none, wide, zeros, many, many, rates, one)

    def update(
        updates: PyTree,
        state: LBFGSState,
        params: Params | None = None,
        *,
        value: Array | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, LBFGSState]:
        del extra_args
        if params is None:
            raise ValueError("scale_by_lbfgs: update(params=...) must be given")
        return _advance(updates, state, params, value, curvature_eps)

    return optax.GradientTransformationExtraArgs(init, update)


# compiled as one piece: outside jit the two loops would otherwise be compiled anew at each update
@functools.partial(jax.jit, inline=True)
def _advance(
    updates: PyTree, state: LBFGSState, params: Params, value: Array | None, eps: float | None
) -> tuple[PyTree, LBFGSState]:
    """Learn from the step that led here, and return (M g, what is known now)."""
    x, g = tree.widen(params), tree.widen(updates)
    learned = _learn(state, x, g, eps)
    direction = _product(learned, g)
    lost = ~steepest.downhill(g, direction)
    pairs = jnp.where(lost, 0, learned.pairs)
    first = steepest.length(params, updates, value)
    direction = jax.tree.map(
        lambda d, u: jnp.where(pairs > 0, d, first.astype(u.dtype) * u), direction, g
    )
    new = learned._replace(
        count=optax.safe_increment(state.count),
        pairs=pairs,
        params=x,
        updates=g,
        rates=jnp.where(lost, 0.0, learned.rates),
    )
    return optax.tree.cast_like(direction, params), optax.tree.cast_like(new, state)


def _learn(state: LBFGSState, x: Params, g: PyTree, eps: float | None) -> LBFGSState:
    """Put the step that led here into the memory, if it shows curvature."""
    s, y = optax.tree.sub(x, state.params), optax.tree.sub(g, state.updates)
    sy, ss, yy = tree.vdot(s, y), tree.vdot(s, s), tree.vdot(y, y)
    eps = steepest.least_curvature(sy.dtype) if eps is None else eps
    tiny = jnp.finfo(sy.dtype).tiny
    # what is not finite passes neither test: by Cauchy and Schwarz ss or yy overflows before sy
    good = (state.count > 0) & (sy > eps * jnp.sqrt(ss) * jnp.sqrt(yy)) & (sy > tiny)
    stuck = (state.count > 0) & (ss == 0)
    slot = _slot(state.pairs, state)

    def put(memory: Array, new: Array) -> Array:
        kept = lax.select(good, new, _at(memory, slot))
        return lax.dynamic_update_index_in_dim(memory, kept, slot, 0, allow_negative_indices=False)

    rate = 1 / jnp.where(good, sy, 1.0)
    rates = jnp.where(stuck, 0.0, state.rates)
    return state._replace(
        pairs=jnp.where(stuck, 0, state.pairs + good.astype(jnp.int32)),
        steps=jax.tree.map(put, state.steps, s),
        changes=jax.tree.map(put, state.changes, y),
        rates=put(rates, rate),
        scale=jnp.where(good, sy / jnp.where(good, yy, 1.0), state.scale),
    )


def _product(state: LBFGSState, g: PyTree) -> PyTree:
    """Return M g by the two loops; the slots without a pair have rate 0, and so no effect."""
    # oldest first
    slots = _slot(state.pairs + jnp.arange(state.rates.size, dtype=jnp.int32), state)

    def pair(i: Array) -> tuple[PyTree, PyTree, Array]:
        s, y = (jax.tree.map(lambda m: _at(m, i), m) for m in (state.steps, state.changes))
        return s, y, _at(state.rates, i)

    def back(q: PyTree, i: Array) -> tuple[PyTree, Array]:
        s, y, rate = pair(i)
        a = rate * tree.vdot(s, q)
        return _add(q, -a, y), a

    def forth(d: PyTree, at: tuple[Array, Array]) -> tuple[PyTree, None]:
        s, y, rate = pair(at[0])
        return _add(d, at[1] - rate * tree.vdot(y, d), s), None

    q, along = lax.scan(back, g, slots, reverse=True)
    start = jax.tree.map(lambda a: (state.scale * a).astype(a.dtype), q)
    return lax.scan(forth, start, (slots, along))[0]


def _slot(k: Array, state: LBFGSState) -> Array:
    return lax.rem(k, jnp.full_like(k, state.rates.size))


def _at(memory: Array, i: Array) -> Array:
    return lax.dynamic_index_in_dim(memory, i, 0, keepdims=False, allow_negative_indices=False)


def _add(a: PyTree, factor: Array, b: PyTree) -> PyTree:
    """Return a + factor * b in the types of a, which may differ from leaf to leaf."""
    return jax.tree.map(lambda x, y: x + (factor * y).astype(x.dtype), a, b)


def lbfgs(
    learning_rate: optax.ScalarOrSchedule | None = None,
    *,
    memory_size: int = 10,
    linesearch: optax.GradientTransformationExtraArgs | None = scale_by_wolfe(),  # noqa: B008
    curvature_eps: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Minimise by L-BFGS: theta <- theta - e M g, M from the last m steps and e searched.

    For smooth functions of many numbers whose value and gradient are exact. A step costs 4 m n
    operations beside mostly one gradient. How it differs from `optax.lbfgs`: see `scale_by_lbfgs`,
    and the line search, which never raises f and asks for fewer gradients.

    Args:
      learning_rate: factor of the direction before the line search; None: 1.
      memory_size: m, at least 1.
      linesearch: the last link; None: none.
      curvature_eps: see `scale_by_lbfgs`.

    Returns:
      A complete optimizer; `update` needs `params`, `value`, `grad` and `value_fn`, as that of
      `optax.lbfgs`. `fdl.optim.minimize` hands them over.

    Raises:
      ValueError: for arguments out of range.

    Example:
      >>> from fdl.optim import minimize
      >>> def rosenbrock(x):
      ...     return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
      >>> found = minimize(lbfgs(), rosenbrock, jnp.array([-1.2, 1.0]))
      >>> [round(float(x), 3) for x in found.params]
      [1.0, 1.0]

    Source: Nocedal and Wright 2006, algorithm 7.5.
    """
    direction = scale_by_lbfgs(memory_size, curvature_eps=curvature_eps)
    return searched(direction, learning_rate, linesearch)
