"""Conjugate gradients for A x = b: one product with A a step, and a stop where A bends down."""

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fdl import tree
from fdl.curvature.lanczos import HIGHEST
from fdl.curvature.products import Operator
from fdl.types import Array, PyTree

MARTENS_EPSILON = 5e-4  # Martens 2010, section 4.4


class CGStatus(IntEnum):
    """Why conjugate gradients stopped."""

    CONVERGED = 0
    MAX_STEPS = 1
    NEGATIVE_CURVATURE = 2
    NOT_FINITE = 3


class CGResult(NamedTuple):
    """Where conjugate gradients stopped, and why.

    Attributes:
      x: the last iterate, a tree like b; after NEGATIVE_CURVATURE or NOT_FINITE the one before.
      status: a `CGStatus`, int32 scalar.
      steps: products made after the first residual, int32 scalar.
      residual_norm: |b - A x|, as carried along, scalar.
      direction: the last direction d, a tree like b.
      curvature: d'A d / d'd, scalar; not positive after NEGATIVE_CURVATURE, 0 before any step.
      kept: the iterates of the steps asked for along a leading axis; the last one from where the
        method stopped.
    """

    x: PyTree
    status: Array
    steps: Array
    residual_norm: Array
    direction: PyTree
    curvature: Array
    kept: PyTree


class _Loop(NamedTuple):
    x: Array
    r: Array  # b - A x
    d: Array
    rz: Array  # r' M^-1 r
    status: Array  # -1 while running
    steps: Array
    curvature: Array
    models: Array  # 1/2 x'A x - b'x after each step, [max_steps + 1], for the rule "martens"
    kept: Array  # [m, n]


def conjugate_gradient(
    operator: Operator,
    b: PyTree,
    *,
    x0: PyTree | None = None,
    preconditioner: Operator | None = None,
    rtol: float | Array = 1e-5,
    atol: float | Array = 0.0,
    max_steps: int = 100,
    rule: Literal["residual", "martens"] = "residual",
    keep: Sequence[int] = (),
) -> CGResult:
    """Solve A x = b, that is minimise m(x) = 1/2 x'A x - b'x, for a positive definite operator.

    a = r'z / d'A d,  x <- x + a d,  r <- r - a A d,  z = M^-1 r,  d <- z + (r'z / r_'z_) d

    It stops when |r| <= max(rtol |b|, atol); with the rule "martens" also when the last
    k = max(10, steps / 10) steps together lowered m by less than k 5e-4 of its value. Where
    d'A d <= 0 the operator is not positive definite: it stops with the status NEGATIVE_CURVATURE
    and that direction. Exact in as many steps as A has distinct eigenvalues, up to rounding.

    Args:
      operator: v -> A v, symmetric linear function of a tree like b.
      b: arrays of any shape.
      x0: where to start, a tree like b; 0 by default.
      preconditioner: v -> M^-1 v, symmetric positive definite, M close to A.
      rtol: tolerance relative to |b|.
      atol: absolute tolerance.
      max_steps: >= 1.
      rule: "residual", or "martens" for the progress of m as well.
      keep: ascending step numbers whose iterates are to be returned as well.

    Returns:
      A `CGResult`; sums are float32 at least, x has the types of b.

    Raises:
      ValueError: for max_steps below 1, an unknown rule, or `keep` that does not ascend.

    Example:
      >>> a = jnp.array([[4.0, 1.0], [1.0, 3.0]])
      >>> found = conjugate_gradient(lambda v: a @ v, jnp.array([1.0, 2.0]))
      >>> [round(float(x), 4) for x in found.x], CGStatus(int(found.status)).name, int(found.steps)
      ([0.0909, 0.6364], 'CONVERGED', 2)

    Source: Nocedal and Wright 2006, algorithms 5.3 and 7.1; Martens 2010, section 4.4.
    """
    _check(max_steps, rule, keep)
    flat, unravel = tree.ravel(b)
    slots = jnp.asarray([*keep, jnp.iinfo(jnp.int32).max], jnp.int32)

    def times(function: Operator | None, v: Array) -> Array:
        return v if function is None else tree.ravel(function(unravel(v)))[0].astype(v.dtype)

    x = jnp.zeros_like(flat) if x0 is None else tree.ravel(x0)[0].astype(flat.dtype)
    r = flat if x0 is None else flat - times(operator, x)
    z = times(preconditioner, r)
    enough = jnp.maximum(rtol * jnp.linalg.norm(flat), atol).astype(flat.dtype)

    def finished(loop: _Loop) -> _Loop:
        """Give the loop the status that its own numbers show."""
        size = jnp.linalg.norm(loop.r)
        status = jnp.where(loop.steps >= max_steps, CGStatus.MAX_STEPS, loop.status)
        if rule == "martens":
            status = jnp.where(_stalled(loop), CGStatus.CONVERGED, status)
        status = jnp.where(size <= enough, CGStatus.CONVERGED, status)
        status = jnp.where(jnp.isfinite(size + loop.rz), status, CGStatus.NOT_FINITE)
        return loop._replace(status=status.astype(jnp.int32))

    def step(loop: _Loop) -> _Loop:
        image = times(operator, loop.d)
        bend = _dot(loop.d, image)
        length = loop.rz / jnp.where(bend > 0, bend, 1)
        x, r = loop.x + length * loop.d, loop.r - length * image
        z = times(preconditioner, r)
        rz = _dot(r, z)
        d = z + rz / jnp.where(loop.rz > 0, loop.rz, 1) * loop.d
        steps = loop.steps + 1
        models, kept = loop.models, loop.kept
        if rule == "martens":
            models = models.at[steps].set(-0.5 * _dot(x, flat + r))
        if keep:
            kept = kept.at[(slots < steps).sum()].set(x)
        curvature = bend / _dot(loop.d, loop.d)
        done = _Loop(x, r, d, rz, loop.status, steps, curvature, models, kept)
        stay = loop._replace(steps=steps, curvature=curvature)
        down = stay._replace(status=jnp.int32(CGStatus.NEGATIVE_CURVATURE))
        lost = stay._replace(status=jnp.int32(CGStatus.NOT_FINITE))
        fine = tree.all_finite((x, r, rz)) & jnp.isfinite(bend)
        return _choose(fine, _choose(bend > 0, finished(done), down), lost)

    zero, count = jnp.zeros((), flat.dtype), jnp.zeros((), jnp.int32)
    models = jnp.zeros(max_steps + 1, flat.dtype).at[0].set(-0.5 * _dot(x, flat + r))
    kept = jnp.zeros((len(slots), flat.size), flat.dtype)
    start = _Loop(x, r, z, _dot(r, z), jnp.int32(-1), count, zero, models, kept)
    end = lax.while_loop(lambda loop: loop.status < 0, step, finished(start))
    # the slot that was being written when the method stopped, and those after it
    reached = (slots <= end.steps) & (end.steps > 0)
    kept = jnp.where(reached[:, None], end.kept, end.x[None])[: len(keep)]
    return CGResult(
        unravel(end.x),
        end.status,
        end.steps,
        jnp.linalg.norm(end.r),
        unravel(end.d),
        end.curvature,
        jax.vmap(unravel)(kept),
    )


