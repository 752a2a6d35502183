"""Nonlinear conjugate gradients: each direction remembers the one before it, nothing else."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fdl import tree
from fdl.optim import steepest
from fdl.optim.alias import searched
from fdl.optim.hyperparams import require
from fdl.optim.wolfe import scale_by_wolfe
from fdl.types import Array, Params, PyTree

Rule = Literal["hz", "pr+", "pr", "fr", "prfr", "hs", "dy", "hs-dy"]


class NonlinearCGState(NamedTuple):
    """State of `scale_by_nonlinear_cg`.

    Attributes:
      count: updates made, int32 scalar.
      since: directions since the last restart, int32 scalar.
      updates: the last gradient.
      direction: the last direction, of the gradient's sign.
    """

    count: Array  # type: ignore[assignment]
    since: Array
    updates: PyTree
    direction: PyTree


class _Products(NamedTuple):
    """Inner products of g, the gradient before it p, y = g - p and d, the direction before."""

    gg: Array
    pp: Array
    gy: Array
    yy: Array
    dy: Array
    dg: Array
    dp: Array
    dd: Array


def _hager_zhang(p: _Products, eta: float) -> Array:
    beta = (p.gy - 2 * p.yy * p.dg / p.dy) / p.dy
    least = -1 / (jnp.sqrt(p.dd) * jnp.minimum(eta, jnp.sqrt(p.pp)))
    return jnp.maximum(beta, least)


def _gilbert_nocedal(p: _Products, eta: float) -> Array:
    pr, fr = p.gy / p.pp, p.gg / p.pp
    return jnp.clip(pr, -fr, fr)


# d points down here, as in the literature; y = g - p
RULES: dict[str, Callable[[_Products, float], Array]] = {
    "hz": _hager_zhang,
    "pr+": lambda p, eta: jnp.maximum(0.0, p.gy / p.pp),
    "pr": lambda p, eta: p.gy / p.pp,
    "fr": lambda p, eta: p.gg / p.pp,
    "prfr": _gilbert_nocedal,
    "hs": lambda p, eta: p.gy / p.dy,
    "dy": lambda p, eta: p.gg / p.dy,
    "hs-dy": lambda p, eta: jnp.maximum(0.0, jnp.minimum(p.gy / p.dy, p.gg / p.dy)),
}


def scale_by_nonlinear_cg(
    rule: Rule = "hz",
    *,
    restart_every: int | None = None,
    powell_nu: float | None = None,
    eta: float = 0.01,
) -> optax.GradientTransformationExtraArgs:
    """Make gradients conjugate: d <- -g + b d.

    With y the difference of the last two gradients g and g_, and d the last direction:

        fr     g'g / g_'g_              hs     g'y / d'y
        pr     g'y / g_'g_              dy     g'g / d'y
        pr+    max(0, pr)               hs-dy  max(0, min(hs, dy))
        prfr   pr, within -fr and fr    hz     max((y - 2 d y'y / d'y)'g / d'y, h),
                                               h = -1 / (|d| min(eta, |g_|))

    All are linear conjugate gradients on a quadratic with an exact line search. It begins anew at
    -g where d does not lead down, where nothing has changed (a line search that found nothing), and
    as the options say. The first update is the gradient times `fdl.optim.steepest.length`.

    Args:
      rule: of b. "hz" leads down with any line search; "fr" and "dy" need an accurate
        search and can jam; "pr+" is the classic choice.
      restart_every: begin anew after so many directions, such as the number of parameters; None:
        never.
      powell_nu: begin anew where |g'g_| >= powell_nu g'g; None: never.
      eta: see h above, > 0.

    Returns:
      A transformation whose output has the sign of the gradient. Needs a line search with c2 well
      below 1/2 that guesses its own first step.

    Raises:
      ValueError: for an unknown rule, or arguments out of range.

    Example:
      >>> tx = scale_by_nonlinear_cg("fr")
      >>> g = jnp.array([3.0, 4.0], jnp.float32)
      >>> _, state = tx.update(g, tx.init(g), g)
      >>> d, state = tx.update(g / 2, state, g)  # b = 1/4
      >>> [float(x) for x in d]
      [2.25, 3.0]

    Source: DLB section 8.6.2, algorithm 8.9; Nocedal and Wright 2006, section 5.2; Hager and Zhang
      2005 and 2006; Dai and Yuan 1999; Gilbert and Nocedal 1992.
    """
    if rule not in RULES:
        known = ", ".join(RULES)
        raise ValueError(f"nonlinear_cg(rule=...) must be one of {known}, got {rule!r}")
    require("nonlinear_cg(restart_every=...)", restart_every, ">= 1", lambda n: n >= 1)
    require("nonlinear_cg(powell_nu=...)", powell_nu, "> 0", lambda nu: nu > 0)
    require("nonlinear_cg(eta=...)", eta, "> 0", lambda e: e > 0)

    def init(params: Params) -> NonlinearCGState:
        zeros = jax.tree.map(jnp.zeros_like, tree.widen(params))
        none = jnp.zeros((), jnp.int32)
        return NonlinearCGState(none, none, zeros, zeros)

    def update(
        updates: PyTree,
        state: NonlinearCGState,
        params: Params | None = None,
        *,
        value: Array | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, NonlinearCGState]:
        del extra_args
        limits = restart_every, powell_nu, eta
        return _advance(updates, state, params, value, *limits, rule=rule)

    return optax.GradientTransformationExtraArgs(init, update)


@functools.partial(jax.jit, static_argnames="rule", inline=True)  # outside jit: one call
def _advance(
    updates: PyTree,
    state: NonlinearCGState,
    params: Params | None,
    value: Array | None,
    restart_every: int | None,
    powell_nu: float | None,
    eta: float,
    *,
    rule: Rule,
) -> tuple[PyTree, NonlinearCGState]:
    """Return the next direction, scaled where nothing tells its length, and the next state."""
    g = tree.widen(updates)
    p = _products(g, state)
    beta = RULES[rule](p, eta)
    conjugate = jax.tree.map(lambda u, d: u + (beta * d).astype(u.dtype), g, state.direction)
    lost = (state.count == 0) | (p.yy == 0)
    anew = lost | ~steepest.downhill(g, conjugate)
    if restart_every is not None:
        anew |= state.since >= restart_every
    if powell_nu is not None:
        anew |= jnp.abs(p.gg - p.gy) >= powell_nu * p.gg
    direction = jax.tree.map(lambda u, c: jnp.where(anew, u, c), g, conjugate)
    new = NonlinearCGState(
        count=optax.safe_increment(state.count),
        since=jnp.where(anew, 1, state.since + 1),
        updates=g,
        direction=direction,
    )
    # the length is not remembered, for the rules know of none
    like = updates if params is None else params
    length = jnp.where(lost, steepest.length(like, updates, value), 1.0)
    scaled = jax.tree.map(lambda d: (length * d).astype(d.dtype), direction)
    return optax.tree.cast_like(scaled, like), optax.tree.cast_like(new, state)


def _products(g: PyTree, state: NonlinearCGState) -> _Products:
    p, d = state.updates, jax.tree.map(jnp.negative, state.direction)
    y = optax.tree.sub(g, p)
    return _Products(
        gg=tree.vdot(g, g),
        pp=tree.vdot(p, p),
        gy=tree.vdot(g, y),
        yy=tree.vdot(y, y),
        dy=tree.vdot(d, y),
        dg=tree.vdot(d, g),
        dp=tree.vdot(d, p),
        dd=tree.vdot(d, d),
    )


def nonlinear_cg(
    learning_rate: optax.ScalarOrSchedule | None = None,
    *,
    rule: Rule = "hz",
    linesearch: optax.GradientTransformationExtraArgs | None = scale_by_wolfe(  # noqa: B008
        c2=0.1, initial="interpolate"
    ),
    restart_every: int | None = None,
    powell_nu: float | None = None,
    eta: float = 0.01,
) -> optax.GradientTransformationExtraArgs:
    """Minimise by nonlinear conjugate gradients: theta <- theta + e d, d <- -g + b d, e searched.

    For smooth functions of very many numbers: two trees of memory, against 2 m for `lbfgs`, which
    needs about a third fewer gradients. A step costs some ten inner products and one to three
    gradients.

    Args:
      learning_rate: factor of the direction before the line search; None: 1.
      rule: of b, see `scale_by_nonlinear_cg`, as for the options below.
      linesearch: the last link; None: none.
      restart_every: begin anew after so many directions.
      powell_nu: begin anew where gradients are no longer orthogonal.
      eta: bound of the "hz" rule.

    Returns:
      A complete optimizer; `update` needs `params`, `value`, `grad` and `value_fn`, as that of
      `optax.lbfgs`. `fdl.optim.minimize` hands them over.

    Raises:
      ValueError: for an unknown rule, or arguments out of range.

    Example:
      >>> from fdl.optim import minimize
      >>> def bowl(x):
      ...     return x[0] ** 2 + 10 * x[1] ** 2
      >>> found = minimize(nonlinear_cg(), bowl, jnp.array([3.0, 1.0]))
      >>> [abs(round(float(x), 3)) for x in found.params]
      [0.0, 0.0]

    Source: DLB algorithm 8.9; Hager and Zhang 2005.
    """
    direction = scale_by_nonlinear_cg(
        rule, restart_every=restart_every, powell_nu=powell_nu, eta=eta
    )
    return searched(direction, learning_rate, linesearch)
