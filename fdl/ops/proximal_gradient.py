"""Proximal gradient descent on f(z) + l1 |z|_1, plain (ISTA) and accelerated (FISTA)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.ops.units import soft_shrink
from fdl.types import Array


class _Carry(NamedTuple):
    """Where the iteration is; `momentum` is t, one number for all examples."""

    z: Array
    y: Array  # where the gradient is taken
    momentum: Array
    rests: Array  # which examples have stopped, (batch, 1, ...)


def proximal_gradient(
    gradient: Callable[[Array], Array],
    start: ArrayLike,
    *,
    lipschitz: ArrayLike,
    l1: ArrayLike,
    steps: int,
    accelerate: bool = True,
    tolerance: float | None = None,
) -> Array:
    """Minimise f(z) + l1 |z|_1 from the gradient of f.

    z_k = S(y_k - grad f(y_k) / L, l1 / L),  S(a, t) = sign(a) max(|a| - t, 0);  y_{k+1} = z_k, or
    accelerated z_k + (t_k - 1) / t_{k+1} (z_k - z_{k-1}), t_{k+1} = (1 + sqrt(1 + 4 t_k^2)) / 2

    `fista`, `ista` and `psd_codes` are this with the gradient written out. Without a tolerance the
    result can be differentiated through all steps; those three return constants.

    Args:
      gradient: of f, of all examples at once: (batch, ...) -> the same shape.
      start: z_0, shape (batch, ...), floating point.
      lipschitz: L > 0, at least the largest curvature of f.
      l1: strength, >= 0.
      steps: how many, >= 0; at most as many with a tolerance.
      accelerate: with momentum (FISTA) or without (ISTA, which never rises).
      tolerance: an example rests when no entry of it changed by more, whatever the others of its
        batch do; None: never.

    Returns:
      z after the last step.

    Example:
      >>> f_slope = lambda z: z - jnp.array([[1.0, 3.0]])
      >>> proximal_gradient(f_slope, jnp.zeros((1, 2)), lipschitz=1.0, l1=0.5, steps=1)
      Array([[0.5, 2.5]], dtype=float32)

    Source: Beck and Teboulle 2009, equations 3.1 and 4.1 to 4.3.
    """
    first, advance = _iteration(gradient, start, lipschitz, l1, accelerate, tolerance)
    if tolerance is None:
        last, _ = jax.lax.scan(lambda c, _: (advance(c), None), first, None, length=steps)
        return last.z

    def goes_on(carry: tuple[Array, _Carry]) -> Array:
        return (carry[0] < steps) & ~carry[1].rests.all()

    def both(carry: tuple[Array, _Carry]) -> tuple[Array, _Carry]:
        return carry[0] + 1, advance(carry[1])

    return jax.lax.while_loop(goes_on, both, (jnp.int32(0), first))[1].z


def proximal_path(
    gradient: Callable[[Array], Array],
    start: ArrayLike,
    *,
    lipschitz: ArrayLike,
    l1: ArrayLike,
    steps: int,
    accelerate: bool = True,
) -> Array:
    """Return the points that `proximal_gradient` passes: z_1, ..., z_steps.

    Args:
      gradient: as there.
      start: as there.
      lipschitz: as there.
      l1: as there.
      steps: as there.
      accelerate: as there.

    Returns:
      Shape (steps, batch, ...).

    Example:
      >>> f_slope = lambda z: z - 1.0
      >>> proximal_path(f_slope, jnp.zeros((1, 1)), lipschitz=2.0, l1=0.0, steps=2)[:, 0, 0]
      Array([0.5 , 0.75], dtype=float32)
    """
    first, advance = _iteration(gradient, start, lipschitz, l1, accelerate, None)

    def step(carry: _Carry, _: None) -> tuple[_Carry, Array]:
        new = advance(carry)
        return new, new.z

    return jax.lax.scan(step, first, None, length=steps)[1]


def _iteration(
    gradient: Callable[[Array], Array],
    start: ArrayLike,
    lipschitz: ArrayLike,
    l1: ArrayLike,
    accelerate: bool,
    tolerance: float | None,
) -> tuple[_Carry, Callable[[_Carry], _Carry]]:
    z = jnp.asarray(start)
    # a dictionary of zeros has L = 0; any step does
    lipschitz = jnp.maximum(jnp.asarray(lipschitz, z.dtype), jnp.finfo(z.dtype).tiny)
    threshold = jnp.asarray(l1, z.dtype) / lipschitz
    threshold = jnp.broadcast_to(threshold, (1,) * z.ndim)

    def advance(carry: _Carry) -> _Carry:
        new = soft_shrink(carry.y - gradient(carry.y) / lipschitz, threshold)
        momentum = (1 + jnp.sqrt(1 + 4 * jnp.square(carry.momentum))) / 2
        push = (carry.momentum - 1) / momentum if accelerate else jnp.zeros_like(momentum)
        y = new + push * (new - carry.z)
        if tolerance is None:
            return _Carry(new, y, momentum, carry.rests)
        change = jnp.abs(new - carry.z).max(tuple(range(1, z.ndim)), keepdims=True)
        rests = carry.rests
        kept, ahead = jnp.where(rests, carry.z, new), jnp.where(rests, carry.y, y)
        return _Carry(kept, ahead, momentum, rests | (change <= tolerance))

    rests = jnp.zeros((len(z), *(1,) * (z.ndim - 1)), bool)
    return _Carry(z, z, jnp.ones((), z.dtype), rests), advance
