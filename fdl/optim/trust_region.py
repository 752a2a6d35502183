"""A step of a quadratic model no longer than a radius, and a search for the radius by values.

The model lives in a basis that diagonalises it: f(x + B y) ~ f(x) + g'y + 1/2 sum_i e_i y_i^2. A
gradient is never asked for: a trial costs one value and, in the basis, O(k n).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fdl import tree
from fdl.optim.hyperparams import require
from fdl.types import Array, Params

ACCEPT = 0.1  # the least quotient of the decrease found to the one the model promised
AGREE = 0.5  # from here on a longer step is tried as well
BEYOND = 1.1  # the function fell by more than promised: go on along the same line
TRIALS = 40


class Model(NamedTuple):
    """A quadratic model in a basis of k vectors.

    Attributes:
      curvatures: e, what the function's own curvature along each vector is, [k].
      bent: what the step is computed with: e, or |e|, [k].
      slopes: g, the gradient along each vector, [k].
      basis: B, orthonormal columns, [n, k].
    """

    curvatures: Array
    bent: Array
    slopes: Array
    basis: Array


def check_radius(where: str, radius: Any) -> None:
    """Raise unless a first radius is positive, "params" or None."""
    require(f"{where}(radius=...)", radius, "> 0", lambda r: r > 0)
    if isinstance(radius, str) and radius != "params":
        raise ValueError(f'{where}(radius=...) must be a number, "params" or None, got {radius!r}')


def first_radius(radius: Any, params: Params) -> Array:
    """Return the radius to begin with; infinite for None.

    Example:
      >>> float(first_radius("params", jnp.array([3.0, 4.0])))
      5.0
    """
    kind = tree.dtype(params)
    if isinstance(radius, str):
        return jnp.maximum(tree.norm(params), 1.0).astype(kind)
    return jnp.asarray(jnp.inf if radius is None else radius, kind)


class Reached(NamedTuple):
    """The end of a search.

    Attributes:
      step: B y, [n]; zero where nothing was found.
      radius: the one to begin with next time.
      evals: values looked at, int32.
    """

    step: Array
    radius: Array
    evals: Array


@functools.partial(jax.jit, inline=True)  # the loop compiles once, not at each call outside jit
def solve(model: Model, radius: Array, damping: Array) -> Array:
    """Return y = -(bent + m)^-1 g with the least m >= damping for which |y| <= radius.

    m is such that bent + m is positive definite. Where that alone makes y shorter than the radius
    (g has no part along the lowest e) y goes on along that vector, as the exact minimiser does.

    Args:
      model: with k coordinates.
      radius: > 0; infinite for none.
      damping: >= 0.

    Returns:
      y, [k].

    Example:
      >>> model = Model(*(jnp.array([2.0, -1.0]),) * 2, jnp.array([0.0, 3.0]), jnp.eye(2))
      >>> y = solve(model, jnp.float32(0.5), jnp.float32(0.0))
      >>> [abs(round(float(a), 3)) for a in y]
      [0.0, 0.5]

    Source: More and Sorensen 1983; Conn, Gould and Toint 2000, section 7.3.
    """
    bent, slopes = model.bent, model.slopes
    least = bent.min()
    eps = jnp.finfo(bent.dtype).eps
    most = jnp.abs(bent).max()
    # without a radius to hold it back a direction of no curvature must not become endless
    margin = jnp.where(jnp.isinf(radius), jnp.sqrt(eps) * most, 8 * eps * most)
    margin = jnp.maximum(margin, eps * jnp.linalg.norm(slopes) / radius)
    margin = jnp.maximum(margin, jnp.finfo(bent.dtype).tiny)
    low = jnp.maximum(damping, jnp.where(least > 8 * eps * most, 0.0, margin - least))

    def newton(_: int, m: Array) -> Array:
        # Newton's method on 1/|y| - 1/radius, concave: from the left it never goes too far
        y = slopes / (bent + m)
        size = jnp.linalg.norm(y)
        gone = jnp.sum(y * y / (bent + m))
        step = (size - radius) / radius * size**2 / jnp.where(gone > 0, gone, 1)
        return jnp.where((size > radius) & jnp.isfinite(step), m + step, m)

    y = -slopes / (bent + lax.fori_loop(0, 25, newton, low))
    size = jnp.linalg.norm(y)
    y = y * jnp.minimum(1.0, radius / jnp.where(size > 0, size, 1))
    i = jnp.argmin(bent)
    rest = jnp.sqrt(jnp.maximum(radius**2 - size**2, 0.0))
    further = y.at[i].add(-jnp.where(slopes[i] < 0, -1.0, 1.0) * rest)
    hard = (least < -margin) & (size < 0.99 * radius) & jnp.isfinite(radius)
    return jnp.where(hard, further, y)


class _Search(NamedTuple):
    y: Array  # the best so far
    value: Array
    trial: Array
    radius: Array  # that of the trial
    kept: Array  # that of the best
    phase: Array  # 0: shrink until good enough; 1: longer radii; 2: further along the same line
    evals: Array
    done: Array


def search(
    f: Callable[[Array], Array],
    value: Array,
    model: Model,
    radius: Array,
    damping: Array,
    *,
    grow: float = 2.0,
) -> Reached:
    """Find a radius whose step lowers f, as far as values alone can tell.

    Too long a step is shortened. Where the model keeps its promise at the radius the radius is
    doubled, and where f fell by more than promised inside it the step is, as long as f falls.

    Args:
      f: step [n] -> value, which may be NaN or infinite.
      value: f(0).
      model: around 0.
      radius: to begin with.
      damping: >= 0, see `solve`.
      grow: by what a radius grows.

    Returns:
      A `Reached`.

    Source: Dennis and Schnabel 1983, section 6.4.3 (internal doubling).
    """
    eps = jnp.finfo(value.dtype).eps
    slack = 16 * eps * jnp.abs(value)
    # the least curvature is lost in the rounding of the largest: so is the length of the step
    blurred = jnp.abs(model.bent.min()) <= 8 * eps * jnp.abs(model.bent).max()
    beyond = jnp.where(blurred, AGREE, BEYOND)

    def promised(y: Array) -> Array:
        return -(model.slopes @ y + 0.5 * jnp.sum(model.bent * y * y))

    def look(s: _Search) -> _Search:
        size, pledge = jnp.linalg.norm(s.trial), promised(s.trial)
        there = f(_lift(model, s.trial))
        there = jnp.where(jnp.isfinite(there), there, jnp.inf)
        fall = value - there
        quotient = fall / jnp.where(pledge > 0, pledge, jnp.inf)
        tiny = (jnp.abs(pledge) <= slack) & (fall >= -slack)
        good = jnp.where(s.phase == 2, fall > 0, quotient >= ACCEPT) & (there < s.value)
        good |= (s.phase == 0) & tiny
        at_edge = size >= 0.99 * s.radius
        up = good & (s.phase < 2) & at_edge & (quotient > AGREE) & ~tiny
        on = good & ~at_edge & (s.phase == 0) & (s.evals == 0) & (quotient > beyond) & ~tiny
        on |= good & (s.phase == 2)
        up &= (s.phase == 1) | (s.evals == 0)
        shrink = ~good & (s.phase == 0)
        # the parabola through f(0), the slope there and the value
        slope = model.slopes @ s.trial
        bow = 2 * (there - value - slope)
        cut = jnp.clip(jnp.where(jnp.isfinite(there), -slope / bow, 0.1), 0.1, 0.5)
        cut = jnp.where(jnp.isfinite(cut), cut, 0.1)
        next_radius = jnp.where(shrink, cut * size, jnp.where(up, grow * s.radius, s.radius))
        trial = jnp.where(on, 2 * s.trial, solve(model, next_radius, damping))
        return _Search(
            y=jnp.where(good, s.trial, s.y),
            value=jnp.where(good, there, s.value),
            trial=trial,
            radius=next_radius,
            kept=jnp.where(good, jnp.maximum(s.radius, jnp.where(s.phase == 2, size, 0)), s.kept),
            phase=jnp.where(on, 2, jnp.where(up, 1, s.phase)),
            evals=s.evals + 1,
            done=~(shrink | up | on),
        )

    zero = jnp.zeros_like(model.slopes)
    none = jnp.zeros((), jnp.int32)
    # without a promise (g = 0, or what is not a number) there is nothing to look at
    first = solve(model, radius, damping)
    empty = ~(promised(first) > 0)
    begin = _Search(zero, value + slack, first, radius, radius, none, none, empty)
    end = lax.while_loop(lambda s: ~s.done & (s.evals < TRIALS), look, begin)
    size = jnp.linalg.norm(end.y)
    kept = jnp.where(size > 0, end.kept, 0.25 * end.radius)
    usable = jnp.isfinite(kept) & (kept > 0)
    return Reached(_lift(model, end.y), jnp.where(usable, kept, radius), end.evals)


def _lift(model: Model, y: Array) -> Array:
    return jnp.dot(model.basis, y, precision=lax.Precision.HIGHEST)


def restrict(
    f: Callable, unravel: Callable[[Array], object], params: object
) -> Callable[[Array], Array]:
    """Return step [n] -> f(params + step), rounded as `optax.apply_updates` will round it.

    Example:
      >>> restrict(lambda p: p["x"] ** 2, lambda s: {"x": s[0]}, {"x": 2.0})(jnp.ones(1)).item()
      9.0
    """

    def along(step: Array) -> Array:
        return f(jax.tree.map(lambda p, u: p + u, params, unravel(step)))

    return along
