"""Learning rates per parameter in the book's form: AdaGrad, and RMSProp with Nesterov momentum.

`optax.adam` and `optax.rmsprop` (without momentum) are the book's algorithms 8.7 and 8.5 as they
are; `optax.adagrad` differs in the two ways its namesake here tells.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fdl.optim.hyperparams import at, require
from fdl.optim.momentum import scale_by_nesterov
from fdl.types import Array, Params, PyTree


class SquaresState(NamedTuple):
    """State of `scale_by_adagrad` and `scale_by_rmsprop`.

    Attributes:
      count: updates made, int32 scalar.
      squares: r, the sum or running mean of |g|^2 for each parameter; real, float32 at least.
    """

    count: Array  # type: ignore[assignment]
    squares: PyTree


def scale_by_adagrad(delta: float = 1e-7) -> optax.GradientTransformationExtraArgs:
    """Divide by the root of the sum of all squared gradients: g / (delta + sqrt(r)).

    r starts at 0 and grows by g * g before it is used, so that the first update is the sign of the
    gradient. `optax.scale_by_rss` starts r at 0.1 and puts its constant inside the root.

    Args:
      delta: >= 0, against the division by zero; with 0 a parameter without gradient stays.

    Returns:
      A transformation that keeps the sign of the gradient.

    Raises:
      ValueError: for a negative delta.

    Example:
      >>> tx = scale_by_adagrad()
      >>> g = jnp.array([3.0, -0.01])
      >>> u, state = tx.update(g, tx.init(g))
      >>> [round(float(x), 4) for x in u]
      [1.0, -1.0]
      >>> u, state = tx.update(g, state)
      >>> [round(float(x), 4) for x in u]
      [0.7071, -0.7071]

    Source: DLB algorithm 8.4; Duchi et al. 2011.
    """
    require("scale_by_adagrad(delta=...)", delta, ">= 0", lambda d: d >= 0)

    def grown(r: Array, g: Array, count: Array) -> Array:
        del count
        return r + _square(g)

    return _divide(grown, lambda r: delta + jnp.sqrt(r))


def scale_by_rmsprop(
    decay: optax.ScalarOrSchedule = 0.9, delta: float = 1e-6
) -> optax.GradientTransformationExtraArgs:
    """Divide by the root of a running mean of squared gradients: g / sqrt(delta + r).

        r <- rho r + (1 - rho) g * g,   from r = 0

    `optax.scale_by_rms` with r in float32 at least, with a schedule of rho, and with delta = 0
    allowed: the form of algorithm 8.6.

    Args:
      decay: rho, in [0, 1), or a schedule of it.
      delta: >= 0, inside the root; with 0 a parameter that never had a gradient stays.

    Returns:
      A transformation that keeps the sign of the gradient.

    Raises:
      ValueError: for arguments that are out of range.

    Example:
      >>> tx = scale_by_rmsprop(0.75, 0.0)
      >>> g = jnp.array([3.0, -0.01])
      >>> u, _ = tx.update(g, tx.init(g))
      >>> [round(float(x), 4) for x in u]
      [2.0, -2.0]

    Source: DLB algorithms 8.5 and 8.6; Hinton 2012, lecture 6.
    """
    require("scale_by_rmsprop(decay=...)", decay, "in [0, 1)", lambda rho: 0 <= rho < 1)
    require("scale_by_rmsprop(delta=...)", delta, ">= 0", lambda d: d >= 0)

    def mean(r: Array, g: Array, count: Array) -> Array:
        rho = at(decay, count)
        return rho * r + (1 - rho) * _square(g)

    return _divide(mean, lambda r: jnp.sqrt(delta + r))


def _divide(remember: Any, root: Any) -> optax.GradientTransformationExtraArgs:
    """Make g / root(r) with r <- remember(r, g, count) from 0."""

    def init(params: Params) -> SquaresState:
        def zeros(p: Array) -> Array:
            return jnp.zeros_like(p, _real(p))

        return SquaresState(jnp.zeros((), jnp.int32), jax.tree.map(zeros, params))

    def update(
        updates: PyTree, state: SquaresState, params: Params | None = None, **extra_args: Any
    ) -> tuple[PyTree, SquaresState]:
        del params, extra_args
        squares = jax.tree.map(
            lambda r, g: remember(r, g, state.count).astype(r.dtype), state.squares, updates
        )
        scaled = jax.tree.map(lambda r, g: _over(g, root(r)), squares, updates)
        return scaled, SquaresState(optax.safe_increment(state.count), squares)

    return optax.GradientTransformationExtraArgs(init, update)


def _square(g: Array) -> Array:
    """Return |g|^2 in float32 at least: in float16 the square of 1e-4 is zero already."""
    real = jnp.real(g).astype(_real(g))
    return jnp.square(real) + jnp.square(jnp.imag(g)) if jnp.iscomplexobj(g) else jnp.square(real)


def _real(p: Array) -> jnp.dtype:
    return jnp.finfo(jnp.promote_types(jnp.result_type(p), jnp.float32)).dtype


def _over(g: Array, root: Array) -> Array:
    """Return g / root in the type of g; 0 where both are 0."""
    return (g / jnp.where(root == 0, 1, root)).astype(jnp.result_type(g))


def adagrad(
    learning_rate: optax.ScalarOrSchedule = 0.01, *, delta: float = 1e-7
) -> optax.GradientTransformationExtraArgs:
    """Descend with a rate per parameter that shrinks with its past gradients.

        r <- r + g * g,   theta <- theta - e g / (delta + sqrt(r)),   from r = 0

    `optax.adagrad` starts r at 0.1 and has 1e-7 inside the root; with gradients well below 0.3 that
    is plain gradient descent for many steps. For convex problems; in deep networks the sum over the
    whole of training shrinks the rate too early and too much, which RMSProp's running mean mends.

    Args:
      learning_rate: e >= 0, or a schedule of it; about the length of the first step.
      delta: >= 0.

    Returns:
      A complete optimizer.

    Raises:
      ValueError: for arguments that are out of range.

    Example:
      >>> tx = adagrad(0.5)
      >>> theta, state = jnp.float32(1.0), tx.init(jnp.float32(1.0))
      >>> for _ in range(2):
      ...     u, state = tx.update(theta, state, theta)  # the gradient of theta^2 / 2
      ...     theta = theta + u
      >>> round(float(theta), 4)
      0.2764

    Source: DLB algorithm 8.4; Duchi et al. 2011.
    """
    require("adagrad(learning_rate=...)", learning_rate, ">= 0", lambda e: e >= 0)
    require("adagrad(delta=...)", delta, ">= 0", lambda d: d >= 0)
    return optax.chain(scale_by_adagrad(delta), optax.scale_by_learning_rate(learning_rate))


def rmsprop_nesterov(
    learning_rate: optax.ScalarOrSchedule = 0.001,
    momentum: optax.ScalarOrSchedule = 0.9,
    *,
    decay: optax.ScalarOrSchedule = 0.9,
    delta: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Descend with RMSProp's rates and Nesterov's velocity.

        g = grad J(theta + a v),   r <- rho r + (1 - rho) g * g,
        v <- a v - e g / sqrt(delta + r),   theta <- theta + v

    The parameters are the look-ahead point theta + a v, where the gradient is taken anyway;
    `eval_params(state, params)` gives theta, to evaluate and to save.

    Args:
      learning_rate: e >= 0, or a schedule of it.
      momentum: a, in [0, 1), or a schedule of it.
      decay: rho, in [0, 1), or a schedule of it.
      delta: >= 0; the algorithm has none, and a parameter that never had a gradient stays.

    Returns:
      A complete optimizer.

    Raises:
      ValueError: for arguments that are out of range.

    Example:
      >>> from fdl.optim.momentum import eval_params
      >>> tx = rmsprop_nesterov(0.1, 0.5, decay=0.75)
      >>> phi = jnp.array([1.0, 100.0])
      >>> u, state = tx.update(phi, tx.init(phi), phi)
      >>> [round(float(x), 4) for x in eval_params(state, phi + u)]
      [0.8, 99.8]

    Source: DLB algorithm 8.6.
    """
    require("rmsprop_nesterov(learning_rate=...)", learning_rate, ">= 0", lambda e: e >= 0)
    require("rmsprop_nesterov(momentum=...)", momentum, "in [0, 1)", lambda a: 0 <= a < 1)
    require("rmsprop_nesterov(decay=...)", decay, "in [0, 1)", lambda rho: 0 <= rho < 1)
    require("rmsprop_nesterov(delta=...)", delta, ">= 0", lambda d: d >= 0)
    return optax.chain(
        scale_by_rmsprop(decay, delta),
        optax.scale_by_learning_rate(learning_rate),
        scale_by_nesterov(momentum),
    )
