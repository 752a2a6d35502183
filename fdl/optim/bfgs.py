"""BFGS: a Newton method whose inverse Hessian is learned from the gradients met on the way."""

import functools
from typing import Any, Literal, NamedTuple

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

Damping = Literal["skip", "powell"]
InitScale = Literal["yy", "none"]
Layout = Literal["dense", "per_leaf"]


class BFGSBlock(NamedTuple):
    """What is known of one block of n numbers: the inverse Hessian M = scale (I + correction).

    To begin anew is to forget the correction: no identity need be written.

    Attributes:
      scale: a scalar.
      correction: [n, n], symmetric.
      params: where the last gradient was taken, [n].
      updates: that gradient, [n].
      fresh: whether nothing is learned yet.
    """

    scale: Array
    correction: Array
    params: Array
    updates: Array
    fresh: Array


class BFGSState(NamedTuple):
    """State of `scale_by_bfgs`.

    Attributes:
      count: updates made, int32 scalar.
      blocks: one `BFGSBlock`, or one for each leaf.
    """

    count: Array  # type: ignore[assignment]
    blocks: tuple[BFGSBlock, ...]


def scale_by_bfgs(
    *,
    init_scale: InitScale | float = "yy",
    self_scaling: bool = False,
    damping: Damping = "skip",
    curvature_eps: float | None = None,
    layout: Layout = "dense",
) -> optax.GradientTransformationExtraArgs:
    """Multiply gradients by an inverse Hessian M that is learned on the way.

    With s the step that was taken since the last update, y the difference of the gradients and
    r = 1 / s'y,

        M <- (I - r s y') M (I - r y s') + r s s'

    computed as a correction of rank two in 3 n^2 memory accesses. M stays symmetric and positive
    definite, and M y = s (the secant equation). A step is learned from when the update after it
    begins, so whatever a line search or another link of the chain made of it is what counts.

    Safeguards: a pair without curvature is skipped; a direction that does not lead down, and a step
    of zero (a line search that found nothing) begin anew at M = I, whose direction is the gradient
    times `fdl.optim.steepest.length`.

    Args:
      init_scale: factor of the identity before the first pair is learned. "yy": s'y / y'y, the size
        of the inverse Hessian along y; "none": 1; or a number > 0.
      self_scaling: multiply M by max(1, s'y / y'M y) before it learns a pair, so that directions
        without curvature are explored sooner: on average a tenth fewer gradients. M is then no
        longer the inverse Hessian after n exact steps on a quadratic.
      damping: what to do with a pair whose curvature is too low. "skip" it, or "powell": move s
        towards M y until s'y = 0.2 y'M y (the dual of Powell's damping).
      curvature_eps: a pair is learned where s'y > curvature_eps |s| |y|; None: 1e-10 in float64,
        the root of the machine epsilon otherwise.
      layout: "dense": one M over all parameters, [n, n]; "per_leaf": one for each leaf, which
        ignores the curvature between leaves and costs the sum of their squares only.

    Returns:
      A transformation; `update` needs `params`, and takes the length of its first step from
      `value` where it is given.

    Raises:
      ValueError: for an unknown option, or one out of range.

    Example:
      >>> tx = optax.chain(scale_by_bfgs(), optax.scale(-0.5))
      >>> hessian = jnp.array([[3.0, 1.0], [1.0, 2.0]])
      >>> x = jnp.array([1.0, 1.0])
      >>> state, update = tx.init(x), jax.jit(tx.update)
      >>> for _ in range(40):
      ...     u, state = update(hessian @ x, state, x)
      ...     x = x + u
      >>> bool(jnp.allclose(x, 0, atol=1e-5))
      True

    Source: DLB section 8.6.3; Nocedal and Wright 2006, algorithm 6.1, equations 6.17 and 6.20,
      procedure 18.2; self-scaling after Oren and Luenberger 1974, kept to factors above one.
    """
    _check(init_scale, damping, layout)
    require("scale_by_bfgs(curvature_eps=...)", curvature_eps, ">= 0", lambda e: e >= 0)
    powell, options = damping == "powell", (_first_scale(init_scale), curvature_eps)

    def init(params: Params) -> BFGSState:
        blocks = tuple(_begin(tree.ravel(part)[0]) for part in _parts(params, layout))
        # no leaves: an empty tree, or the placeholder by which optax finds what is like parameters
        return BFGSState(jnp.zeros((), jnp.int32), blocks or params)

    def update(
        updates: PyTree,
        state: BFGSState,
        params: Params | None = None,
        *,
        value: Array | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, BFGSState]:
        del extra_args
        if params is None:
            raise ValueError("scale_by_bfgs: update(params=...) must be given")
        length = steepest.length(params, updates, value)
        blocks, directions = [], []
        parts = _parts(params, layout)
        known = state.blocks if parts else ()  # not the placeholder of an empty tree
        for block, x, u in zip(known, parts, _parts(updates, layout), strict=True):
            g, unravel = tree.ravel(u)
            step = block, tree.ravel(x)[0], g, state.count > 0, length
            d, new = _advance(*step, *options, powell=powell, self_scaling=self_scaling)
            directions.append(unravel(d))
            blocks.append(new)
        direction = directions[0] if layout == "dense" else _join(directions, updates)
        advanced = BFGSState(optax.safe_increment(state.count), tuple(blocks) or state.blocks)
        return optax.tree.cast_like(direction, params), optax.tree.cast_like(advanced, state)

    return optax.GradientTransformationExtraArgs(init, update)


