"""The line search of Hager and Zhang: secant steps on the slope, safe where values are rounded."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax import lax

from fdl.optim.hyperparams import known, require
from fdl.optim.interpolation import Point, secant
from fdl.optim.search import Found, Initial, Ray, choose, linesearch
from fdl.types import Array, PyTree


class _Rules(NamedTuple):
    c1: float
    c2: float
    eps: float
    expand: float
    theta: float
    gamma: float


class _Interval(NamedTuple):
    """Where a search stands.

    Attributes:
      low: its slope is negative and its value at most that of the start.
      high: the other end. Its step is infinite while there is none; its slope is >= 0, or else the
        value is too high and the interval has yet to be narrowed.
      best: the point to stay at; the start while none is lower.
      grad: the gradient at `best`.
      before: width when the last double secant step began; infinite where none did.
      trial: the next step to look at.
      first: whether it is the first one of a double secant step.
      evals: points so far.
      done: whether `best` will do, or nothing better can be told apart.
    """

    low: Point
    high: Point
    best: Point
    grad: PyTree
    before: Array
    trial: Array
    first: Array
    evals: Array
    done: Array


def scale_by_hager_zhang(
    max_steps: int = 30,
    *,
    c1: float = 0.1,
    c2: float = 0.9,
    initial: Initial = "one",
    eps: float = 0.0,
    expand: float = 5.0,
    theta: float = 0.5,
    gamma: float = 2 / 3,
) -> optax.GradientTransformationExtraArgs:
    """Scale a direction u to a step that satisfies the Wolfe or the approximate Wolfe conditions.

    With phi(a) = f(x + a u), either

        phi(a) <= phi(0) + c1 a phi'(0)    and    phi'(a) >= c2 phi'(0)

    or, since near a minimum slopes are known far better than differences of values,

        (2 c1 - 1) phi'(0) >= phi'(a) >= c2 phi'(0)    and    phi(a) <= phi(0) + e

    with e = eps |phi(0)|, but no less than the rounding of f, 16 machine epsilons of |f|. Steps
    grow by `expand` until they enclose a minimum; the interval then shrinks by secant steps on the
    slope, two at a time, and by halves where these are slow. Where f is not finite the interval is
    cut to a tenth. Without an acceptable step the lowest point is taken, and if none is lower than
    the start the update is zero and `info.failed` is set: f never rises by more than e.

    Each trial costs a value and a gradient. `scale_by_wolfe` is cheaper far from a minimum;
    this search reaches further where f is nearly flat at the scale of its rounding.

    Args:
      max_steps: trials at most.
      c1: share of the promised decrease that must be kept, in (0, 0.5).
      c2: share of the slope that may be left, in [c1, 1). A positive slope may be steeper in the
        first form: `info.curvature_error` then tells by how much.
      initial: first trial. "one", "keep" (the last step), or "interpolate" (the minimiser of the
        parabola through the last decrease), for directions without a length of their own.
      eps: see above, >= 0; Hager and Zhang take 1e-6 and let f rise by that.
      expand: factor from one trial to the next while no minimum is enclosed, > 1.
      theta: share of the interval at which it is cut where f is too high, in (0, 1).
      gamma: halve where two secant steps leave more than this share, in (0, 1).

    Returns:
      A transformation, to be the last link of a chain whose output already points down. `update`
      needs `params`, `value`, `grad` and `value_fn`; keywords that `value_fn` takes are handed to
      it. Its state gives value and gradient at the new parameters to
      `optax.value_and_grad_from_state`. Under `vmap` all lanes wait for the slowest.

    Raises:
      ValueError: for arguments out of range.

    Example:
      >>> import jax
      >>> tx = optax.chain(optax.sgd(1.0), scale_by_hager_zhang(c2=0.1))
      >>> f = lambda x: jnp.sum((x - 3.0) ** 4)
      >>> x = jnp.zeros(2)
      >>> state = tx.init(x)
      >>> value, grad = jax.value_and_grad(f)(x)
      >>> u, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=f)
      >>> bool(f(x + u) < value), bool(optax.tree.get(state, "info").failed)
      (True, False)

    Source: Hager and Zhang 2005 (SIAM J. Optim. 16, section 2 and line search algorithm) and 2006
      (ACM TOMS 32, algorithm 851), whose names delta, sigma, rho are c1, c2, expand here. There e
      is 1e-6 |f|, and nothing is said of values that are not finite.
    """
    name = "scale_by_hager_zhang"
    require(f"{name}(max_steps=...)", max_steps, ">= 1", lambda n: n >= 1)
    require(f"{name}(c1=...)", c1, "in (0, 0.5)", lambda c: 0 < c < 0.5)
    require(f"{name}(c2=...)", c2, "in [c1, 1)", lambda c: known(c1, 0) <= c < 1)
    require(f"{name}(eps=...)", eps, ">= 0", lambda e: e >= 0)
    require(f"{name}(expand=...)", expand, "> 1", lambda e: e > 1)
    require(f"{name}(theta=...)", theta, "in (0, 1)", lambda t: 0 < t < 1)
    require(f"{name}(gamma=...)", gamma, "in (0, 1)", lambda g: 0 < g < 1)
    rules = _Rules(c1, c2, eps, expand, theta, gamma)

    def search(ray: Ray, first: Array) -> Found:
        def go_on(i: _Interval) -> Array:
            return ~i.done & (i.evals < max_steps)

        end = lax.while_loop(go_on, lambda i: _look(i, ray, rules), _begin(ray, first))
        return Found(end.best, end.grad, end.evals, end.evals)

    return linesearch(search, initial=initial, c1=c1, c2=c2)


def _begin(ray: Ray, first: Array) -> _Interval:
    start, nowhere = ray.start, jnp.full_like(first, jnp.inf)
    hopeless = ~((start.slope < 0) & jnp.isfinite(start.value) & jnp.isfinite(start.slope))
    high = Point(nowhere, nowhere, jnp.full_like(first, jnp.nan))
    no = jnp.zeros((), bool)
    none = jnp.zeros((), jnp.int32)
    return _Interval(start, high, start, ray.grad, nowhere, first, no, none, hopeless)


def _look(i: _Interval, ray: Ray, rules: _Rules) -> _Interval:
    """Look at one trial: bracketing, a secant step, halving and narrowing differ in it only."""
    f0, s0 = ray.start.value, ray.start.slope
    value, pull = ray.at(i.trial)
    grad, slope = pull()
    finite = jnp.isfinite(value) & jnp.isfinite(slope)
    here = Point(i.trial, jnp.where(finite, value, jnp.inf), jnp.where(finite, slope, jnp.nan))

    low_enough = here.value <= f0 + jnp.maximum(ray.slack, rules.eps * jnp.abs(f0))
    gentle = here.slope >= rules.c2 * s0
    wolfe = here.value <= f0 + rules.c1 * i.trial * s0
    nearly = low_enough & (here.slope <= (2 * rules.c1 - 1) * s0)
    accepted = gentle & (wolfe | nearly)

    rising = here.slope >= 0
    forward = ~rising & low_enough
    low = choose(forward, here, i.low)
    high = choose(forward, i.high, here)
    better = accepted | (here.value < i.best.value)
    # where the step grew out of one end, the second secant goes through what that end was
    opposite = secant(choose(rising, i.high, i.low), here)
    trial, first, before = _next(low, high, i, opposite, rules)
    same = ~((trial > low.step) & (trial < high.step) & jnp.isfinite(trial))
    return _Interval(
        low=low,
        high=high,
        best=choose(better, here, i.best),
        grad=choose(better, grad, i.grad),
        before=before,
        trial=trial,
        first=first,
        evals=i.evals + 1,
        done=accepted | same,
    )


def _next(
    low: Point, high: Point, i: _Interval, opposite: Array, rules: _Rules
) -> tuple[Array, Array, Array]:
    """Return the next trial, whether it begins a double secant step, and the width at the last."""

    def inside(step: Array) -> Array:
        return (step > low.step) & (step < high.step)

    width = high.step - low.step
    nowhere = jnp.isinf(high.step)
    too_high = ~nowhere & ~(high.slope >= 0)
    closed = ~nowhere & ~too_high
    second = closed & i.first & inside(opposite)
    straight = secant(low, high)
    first = closed & ~second & (width <= rules.gamma * i.before) & inside(straight)
    halved = closed & ~second & ~first

    theta = jnp.where(jnp.isfinite(high.value), rules.theta, 0.1)
    trial = low.step + jnp.where(too_high, theta, 0.5) * width
    trial = jnp.where(nowhere, rules.expand * i.trial, trial)
    trial = jnp.where(second, opposite, jnp.where(first, straight, trial))
    before = jnp.where(first, width, jnp.where(halved, jnp.inf, i.before))
    return trial, first, before
