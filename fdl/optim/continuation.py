"""Continuation: a sequence of smoothed objectives that ends on the one that is meant."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fdl.optim import objective
from fdl.optim.hyperparams import at, require
from fdl.types import Array, Params, PyTree


class GraduatedState(NamedTuple):
    """State of `graduated`.

    Attributes:
      count: updates made, int32 scalar.
      inner: state of the inner transformation.
    """

    count: Array  # type: ignore[assignment]
    inner: PyTree


def smoothed(
    value_fn: Callable[[Params], Array], sigma: Array | float, key: Array, n_samples: int
) -> Callable[[Params], Array]:
    """Smooth an objective by Gaussian noise on its parameters.

        J_s(theta) = E J(theta + s z),  z ~ N(0, I)

    estimated from n samples +-z_1, ..., +-z_{n/2} that are fixed by the key, so that the result is
    a function like any other, with gradients and Hessians. In pairs of opposite sign the odd part
    of J cancels: linear functions come out exact.

    Smoothing adds s^2 tr(H) / 2 to a quadratic function and multiplies a wave sin(k x) by
    exp(-k^2 s^2 / 2): what varies over lengths below s is gone, and local minima with it.

    Args:
      value_fn: params -> scalar.
      sigma: s >= 0, the standard deviation; 0 gives the objective itself.
      key: typed PRNG key.
      n_samples: even and >= 2; evaluated at once by `jax.vmap`, so that memory grows with it.

    Returns:
      A function params -> scalar.

    Raises:
      ValueError: for arguments that are out of range.

    Example:
      >>> f = smoothed(lambda x: jnp.sin(2 * x), 0.5, jax.random.key(0), 20_000)
      >>> round(float(f(1.0)), 2), round(float(jnp.sin(2.0) * jnp.exp(-0.5)), 2)
      (0.55, 0.55)

    Source: DLB 8.7.6; Mobahi and Fisher 2015.
    """
    _check("smoothed", sigma, n_samples)

    def value(params: Params) -> Array:
        def pair(key: Array) -> Array:
            noise = _noise(key, params)
            ahead, back = (
                value_fn(jax.tree.map(lambda p, z, s=s: _add(p, s * z), params, noise))
                for s in (sigma, -sigma)
            )
            return (ahead + back) / 2

        return jax.vmap(pair)(jax.random.split(key, n_samples // 2)).mean()

    return value


def graduated(
    inner: optax.GradientTransformation,
    sigma: optax.ScalarOrSchedule,
    n_samples: int = 16,
    seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
    """Run any transformation on smoothed objectives, from much smoothing to none.

    Step t minimises J_t(theta) = E J(theta + s_t z), see `smoothed`: the inner transformation is
    handed its gradient, value and `value_fn`. The samples are a function of (seed, t): the same for
    all evaluations of a line search, on all devices, and in a run that is resumed. With a schedule
    that falls to 0 slowly enough the minimiser is followed from that of the smoothed objective,
    which has few local minima, to a good one of J. What is far from the path is not seen: a narrow
    deep minimum inside a wide flat one is smoothed away.

    Costs `n_samples` gradients a step (also where s is 0), and memory for as many at once.

    Args:
      inner: any transformation.
      sigma: s >= 0, or a schedule of it that ends at 0, such as `optax.linear_schedule(1.0, 0.0,
        steps)`.
      n_samples: even and >= 2.
      seed: of the samples.

    Returns:
      A transformation that needs `params` and `value_fn` in `update`. Under `optax.masked` and
      `optax.partition`, which hide the other parameters, J cannot be evaluated: the inner one then
      runs on J itself, with a warning.

    Raises:
      ValueError: for arguments that are out of range; from `update` when `params` are missing.

    Example:
      >>> f = lambda x: 0.05 * x**2 - jnp.cos(2 * x)  # minima near 0, 3, 6; the best at 0
      >>> def run(tx, x):
      ...     def step(carry, _):
      ...         x, state = carry
      ...         u, state = tx.update(jax.grad(f)(x), state, x, value_fn=f)
      ...         return (x + u, state), None
      ...     return round(float(jax.lax.scan(step, (x, tx.init(x)), length=300)[0][0]), 2)
      >>> descend = optax.with_extra_args_support(optax.sgd(0.1))
      >>> start = jnp.float32(5.0)
      >>> run(descend, start), abs(run(graduated(descend, optax.linear_schedule(2, 0, 250)), start))
      (6.13, 0.0)

    Source: DLB 8.7.6; Mobahi and Fisher 2015.
    """
    _check("graduated", sigma, n_samples)
    inner = optax.with_extra_args_support(inner)

    def init(params: Params) -> GraduatedState:
        return GraduatedState(jnp.zeros((), jnp.int32), inner.init(params))

    def update(
        updates: PyTree,
        state: GraduatedState,
        params: Params | None = None,
        *,
        value_fn: objective.ValueFn,
        grad: PyTree | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, GraduatedState]:
        if params is None:
            raise ValueError("graduated: update(params=...) must be given")
        value = objective.bind(value_fn, params, grad, extra_args)
        if value is None:
            passed = extra_args | {"value_fn": value_fn, "grad": grad}
        else:
            key = jax.random.fold_in(jax.random.key(seed), state.count)
            smooth = smoothed(value, at(sigma, state.count), key, n_samples)
            there, slope = jax.value_and_grad(smooth)(params)
            updates = jax.tree.map(jnp.conj, slope)
            passed = extra_args | {"value_fn": smooth, "value": there, "grad": slope}
        updates, new = inner.update(updates, state.inner, params, **passed)
        return updates, GraduatedState(optax.safe_increment(state.count), new)

    return optax.GradientTransformationExtraArgs(init, update)


def _check(name: str, sigma: Any, n_samples: int) -> None:
    require(f"{name}(sigma=...)", sigma, ">= 0", lambda s: s >= 0)
    rule = "even and >= 2"
    require(f"{name}(n_samples=...)", n_samples, rule, lambda n: n >= 2 and n % 2 == 0)


def _noise(key: Array, params: Params) -> PyTree:
    """Return standard normal numbers; a complex one is two real ones."""
    leaves, structure = jax.tree.flatten(params)

    def draw(i: int, p: Array) -> Array:
        kind = jnp.promote_types(jnp.result_type(p), jnp.float32)
        z = jax.random.normal(jax.random.fold_in(key, i), jnp.shape(p), kind)
        return z * jnp.sqrt(2.0).astype(z.real.dtype) if jnp.iscomplexobj(z) else z

    return jax.tree.unflatten(structure, [draw(i, p) for i, p in enumerate(leaves)])


def _add(p: Array, z: Array) -> Array:
    return (p + z).astype(jnp.result_type(p))