def _check(init_scale: InitScale | float, damping: Damping, layout: Layout) -> None:
    if isinstance(init_scale, str) and init_scale not in ("yy", "none"):
        raise ValueError(f"bfgs(init_scale=...) must be yy, none or a number, got {init_scale!r}")
    if not isinstance(init_scale, str):
        require("bfgs(init_scale=...)", init_scale, "> 0", lambda s: s > 0)
    if damping not in ("skip", "powell"):
        raise ValueError(f"bfgs(damping=...) must be skip or powell, got {damping!r}")
    if layout not in ("dense", "per_leaf"):
        raise ValueError(f"bfgs(layout=...) must be dense or per_leaf, got {layout!r}")


def _parts(params: Params, layout: Layout) -> list[PyTree]:
    return [params] if layout == "dense" else jax.tree.leaves(params)


def _join(leaves: list[Array], like: PyTree) -> PyTree:
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _begin(x: Array) -> BFGSBlock:
    zeros = jnp.zeros((x.size, x.size), x.dtype)
    return BFGSBlock(jnp.ones((), x.dtype), zeros, x, jnp.zeros_like(x), jnp.array(True))


class _Pair(NamedTuple):
    """M <- c M + s v' + v s' learns a pair; c = 1, s = v = 0 where there is nothing to learn."""

    c: Array
    s: Array
    v: Array
    good: Array


# compiled as one piece: outside jit as well the matrix is read twice and written once
@functools.partial(jax.jit, static_argnames=("powell", "self_scaling"), inline=True)
def _advance(
    block: BFGSBlock,
    x: Array,
    g: Array,
    begun: Array,
    length: Array,
    first_scale: float | None,
    eps: float | None,
    *,
    powell: bool,
    self_scaling: bool,
) -> tuple[Array, BFGSBlock]:
    """Learn from the step that led here, and return (M g, what is known now).

    The matrix is read once for its product with (y, g), and read and written once to be corrected;
    the product with g after the correction follows from the one before it.
    """
    s, y = x - block.params, g - block.updates
    stuck = begun & ~(s != 0).any()
    yg = jnp.stack([y, g])
    # from the left, for M is symmetric: row by row a CPU is several times as fast
    product = jnp.dot(yg, block.correction, precision=lax.Precision.HIGHEST)
    my, mg = block.scale * (yg + product)
    first = s @ y / (y @ y + jnp.finfo(y.dtype).tiny) if first_scale is None else first_scale
    c = jnp.where(block.fresh, first, 1.0).astype(my.dtype)
    if powell:
        s = _damped(s, y, c * my)
    pair = _learn(s, y, c, c * my, begun, eps, self_scaling)
    direction = pair.c * mg + pair.s * (pair.v @ g) + pair.v * (pair.s @ g)
    reset = stuck | ~steepest.downhill(g, direction)
    fresh = reset | (block.fresh & ~pair.good)
    scale = jnp.where(reset, 1.0, pair.c * block.scale)
    # the barrier keeps the n numbers of s and v from being computed anew for each of the n^2
    left, right = lax.optimization_barrier((pair.s, pair.v / scale))
    learned = block.correction + (jnp.outer(left, right) + jnp.outer(right, left))
    correction = jnp.where(reset, 0.0, learned)
    direction = jnp.where(fresh, length.astype(g.dtype) * g, direction)
    return direction, BFGSBlock(scale, correction, x, g, fresh)


