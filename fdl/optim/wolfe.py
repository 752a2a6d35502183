"""A line search for the Wolfe conditions that asks for a gradient only where it may help."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from fdl.optim.hyperparams import known, require
from fdl.optim.interpolation import Point, cubic, quadratic
from fdl.optim.search import Found, Initial, Ray, choose, linesearch
from fdl.types import Array, PyTree


class _Bracket(NamedTuple):
    """Where a search stands.

    Attributes:
      low: the best point so far; its slope falls towards `high`.
      grad: the gradient at `low`.
      high: the other end; its step is infinite while there is none.
      last: the best point before `low`.
      widths: between the ends, one trial ago and two; infinite where there was no other end.
      trial: the next step to look at.
      evals: values so far.
      grads: gradients so far.
      done: whether `low` will do, or nothing better can be told apart.
    """

    low: Point
    grad: PyTree
    high: Point
    last: Point
    widths: tuple[Array, Array]
    trial: Array
    evals: Array
    grads: Array
    done: Array


def scale_by_wolfe(
    max_steps: int = 30,
    *,
    c1: float = 1e-4,
    c2: float = 0.9,
    initial: Initial = "one",
    expand: float = 10.0,
) -> optax.GradientTransformationExtraArgs:
    """Scale a direction u to a step that satisfies the strong or the approximate Wolfe conditions.

    With phi(a) = f(x + a u):

        phi(a) <= phi(0) + c1 a phi'(0)    and    |phi'(a)| <= c2 |phi'(0)|

    or the approximate ones,

        phi(a) <= phi(0) + c1 a phi'(0) + e    and    (2 c1 - 1) phi'(0) >= phi'(a) >= c2 phi'(0)

    with e = 16 machine epsilons of |f|, the rounding of f: on a parabola the first condition in
    terms of the slope, which near a minimum is known far better than the value. They let a positive
    slope be steeper than c2 allows; `info.curvature_error` then tells by how much.

    A trial costs a value; the gradient is computed only where the value is good enough for the
    trial to be kept. Brackets are narrowed by cubic interpolation, or quadratic where one end has
    no slope, and then by halves if two trials leave more than 2/3; they are widened by at most
    `expand`. Where f is not finite the step is cut to a tenth. Without an acceptable step the best
    trial is taken, and if no trial is better than the start the update is zero and `info.failed` is
    set: f never rises by more than e.

    Args:
      max_steps: trials at most.
      c1: share of the promised decrease that must be kept, in (0, 0.5).
      c2: share of the slope that may be left, in (c1, 1): 0.9 for methods that learn curvature, 0.1
        for nonlinear conjugate gradients.
      initial: first trial. "one", "keep" (the last step), or "interpolate" (the minimiser of the
        parabola through the last decrease), for directions without a length of their own.
      expand: factor by which a step may grow from one trial to the next, > 1.

    Returns:
      A transformation, to be the last link of a chain whose output already points down. `update`
      needs `params`, `value`, `grad` and `value_fn`; keywords that `value_fn` takes are handed to
      it. Its state gives value and gradient at the new parameters to
      `optax.value_and_grad_from_state`. Under `vmap` all lanes wait for the slowest.

    Raises:
      ValueError: for arguments out of range.

    Example:
      >>> tx = optax.chain(optax.sgd(1.0), scale_by_wolfe())
      >>> f = lambda x: jnp.sum((x - 3.0) ** 4)
      >>> x = jnp.zeros(2)
      >>> state = tx.init(x)
      >>> value, grad = jax.value_and_grad(f)(x)
      >>> u, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=f)
      >>> bool(f(x + u) < value), bool(optax.tree.get(state, "info").failed)
      (True, False)

    Source: Nocedal and Wright 2006, section 3.5; More and Thuente 1994 (interpolation, halving);
      Hager and Zhang 2005 (approximate conditions, there with phi(a) <= phi(0) + e alone).
    """
    require("scale_by_wolfe(max_steps=...)", max_steps, ">= 1", lambda n: n >= 1)
    require("scale_by_wolfe(c1=...)", c1, "in (0, 0.5)", lambda c: 0 < c < 0.5)
    require("scale_by_wolfe(c2=...)", c2, "in (c1, 1)", lambda c: known(c1, 0) < c < 1)
    require("scale_by_wolfe(expand=...)", expand, "> 1", lambda e: e > 1)

    def search(ray: Ray, first: Array) -> Found:
        def go_on(b: _Bracket) -> Array:
            return ~b.done & (b.evals < max_steps)

        def look(b: _Bracket) -> _Bracket:
            return _look(b, ray, c1, c2, expand, max_steps)

        end = lax.while_loop(go_on, look, _begin(ray, first))
        return Found(end.low, end.grad, end.evals, end.grads)

    return linesearch(search, initial=initial, c1=c1, c2=c2)


def _begin(ray: Ray, first: Array) -> _Bracket:
    start, nowhere = ray.start, jnp.full_like(first, jnp.inf)
    none = jnp.zeros((), jnp.int32)
    hopeless = ~((start.slope < 0) & jnp.isfinite(start.value) & jnp.isfinite(start.slope))
    high = Point(nowhere, nowhere, jnp.full_like(first, jnp.nan))
    widths = nowhere, nowhere
    return _Bracket(start, ray.grad, high, start, widths, first, none, none, hopeless)


def _look(b: _Bracket, ray: Ray, c1: float, c2: float, expand: float, max_steps: int) -> _Bracket:
    """Look at one trial."""
    f0, s0 = ray.start.value, ray.start.slope
    value, pull = ray.at(b.trial)
    line = f0 + c1 * b.trial * s0
    enough, nearly = value <= line, value <= line + ray.slack
    # what misses the line is no end to go on from, though lower: beyond it there may be no step
    asked = nearly | ((b.evals == max_steps - 1) & (value < f0))
    asked &= (value <= b.low.value + ray.slack) & jnp.isfinite(value)
    nothing = jax.tree.map(jnp.zeros_like, b.grad)
    grad, slope = lax.cond(asked, pull, lambda: (nothing, jnp.zeros_like(s0)))
    # a step so short that it changes nothing is no step
    kept = asked & jnp.isfinite(slope) & ~((value == f0) & (slope == s0))

    flat = jnp.abs(slope) <= c2 * jnp.abs(s0)
    approximate = ((2 * c1 - 1) * s0 >= slope) & (slope >= c2 * s0)
    accepted = kept & ((enough & flat) | approximate)  # what is kept is nearly enough

    here = Point(b.trial, value, jnp.where(kept, slope, jnp.nan))
    ahead = jnp.where(jnp.isinf(b.high.step), 1.0, b.high.step - b.low.step)
    turned = slope * ahead >= 0  # the minimum lies between the old best point and this one
    high = choose(kept, choose(turned, b.low, b.high), here)
    last = choose(kept, b.low, b.last)
    low = choose(kept, here, b.low)
    width = jnp.abs(high.step - low.step)
    slow = jnp.isnan(high.slope) & (width > 2 / 3 * b.widths[1])
    trial = _next(low, high, last, expand, slow)
    same = jnp.abs(trial - low.step) <= jnp.finfo(s0.dtype).eps * jnp.abs(low.step)
    return _Bracket(
        low=low,
        grad=choose(kept, grad, b.grad),
        high=high,
        last=last,
        widths=(width, b.widths[0]),
        trial=trial,
        evals=b.evals + 1,
        grads=b.grads + asked.astype(jnp.int32),
        done=accepted | same | ~(trial > 0),
    )


def _next(low: Point, high: Point, last: Point, expand: float, slow: Array) -> Array:
    """Return the next step to look at: between the ends, or beyond the best point."""
    width = high.step - low.step
    guess = jnp.where(jnp.isnan(high.slope), quadratic(low, high), cubic(low, high))
    share = (guess - low.step) / width
    share = jnp.where(jnp.isfinite(share), jnp.clip(share, 0.1, 0.9), 0.5)
    share = jnp.where(jnp.isfinite(high.value), share, 0.1)
    between = low.step + jnp.where(slow, 0.5, share) * width

    gone = low.step - last.step
    guess = cubic(last, low)
    guess = jnp.where(jnp.isfinite(guess) & (guess > low.step), guess, jnp.inf)
    beyond = jnp.clip(guess, low.step + 0.1 * gone, low.step + expand * gone)
    return jnp.where(jnp.isinf(high.step), beyond, between)