def jacobi(diagonal: PyTree, *, shift: float | Array = 0.0, power: float = 1.0) -> Callable:
    """Return the preconditioner v -> v / (diagonal + shift)^power, element by element.

    Args:
      diagonal: positive estimates of the operator's diagonal, a tree.
      shift: added to it, > 0 where the diagonal can be 0.
      power: 1 for Jacobi's; 3/4 for Martens' milder one.

    Returns:
      A linear function of a tree like `diagonal`.

    Example:
      >>> jacobi(jnp.array([1.0, 4.0]))(jnp.ones(2)).tolist()
      [1.0, 0.25]

    Source: Saad 2003, section 10.2; Martens 2010, section 4.7.
    """
    scale = jax.tree.map(lambda d: (d + shift) ** power, diagonal)
    return lambda v: jax.tree.map(jnp.divide, v, scale)


def _check(max_steps: int, rule: str, keep: Sequence[int]) -> None:
    if max_steps < 1:
        raise ValueError(f"conjugate_gradient(max_steps=...) must be >= 1, got {max_steps}")
    if rule not in ("residual", "martens"):
        raise ValueError(f"conjugate_gradient(rule=...) must be residual or martens, got {rule!r}")
    if list(keep) != sorted(set(keep)) or (keep and keep[0] < 1):
        raise ValueError(f"conjugate_gradient(keep=...) must ascend from 1 on, got {keep}")


def _stalled(loop: _Loop) -> Array:
    i = loop.steps
    k = jnp.maximum(10, -(-i // 10))
    now, before = loop.models[i], loop.models[jnp.maximum(i - k, 0)]
    return (i > k) & (now < 0) & (before - now < -now * k * MARTENS_EPSILON)


def _choose(condition: Array, a: _Loop, b: _Loop) -> _Loop:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def _dot(a: Array, b: Array) -> Array:
    return jnp.dot(a, b, precision=HIGHEST)
