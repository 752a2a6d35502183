"""What all line searches share: their state, their first step, and the way they look at f."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import lax

from fdl import tree
from fdl.optim import objective
from fdl.optim.interpolation import Point
from fdl.types import Array, Params, PyTree

Initial = Literal["one", "keep", "interpolate"]


class SearchInfo(NamedTuple):
    """What the last search cost, and how it ended.

    Attributes:
      num_evals: values of f, int32.
      num_grads: gradients of f, int32.
      failed: whether no step with a lower value was found; the update is then zero.
      decrease_error: by how much f(x + s u) <= f(x) + c1 s f'(x; u) is missed, 0 if it holds.
      curvature_error: by how much |f'(x + s u; u)| <= c2 |f'(x; u)| is missed, 0 if it holds.
    """

    num_evals: Array
    num_grads: Array
    failed: Array
    decrease_error: Array
    curvature_error: Array


class LinesearchState(NamedTuple):
    """State of a line search, as `optax.value_and_grad_from_state` reads it.

    Attributes:
      count: updates made, int32.
      learning_rate: the last step.
      value: f at the new parameters; infinite where it was not evaluated.
      grad: its gradient there, as `jax.grad` gives it.
      before: f before the last step.
      slope: directional derivative before the last step.
      info: see `SearchInfo`.
    """

    count: Array  # type: ignore[assignment]
    learning_rate: Array
    value: Array
    grad: PyTree
    before: Array
    slope: Array
    info: SearchInfo


class Found(NamedTuple):
    """The end of a search: a point, the gradient there, and what it took."""

    point: Point
    grad: PyTree
    num_evals: Array
    num_grads: Array


class Ray(NamedTuple):
    """f along a direction.

    Attributes:
      start: phi(0) and phi'(0).
      grad: gradient at step 0.
      at: step -> (phi(step), a function that returns the gradient and phi'(step)). What the
        function does costs only where it runs.
      slack: differences of values below it are rounding.
    """

    start: Point
    grad: PyTree
    at: Callable[[Array], tuple[Array, Callable[[], tuple[PyTree, Array]]]]
    slack: Array


class Search(Protocol):
    """A search: where to begin, and the first step to try -> what it found."""

    def __call__(self, ray: Ray, first: Array) -> Found:
        """Search along a ray."""
        ...


def move(params: Params, direction: PyTree, step: Array) -> Params:
    """Return the parameters that `optax.apply_updates` will make of the scaled direction."""
    return optax.apply_updates(params, scaled(params, direction, step))


def scaled(params: Params, direction: PyTree, step: Array) -> PyTree:
    """Return step * direction in the types of the parameters."""
    return jax.tree.map(lambda p, u: (step * u).astype(jnp.asarray(p).dtype), params, direction)


def choose(which: Array, a: PyTree, b: PyTree) -> PyTree:
    """Return a tree as a whole where a scalar is true, else another one of the same types."""
    return jax.tree.map(lambda x, y: lax.select(which, x, y), a, b)


def conj(grad: PyTree) -> PyTree:
    """Turn what `jax.grad` gives into the direction of steepest ascent, and back."""
    return jax.tree.map(jnp.conj, grad)


def make_ray(
    f: Callable[[Params], Array], params: Params, direction: PyTree, value: Array, grad: PyTree
) -> Ray:
    """Restrict f to the ray params + step * direction."""
    kind = tree.dtype(params)
    start = Point(jnp.zeros((), kind), value, tree.vdot(conj(grad), direction))

    def at(step: Array) -> tuple[Array, Callable[[], tuple[PyTree, Array]]]:
        reached, pull = jax.vjp(f, move(params, direction, step))

        def slope() -> tuple[PyTree, Array]:
            (there,) = pull(jnp.ones_like(reached))
            return there, tree.vdot(conj(there), direction)

        return reached, slope

    # f itself is not known better than to some units in its last place
    slack = 16 * jnp.finfo(kind).eps * jnp.abs(value)
    return Ray(start, grad, at, slack)


def linesearch(
    search: Search, *, initial: Initial = "one", c1: float, c2: float | None
) -> optax.GradientTransformationExtraArgs:
    """Make a line search the last link of a chain; the public searches are made of it.

    Its loop evaluates `value_fn`, and so is a new program each time it is traced: outside `jit`
    every update compiles it. Compile the step that holds the update.

    Args:
      search: finds a step.
      initial: the first step to try. "one": 1; "keep": the last one; "interpolate": the minimiser
        of the parabola whose decrease is that of the last step, for directions without a length
        of their own. Where the last step tells nothing it is 1.
      c1: of the decrease that is reported as missed.
      c2: of the curvature that is reported as missed; None: a search that promises none.
    """
    if initial not in ("one", "keep", "interpolate"):
        raise ValueError(f"initial=... must be one, keep or interpolate, got {initial!r}")

    def init(params: Params) -> LinesearchState:
        zero = jnp.zeros((), tree.dtype(params))
        none = jnp.zeros((), jnp.int32)
        info = SearchInfo(none, none, jnp.zeros((), bool), zero, zero)
        grad = jax.tree.map(jnp.zeros_like, params)
        return LinesearchState(none, zero + 1, zero + jnp.inf, grad, zero, zero, info)

    def update(
        updates: PyTree,
        state: LinesearchState,
        params: Params | None = None,
        *,
        value: Array,
        grad: PyTree,
        value_fn: objective.ValueFn,
        **extra_args: Any,
    ) -> tuple[PyTree, LinesearchState]:
        if params is None:
            raise ValueError("a line search: update(params=...) must be given")
        f = objective.bind(value_fn, params, grad, extra_args)
        value = jnp.asarray(value).astype(state.value.dtype).reshape(())
        if f is None:
            return _blind(updates, state, params, value, objective.reform(grad, params))
        grad = objective.reform(grad, params)
        ray = make_ray(f, params, updates, value, grad)
        found = search(ray, _first(initial, state, ray.start))
        return _finish(updates, state, params, ray.start, found)

    def _finish(
        updates: PyTree, state: LinesearchState, params: Params, start: Point, found: Found
    ) -> tuple[PyTree, LinesearchState]:
        end = found.point
        missed = end.value - start.value - c1 * end.step * start.slope
        allowed = jnp.inf if c2 is None else c2 * jnp.abs(start.slope)
        steep = jnp.abs(end.slope) - allowed
        info = SearchInfo(
            num_evals=found.num_evals,
            num_grads=found.num_grads,
            failed=~(end.step > 0),
            decrease_error=jnp.maximum(missed, 0.0),
            curvature_error=jnp.maximum(steep, 0.0),
        )
        new = LinesearchState(
            count=optax.safe_increment(state.count),
            learning_rate=end.step,
            value=end.value,
            grad=found.grad,
            before=start.value,
            slope=start.slope,
            info=info,
        )
        step = jnp.where(end.step > 0, end.step, 0.0)
        # where nothing was found the direction itself may not be finite: 0 * NaN is no zero
        moved = jax.tree.map(
            lambda u: jnp.where(end.step > 0, u, jnp.zeros_like(u)),
            scaled(params, updates, step),
        )
        return moved, optax.tree.cast_like(new, state)

    return optax.GradientTransformationExtraArgs(init, update)


def _first(initial: Initial, state: LinesearchState, start: Point) -> Array:
    one = jnp.ones((), start.step.dtype)
    if initial == "one":
        return one
    if initial == "keep":
        guess = state.learning_rate
    else:
        same = state.learning_rate * state.slope / start.slope  # the same first-order decrease
        decrease = state.before - state.value
        guess = jnp.minimum(-2.02 * decrease / start.slope, 10 * same)
    usable = (state.count > 0) & (guess > 0) & jnp.isfinite(guess)
    return jnp.where(usable, guess, one).astype(one.dtype)


def _blind(
    updates: PyTree, state: LinesearchState, params: Params, value: Array, grad: PyTree
) -> tuple[PyTree, LinesearchState]:
    """Step where f cannot be evaluated, and judge the step by the next value that is handed in.

    A value that has risen halves the step, any other doubles it, to at most 1.
    """
    begun, rose = state.count > 0, ~(value <= state.before)
    cautious = jnp.minimum(1.0, 1.0 / tree.norm(updates))
    adapted = jnp.where(rose, 0.5, jnp.minimum(2.0, 1 / state.learning_rate)) * state.learning_rate
    step = jnp.where(begun, adapted, cautious).astype(state.learning_rate.dtype)
    new = state._replace(
        count=optax.safe_increment(state.count),
        learning_rate=step,
        value=jnp.full_like(value, jnp.inf),
        grad=grad,
        before=value,
    )
    finite = tree.all_finite(updates)
    moved = jax.tree.map(
        lambda u: jnp.where(finite, u, jnp.zeros_like(u)), scaled(params, updates, step)
    )
    return moved, optax.tree.cast_like(new, state)
