"""Backtracking: shorten the step until f has fallen enough, and ask for one gradient there."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from fdl.optim.hyperparams import require
from fdl.optim.interpolation import Point, quadratic
from fdl.optim.search import Found, Initial, Ray, choose, linesearch
from fdl.types import Array, PyTree


class _Trials(NamedTuple):
    """Where a search stands.

    Attributes:
      end: the point to stay at; the start while there is none.
      grad: the gradient at `end`.
      best: the rejected trial of lowest value; the start while none is below it.
      last: the last trial.
      trial: the next step to look at.
      evals: values so far.
      grads: gradients so far.
      done: whether `end` will do, or nothing lower can be told apart.
    """

    end: Point
    grad: PyTree
    best: Point
    last: Point
    trial: Array
    evals: Array
    grads: Array
    done: Array


def scale_by_armijo(
    max_steps: int = 30,
    *,
    c1: float = 1e-4,
    initial: Initial = "one",
    interpolate: bool = True,
    factor: float = 0.5,
) -> optax.GradientTransformationExtraArgs:
    """Shorten a direction u until f has fallen enough (backtracking).

    With phi(a) = f(x + a u):

        phi(a) <= phi(0) + c1 a phi'(0)

    or, where that decrease is within the rounding of f, phi'(a) <= (2 c1 - 1) phi'(0). A trial
    costs a value; the gradient is computed only at a step that is to be taken. The next trial is
    the minimiser of the parabola, then of the cubic, through the start and the last trials, kept
    between a tenth and a half of the last one; a tenth where f is not finite. Without an acceptable
    step the best trial is taken, and if no trial is better than the start the update is zero and
    `info.failed` is set: f never rises by more than its own rounding, 16 machine epsilons of |f|.

    For directions with a length of their own, such as Newton's, and where gradients are dear.
    Quasi-Newton and conjugate gradient methods need the curvature condition of `scale_by_wolfe`
    too.

    Args:
      max_steps: trials at most.
      c1: share of the promised decrease that must be kept, in (0, 0.5).
      initial: first trial. "one", "keep" (the last step, so that steps never grow), or
        "interpolate" (the minimiser of the parabola through the last decrease).
      interpolate: whether to fit parabola and cubic; if not each trial is `factor` of the last.
      factor: used where there is no interpolation, in (0, 1).

    Returns:
      A transformation, to be the last link of a chain whose output already points down. `update`
      needs `params`, `value`, `grad` and `value_fn`; keywords that `value_fn` takes are handed to
      it. Its state gives value and gradient at the new parameters to
      `optax.value_and_grad_from_state`. Under `vmap` all lanes wait for the slowest, and each trial
      computes a gradient.

    Raises:
      ValueError: for arguments out of range.

    Example:
      >>> tx = optax.chain(optax.sgd(1.0), scale_by_armijo())
      >>> f = lambda x: jnp.sum(x**2)
      >>> x = jnp.array([3.0, 4.0])
      >>> state = tx.init(x)
      >>> value, grad = jax.value_and_grad(f)(x)
      >>> u, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=f)
      >>> float(optax.tree.get(state, "learning_rate"))  # of the gradient 2 x
      0.5

    Source: Armijo 1966; Nocedal and Wright 2006, algorithm 3.1 and section 3.5; Hager and Zhang
      2005 (the approximate condition).
    """
    require("scale_by_armijo(max_steps=...)", max_steps, ">= 1", lambda n: n >= 1)
    require("scale_by_armijo(c1=...)", c1, "in (0, 0.5)", lambda c: 0 < c < 0.5)
    require("scale_by_armijo(factor=...)", factor, "in (0, 1)", lambda f: 0 < f < 1)

    def search(ray: Ray, first: Array) -> Found:
        def go_on(t: _Trials) -> Array:
            return ~t.done & (t.evals < max_steps)

        def look(t: _Trials) -> _Trials:
            before, t = t.last, _look(t, ray, c1, max_steps)
            step = _shorter(ray.start, t.last, before) if interpolate else factor * t.trial
            # the last trial is the best one again, so that its gradient is known
            again = (t.evals == max_steps - 1) & (t.best.step > 0)
            step = jnp.where(again, t.best.step, step)
            return t._replace(trial=step, done=t.done | ~(step > 0))

        end = lax.while_loop(go_on, look, _begin(ray, first))
        return Found(end.end, end.grad, end.evals, end.grads)

    return linesearch(search, initial=initial, c1=c1, c2=None)


def _begin(ray: Ray, first: Array) -> _Trials:
    start, none = ray.start, jnp.zeros((), jnp.int32)
    hopeless = ~((start.slope < 0) & jnp.isfinite(start.value) & jnp.isfinite(start.slope))
    return _Trials(start, ray.grad, start, start, first, none, none, hopeless)


def _look(t: _Trials, ray: Ray, c1: float, max_steps: int) -> _Trials:
    """Look at one trial."""
    f0, s0 = ray.start.value, ray.start.slope
    value, pull = ray.at(t.trial)
    asked = -c1 * t.trial * s0
    enough = (value <= f0 - asked) | ((t.evals == max_steps - 1) & (value < f0))
    level = (value <= f0 + ray.slack) & (asked <= ray.slack)
    kept = (enough | level) & jnp.isfinite(value)
    nothing = jax.tree.map(jnp.zeros_like, t.grad)
    grad, slope = lax.cond(kept, pull, lambda: (nothing, jnp.zeros_like(s0)))
    usable = jnp.isfinite(value) & jnp.isfinite(slope)
    # a step so short that it changes nothing is no step, and no shorter one is
    still = kept & (value == f0) & (slope == s0)
    accepted = kept & usable & ~still & (enough | (slope <= (2 * c1 - 1) * s0))

    here = Point(t.trial, jnp.where(usable, value, jnp.inf), slope)
    return _Trials(
        end=choose(accepted, here, t.end),
        grad=choose(accepted, grad, t.grad),
        best=choose(here.value < t.best.value, here, t.best),
        last=here,
        trial=t.trial,
        evals=t.evals + 1,
        grads=t.grads + kept.astype(jnp.int32),
        done=accepted | still,
    )


def _shorter(start: Point, last: Point, before: Point) -> Array:
    """Return a shorter step than the last one, by what the last two trials say."""
    parabola = quadratic(start, last)
    guess = jnp.where(before.step > last.step, _cubic(start, last, before), parabola)
    share = jnp.where(jnp.isfinite(guess), guess, parabola) / last.step
    share = jnp.where(jnp.isfinite(share), jnp.clip(share, 0.1, 0.5), 0.5)
    return last.step * jnp.where(jnp.isfinite(last.value), share, 0.1)


def _cubic(start: Point, last: Point, before: Point) -> Array:
    """Return the minimiser of a s^3 + b s^2 + s phi'(0) + phi(0) through two values."""

    def bend(p: Point) -> Array:
        return (p.value - start.value - start.slope * p.step) / p.step**2

    a = (bend(before) - bend(last)) / (before.step - last.step)
    b = bend(last) - a * last.step
    root = jnp.sqrt(b * b - 3 * a * start.slope)
    return jnp.where(b > 0, -start.slope / (b + root), (root - b) / (3 * a))
