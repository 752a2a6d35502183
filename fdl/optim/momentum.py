"""Momentum and Nesterov momentum with the learning rate inside the velocity, as in the book.

`optax.sgd(momentum=...)` multiplies by the learning rate after the trace, so that a schedule
rescales the old velocity too. With a constant rate the two are equal, with a schedule they are not.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fdl import tree
from fdl.optim import objective
from fdl.optim.hyperparams import at, require
from fdl.types import Array, Params, PyTree

Form = Literal["reformulated", "lookahead"]


class MomentumState(NamedTuple):
    """State of `scale_by_momentum`.

    Attributes:
      count: updates made, int32 scalar.
      velocity: v, float32 at least.
    """

    count: Array  # type: ignore[assignment]
    velocity: PyTree


class NesterovState(NamedTuple):
    """State of `scale_by_nesterov` and `nesterov`.

    Attributes:
      count: updates made, int32 scalar.
      velocity: v, float32 at least.
      ahead: the parameters are theta + ahead * v; 0 in the look-ahead form, whose are theta.
    """

    count: Array  # type: ignore[assignment]
    velocity: PyTree
    ahead: Array


def scale_by_momentum(
    momentum: optax.ScalarOrSchedule = 0.9,
) -> optax.GradientTransformationExtraArgs:
    """Accumulate updates with exponential forgetting: v <- a v + u, and pass v on.

    `optax.trace` whose momentum may be a schedule. Behind `optax.scale_by_learning_rate`
    (u = -e g) v is the velocity of the book.

    Args:
      momentum: a, in [0, 1), or a schedule of it.

    Returns:
      A transformation whose output is v.

    Raises:
      ValueError: for a momentum that is out of range.

    Example:
      >>> tx = scale_by_momentum(0.5)
      >>> state = tx.init(jnp.float32(0.0))
      >>> for _ in range(3):
      ...     v, state = tx.update(jnp.float32(1.0), state)
      >>> float(v)
      1.75

    Source: DLB 8.3.2, equation 8.15.
    """
    require("scale_by_momentum(momentum=...)", momentum, "in [0, 1)", lambda a: 0 <= a < 1)

    def init(params: Params) -> MomentumState:
        return MomentumState(jnp.zeros((), jnp.int32), _at_rest(params))

    def update(
        updates: PyTree, state: MomentumState, params: Params | None = None, **extra_args: Any
    ) -> tuple[PyTree, MomentumState]:
        del extra_args
        velocity = _accelerate(state.velocity, at(momentum, state.count), updates)
        new = MomentumState(optax.safe_increment(state.count), velocity)
        return _cast(velocity, updates if params is None else params), new

    return optax.GradientTransformationExtraArgs(init, update)


def scale_by_nesterov(
    momentum: optax.ScalarOrSchedule = 0.9,
) -> optax.GradientTransformationExtraArgs:
    """Accumulate updates as Nesterov does, in parameters that look ahead.

    With u_t the update at phi_t = theta_t + a_t v_t:

        v_{t+1} = a_t v_t + u_t,   phi_{t+1} = phi_t - a_t v_t + v_{t+1} + a_{t+1} v_{t+1}

    so that theta_{t+1} = theta_t + v_{t+1}. The parameters are phi, where the gradient is wanted;
    `eval_params` gives theta. Unlike `optax.trace(nesterov=True)` it is exact when the momentum is
    a schedule: the velocity is taken off with the momentum that it was put on with.

    Args:
      momentum: a, in [0, 1), or a schedule of it. Changed from outside
        (`optax.inject_hyperparams`) it acts one step later, since the parameters have looked
        ahead with the old one.

    Returns:
      A transformation, to stand behind whatever scales the gradient, the learning rate included.

    Raises:
      ValueError: for a momentum that is out of range.

    Example:
      >>> tx = optax.chain(optax.scale_by_learning_rate(0.1), scale_by_nesterov(0.5))
      >>> phi = jnp.float32(1.0)
      >>> u, state = tx.update(jnp.float32(1.0), tx.init(phi), phi)
      >>> round(float(phi + u), 4), round(float(eval_params(state, phi + u)), 4)
      (0.85, 0.9)

    Source: DLB algorithm 8.3; Sutskever et al. 2013, appendix A.1; Bengio et al. 2013,
      arXiv 1212.0901, section 3.5.
    """
    require("scale_by_nesterov(momentum=...)", momentum, "in [0, 1)", lambda a: 0 <= a < 1)

    def init(params: Params) -> NesterovState:
        first = jnp.asarray(at(momentum, jnp.zeros((), jnp.int32)), tree.dtype(params))
        return NesterovState(jnp.zeros((), jnp.int32), _at_rest(params), first)

    def update(
        updates: PyTree, state: NesterovState, params: Params | None = None, **extra_args: Any
    ) -> tuple[PyTree, NesterovState]:
        del extra_args
        count = optax.safe_increment(state.count)
        velocity = _accelerate(state.velocity, state.ahead, updates)
        ahead = jnp.asarray(at(momentum, count)).astype(state.ahead.dtype)
        moved = jax.tree.map(
            lambda old, new: (1 + ahead) * new - state.ahead * old, state.velocity, velocity
        )
        return _cast(moved, updates if params is None else params), NesterovState(
            count, velocity, ahead
        )

    return optax.GradientTransformationExtraArgs(init, update)


def momentum(
    learning_rate: optax.ScalarOrSchedule = 0.01, momentum: optax.ScalarOrSchedule = 0.9
) -> optax.GradientTransformationExtraArgs:
    """Descend with momentum: v <- a v - e g, theta <- theta + v.

    The learning rate acts before it enters the velocity; `optax.sgd(e, momentum=a)` multiplies the
    velocity by it instead. The two are equal while e is constant. One step costs one gradient and
    one more tree in memory; the final velocity in a constant gradient is e g / (1 - a).

    Args:
      learning_rate: e >= 0, or a schedule of it.
      momentum: a, in [0, 1), or a schedule of it.

    Returns:
      A complete optimizer.

    Raises:
      ValueError: for arguments that are out of range.

    Example:
      >>> tx = momentum(0.1, 0.9)
      >>> theta, state = jnp.float32(1.0), tx.init(jnp.float32(1.0))
      >>> for _ in range(2):
      ...     v, state = tx.update(theta, state, theta)  # the gradient of theta^2 / 2
      ...     theta = theta + v
      >>> round(float(theta), 4)
      0.72

    Source: DLB algorithm 8.2.
    """
    require("momentum(learning_rate=...)", learning_rate, ">= 0", lambda e: e >= 0)
    require("momentum(momentum=...)", momentum, "in [0, 1)", lambda a: 0 <= a < 1)
    return optax.chain(optax.scale_by_learning_rate(learning_rate), scale_by_momentum(momentum))


def nesterov(
    learning_rate: optax.ScalarOrSchedule = 0.01,
    momentum: optax.ScalarOrSchedule = 0.9,
    *,
    form: Form = "reformulated",
) -> optax.GradientTransformationExtraArgs:
    """Descend with Nesterov momentum: the gradient is that of the point the velocity leads to.

        g = grad J(theta + a v),   v <- a v - e g,   theta <- theta + v

    Two forms with the same sequence of theta, under schedules of e and a too:

    - "reformulated": the parameters are theta + a v, where training takes its gradient anyway;
      evaluate and save `eval_params(state, params)`, which is theta. Costs nothing extra.
    - "lookahead": the parameters are theta, and the gradient at theta + a v is computed here
      through `value_fn`; the one handed in is not used. Costs a second gradient a step. Under
      `optax.masked` and `optax.partition`, which hide the other parameters, it cannot be computed:
      the step is then that of `momentum`, with a warning.

    `optax.sgd(nesterov=True)` is the reformulated form while e and a are constant, without the way
    back to theta; with a decaying e it is another method.

    Args:
      learning_rate: e >= 0, or a schedule of it.
      momentum: a, in [0, 1), or a schedule of it.
      form: see above.

    Returns:
      A complete optimizer; the look-ahead form needs `params` and `value_fn` in `update`.

    Raises:
      ValueError: for arguments that are out of range or an unknown form.

    Example:
      >>> tx = nesterov(0.1, 0.5, form="lookahead")
      >>> theta, state = jnp.float32(1.0), tx.init(jnp.float32(1.0))
      >>> for _ in range(2):
      ...     v, state = tx.update(theta, state, theta, value_fn=lambda t: t**2 / 2)
      ...     theta = theta + v
      >>> round(float(theta), 4)
      0.765

    Source: DLB algorithm 8.3; Sutskever et al. 2013.
    """
    require("nesterov(learning_rate=...)", learning_rate, ">= 0", lambda e: e >= 0)
    require("nesterov(momentum=...)", momentum, "in [0, 1)", lambda a: 0 <= a < 1)
    if form == "reformulated":
        rate = optax.scale_by_learning_rate(learning_rate)
        return optax.chain(rate, scale_by_nesterov(momentum))
    if form == "lookahead":
        return _lookahead(learning_rate, momentum)
    raise ValueError(f"nesterov(form=...) must be reformulated or lookahead, got {form!r}")


def _lookahead(
    learning_rate: optax.ScalarOrSchedule, momentum: optax.ScalarOrSchedule
) -> optax.GradientTransformationExtraArgs:
    def init(params: Params) -> NesterovState:
        none = jnp.zeros((), tree.dtype(params))
        return NesterovState(jnp.zeros((), jnp.int32), _at_rest(params), none)

    def update(
        updates: PyTree,
        state: NesterovState,
        params: Params | None = None,
        *,
        value_fn: objective.ValueFn,
        grad: PyTree | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, NesterovState]:
        if params is None:
            raise ValueError("nesterov: update(params=...) must be given")
        rate, decay = at(learning_rate, state.count), at(momentum, state.count)
        value = objective.bind(value_fn, params, grad, extra_args)
        if value is not None:
            updates = _gradient(value, _shift(params, state.velocity, decay))
        steps = jax.tree.map(lambda g, v: -rate * g.astype(v.dtype), updates, state.velocity)
        velocity = _accelerate(state.velocity, decay, steps)
        count = optax.safe_increment(state.count)
        return _cast(velocity, params), NesterovState(count, velocity, state.ahead)

    return optax.GradientTransformationExtraArgs(init, update)


def eval_params(state: PyTree, params: Params) -> Params:
    """Return theta, the parameters to evaluate and to save: theta = params - a v.

    Args:
      state: of `nesterov`, `scale_by_nesterov` or `rmsprop_nesterov`, alone or anywhere inside the
        state of a chain, a partition or a wrapper.
      params: the parameters that belong to it.

    Returns:
      A tree like `params`; what the look-ahead form optimises, and what no Nesterov momentum
      optimises, is as it was.

    Raises:
      ValueError: for a state without Nesterov momentum.

    Example:
      >>> tx = nesterov(0.1, 0.5)
      >>> phi = jnp.float32(1.0)
      >>> u, state = tx.update(jnp.float32(1.0), tx.init(phi), phi)
      >>> round(float(eval_params(state, phi + u)), 4)  # one step of gradient descent
      0.9

    Source: DLB algorithm 8.3, whose theta it is.
    """
    leaves = jax.tree.leaves(state, is_leaf=lambda s: isinstance(s, NesterovState))
    found = [s for s in leaves if isinstance(s, NesterovState)]
    if not found:
        raise ValueError("eval_params(state=...) must hold Nesterov momentum, got none in it")
    for s in found:
        params = _shift(params, s.velocity, -s.ahead)
    return params


def _at_rest(params: Params) -> PyTree:
    def zeros(p: Array) -> Array:
        return jnp.zeros_like(p, jnp.promote_types(jnp.result_type(p), jnp.float32))

    return jax.tree.map(zeros, params)


def _accelerate(velocity: PyTree, decay: Any, updates: PyTree) -> PyTree:
    return jax.tree.map(lambda v, u: (decay * v + u).astype(v.dtype), velocity, updates)


def _shift(params: Params, velocity: PyTree, by: Any) -> Params:
    """Return params + by * velocity; what has no velocity stays."""

    def shift(v: Any, p: Any) -> Any:
        if _hidden(v):
            return p
        return (p + by * v).astype(jnp.result_type(p))

    return jax.tree.map(shift, velocity, params, is_leaf=_hidden)


def _hidden(leaf: Any) -> bool:
    return leaf is None or isinstance(leaf, optax.MaskedNode)


def _cast(moved: PyTree, like: PyTree) -> PyTree:
    return jax.tree.map(lambda m, p: m.astype(jnp.result_type(p)), moved, like)


def _gradient(value: Callable[[Params], Array], point: Params) -> PyTree:
    """Return the direction of steepest ascent; for complex numbers what `jax.grad` gives, conj."""
    return jax.tree.map(jnp.conj, jax.grad(value)(point))
