"""The minimum over one coordinate, with an L1 term whose kink is met exactly."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fdl import tree
from fdl.optim.hyperparams import require
from fdl.types import Array, Params, PyTree

TRIALS = 60  # evaluations on one coordinate; a quadratic function takes two


class _At(NamedTuple):
    """A point z, with J + l1 |z| and its slope there, J' and J''."""

    z: Array
    total: Array
    slope: Array
    first: Array
    second: Array


class _Carry(NamedTuple):
    """The lowest point, the far end of the interval that holds the minimum, and whether it is.

    The far end may be infinitely far.
    """

    low: _At
    far: _At
    trials: Array
    settled: Array


def minimise(
    value: Callable[[Array], Array] | None, start: Array, slope: Array, strength: Array
) -> Array:
    """Return the z that minimises J(z) + l1 |z|, by Newton steps with soft threshold.

    A step is to the minimiser of J's parabola + l1 |z|, where J bends down with |J''| for J''.
    Where that is no lower by a share of what was predicted, it bounds the minimum. Later steps that
    would leave the interval go where the tangents at its ends meet: its middle for a parabola, and
    the corner of a bent line.

    Args:
      value: J of a scalar; None: unknown, and one gradient step is made, at most 1 long.
      start: where to begin.
      slope: J' there; used where J is unknown.
      strength: l1 >= 0.

    Returns:
      The minimiser; `start` where nothing lower was found.

    Example:
      >>> x = jnp.float32(5.0)
      >>> [round(float(minimise(lambda z: (z - 1) ** 2, x, x, l1)), 4) for l1 in (0.0, 0.5, 3.0)]
      [1.0, 0.75, 0.0]

    Source: Wright 2015, arXiv 1502.04759; the soft threshold as in Friedman et al. 2007.
    """
    if value is None:
        step = jnp.minimum(1.0, 1.0 / jnp.abs(slope))
        return soft_threshold(start - step * slope, step * strength).astype(start.dtype)
    one, eps = jnp.ones_like(start), jnp.finfo(start.dtype).eps

    def look(z: Array) -> _At:
        derivative = lambda z: jax.jvp(value, (z,), (one,))  # noqa: E731
        (j, first), (_, second) = jax.jvp(derivative, (z,), (one,))
        total = j + strength * jnp.abs(z)
        return _At(z, total, smallest_subgradient(z, first, strength), first, second)

    def wanted(c: _Carry) -> Array:
        return ~c.settled & (c.trials < TRIALS) & jnp.isfinite(c.low.total)

    def body(c: _Carry) -> _Carry:
        low, target = c.low, _inside(c.low, c.far, _newton(c.low, strength))
        new, step = look(target), target - low.z
        # the value itself is not known better than this
        slack = 8 * eps * jnp.abs(low.total)
        lower = new.total <= low.total + 1e-4 * low.slope * step + slack
        passed = lower & (new.slope * step > 0)  # beyond the minimum: it lies between the two
        far = _where(lower, _where(passed, low, c.far), new)
        # one more Newton step squares the error: below the root of eps it is the last
        small = jnp.abs(step) <= jnp.sqrt(eps) * jnp.maximum(jnp.abs(low.z), jnp.abs(start))
        low = _where(lower, new, low)
        return _Carry(low, far, c.trials + 1, (lower & small) | (step == 0) | (low.slope == 0))

    begin = look(start)
    nowhere = begin._replace(z=one * jnp.inf, total=one * jnp.inf)
    none = jnp.zeros((), jnp.int32)
    return lax.while_loop(wanted, body, _Carry(begin, nowhere, none, begin.slope == 0)).low.z


def _newton(at: _At, strength: Array) -> Array:
    """Return the minimiser of the parabola + l1 |z|; one gradient step where there is no bend."""
    bend = jnp.where((at.second == 0) | ~jnp.isfinite(at.second), 1, jnp.abs(at.second))
    return soft_threshold(at.z - at.first / bend, strength / bend)


def _inside(low: _At, far: _At, target: Array) -> Array:
    """Return a target that is well inside the interval, if there is one."""
    meet = low.total - far.total + far.slope * far.z - low.slope * low.z
    share = (meet / (far.slope - low.slope) - low.z) / (far.z - low.z)
    share = jnp.where((share > 0.01) & (share < 0.99), share, 0.5)
    between = ((target - low.z) / (far.z - low.z) >= 0) & (
        jnp.abs(target - low.z) < 0.99 * jnp.abs(far.z - low.z)
    )
    free = jnp.isinf(far.z)
    return jnp.where(free | between, target, low.z + share * (far.z - low.z))


def _where(condition: Array, yes: _At, no: _At) -> _At:
    return jax.tree.map(lambda y, n: jnp.where(condition, y, n), yes, no)


def soft_threshold(a: Array, by: Array) -> Array:
    """Return sign(a) max(|a| - t, 0), the minimiser of (z - a)^2 / 2 + t |z|.

    Example:
      >>> [float(soft_threshold(jnp.float32(a), 0.5)) for a in (2.0, 0.3, -1.0)]
      [1.5, 0.0, -0.5]
    """
    return jnp.where(jnp.abs(a) <= by, 0, a - jnp.sign(a) * by)


def smallest_subgradient(x: Array, gradient: Array, strength: Array) -> Array:
    """Return the element of smallest norm of the subdifferential of J(x) + sum_i l1_i |x_i|.

    It is zero exactly at a minimum of a convex J, and says by how much a coordinate can descend.

    Example:
      >>> x, g = jnp.array([0.0, 0.0, 2.0]), jnp.array([0.3, -3.0, 1.0])
      >>> smallest_subgradient(x, g, jnp.ones(3)).tolist()
      [0.0, -2.0, 2.0]
    """
    return jnp.where(x == 0, soft_threshold(gradient, strength), gradient + strength * jnp.sign(x))


def check_strengths(l1: PyTree) -> None:
    """Raise unless every strength that is a number is at least 0."""
    for strength in jax.tree.leaves(l1):
        require("coordinate_descent(l1=...)", strength, ">= 0", lambda s: s >= 0)


def strengths(l1: PyTree, params: Params) -> Array:
    """Lay strengths out as `fdl.tree.ravel` does the parameters.

    Args:
      l1: a number, or a prefix of the tree with a number for each of its branches.
      params: n numbers in all.

    Returns:
      A strength for each, [n].

    Example:
      >>> strengths({"w": 0.5, "b": 0.0}, {"w": jnp.ones(2), "b": jnp.ones(1)}).tolist()
      [0.0, 0.5, 0.5]
    """

    def fill(strength: Any, below: PyTree) -> PyTree:
        return jax.tree.map(lambda p: _like(strength, p), below)

    return tree.ravel(jax.tree.map(fill, l1, params))[0]


def _like(strength: Any, p: Array) -> Array:
    full = jnp.full(jnp.shape(p), strength, tree.dtype(p))
    return lax.complex(full, full) if jnp.iscomplexobj(p) else full