def _damped(s: Array, y: Array, my: Array) -> Array:
    """Return s, moved towards M y where s'y < 0.2 y'M y until they are equal."""
    sy, ymy = s @ y, y @ my
    low = sy < 0.2 * ymy
    part = jnp.where(low, 0.8 * ymy / jnp.where(low, ymy - sy, 1.0), 1.0)
    return part * s + (1 - part) * my


def _learn(
    s: Array, y: Array, c: Array, my: Array, begun: Array, eps: float | None, self_scaling: bool
) -> _Pair:
    eps = steepest.least_curvature(s.dtype) if eps is None else eps
    tiny = jnp.finfo(s.dtype).tiny
    sy, ymy = s @ y, y @ my
    # what is not finite passes neither test: by Cauchy and Schwarz s's or y'y overflows before s'y
    good = begun & (sy > eps * jnp.sqrt(s @ s) * jnp.sqrt(y @ y)) & (sy > tiny)
    if self_scaling:
        grown = jnp.maximum(1.0, sy / jnp.maximum(ymy, tiny))
        c, my, ymy = grown * c, grown * my, grown * ymy
    rate = 1 / jnp.where(good, sy, 1.0)
    v = (0.5 * rate * (1 + rate * ymy)) * s - rate * my
    return _Pair(
        c=jnp.where(good, c, 1.0),
        s=jnp.where(good, s, 0.0),
        v=jnp.where(good, v, 0.0),
        good=good,
    )


def _first_scale(init_scale: InitScale | float) -> float | None:
    if isinstance(init_scale, str):
        return None if init_scale == "yy" else 1.0
    return init_scale


def inverse_hessian(state: PyTree) -> Array | list[Array]:
    """Return the inverse Hessian that BFGS has learned.

    Args:
      state: of `scale_by_bfgs` or `bfgs`, also inside a chain.

    Returns:
      M [n, n] over the parameters in the order of `jax.tree.leaves` (`fdl.tree.ravel`); with
      layout="per_leaf" one for each leaf.

    Raises:
      KeyError: when there is no BFGS in the state.

    Example:
      >>> inverse_hessian(bfgs().init({"w": jnp.zeros(3)})).shape
      (3, 3)

    Source: DLB section 8.6.3.
    """
    blocks = optax.tree.get(state, "blocks")
    if blocks is None:
        raise KeyError("inverse_hessian(state): the state of no BFGS is in it")
    found = [
        b.scale * (jnp.eye(len(b.params), dtype=b.params.dtype) + b.correction) for b in blocks
    ]
    return found[0] if len(found) == 1 else found


def bfgs(
    learning_rate: optax.ScalarOrSchedule | None = None,
    *,
    linesearch: optax.GradientTransformationExtraArgs | None = scale_by_wolfe(),  # noqa: B008
    init_scale: InitScale | float = "yy",
    self_scaling: bool = True,
    damping: Damping = "skip",
    curvature_eps: float | None = None,
    layout: Layout = "dense",
) -> optax.GradientTransformationExtraArgs:
    """Minimise by BFGS: theta <- theta - e M g, with M learned (`scale_by_bfgs`) and e searched.

    For smooth functions of up to some thousand numbers whose value and gradient are exact (the
    whole data, no dropout). Needs no tuning and is superlinear near the minimum. A step costs
    3 n^2 memory accesses, mostly one gradient, and [n, n] numbers of memory; `lbfgs` costs 20 n.

    Args:
      learning_rate: factor of the direction before the line search; None: 1.
      linesearch: the last link; None: none.
      init_scale: see `scale_by_bfgs`, as for all others.
      self_scaling: on, unlike there; off gives the textbook's M.
      damping: what to do with pairs without curvature.
      curvature_eps: which pairs those are.
      layout: one matrix, or one for each leaf.

    Returns:
      A complete optimizer; `update` needs `params`, `value`, `grad` and `value_fn`, as that of
      `optax.lbfgs`. `fdl.optim.minimize` hands them over.

    Raises:
      ValueError: for an unknown option, or one out of range.

    Example:
      >>> from fdl.optim import minimize
      >>> def rosenbrock(x):
      ...     return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
      >>> found = minimize(bfgs(), rosenbrock, jnp.array([-1.2, 1.0]))
      >>> [round(float(x), 3) for x in found.params]
      [1.0, 1.0]

    Source: DLB section 8.6.3; Nocedal and Wright 2006, algorithm 6.1.
    """
    direction = scale_by_bfgs(
        init_scale=init_scale,
        self_scaling=self_scaling,
        damping=damping,
        curvature_eps=curvature_eps,
        layout=layout,
    )
    return searched(direction, learning_rate, linesearch)
