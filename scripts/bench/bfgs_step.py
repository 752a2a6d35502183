"""One BFGS iteration at n numbers: ours, one written by hand, and what XLA says of the update.

The hand-written loop is the least that can be called BFGS: a backtracking search, and a correction
of rank two that reads the matrix once for its product with (y, g) and once to be corrected. It has
no safeguards. Ours is measured against it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from fdl.optim import scale_by_bfgs

Array = jax.Array
Function = Callable[[Array], Array]


class Here(NamedTuple):
    x: Array
    value: Array
    grad: Array
    direction: Array
    matrix: Array
    count: Array


def hand_written(f: Function, iterations: int) -> Callable[[Array], Here]:
    """Return x0 -> the state after so many iterations, to be compiled by the caller."""
    both = jax.value_and_grad(f)

    def search(here: Here) -> tuple[Array, Array]:
        slope = here.grad @ here.direction

        def too_high(trial: tuple[Array, Array]) -> Array:
            step, value = trial
            return ~(value <= here.value + 1e-4 * step * slope) & (step > 1e-12)

        def shorten(trial: tuple[Array, Array]) -> tuple[Array, Array]:
            step = trial[0] / 2
            return step, f(here.x + step * here.direction)

        return lax.while_loop(too_high, shorten, (jnp.ones(()), f(here.x + here.direction)))

    def iterate(here: Here) -> Here:
        step, _ = search(here)
        s = step * here.direction
        x = here.x + s
        value, grad = both(x)
        y = grad - here.grad
        sy = s @ y
        size = jnp.where(here.count == 0, sy / (y @ y), 1.0)
        my, mg = size * (jnp.stack([y, grad]) @ here.matrix)  # symmetric; quicker from the left
        rate = jnp.where(sy > 0, 1 / sy, 0.0)
        v = 0.5 * rate * (1 + rate * (y @ my)) * s - rate * my
        # else the n numbers of s and v are computed anew for each of the n^2
        s, v = lax.optimization_barrier((s, v))
        matrix = size * here.matrix + jnp.outer(s, v) + jnp.outer(v, s)
        direction = -(mg + s * (v @ grad) + v * (s @ grad))
        return Here(x, value, grad, direction, matrix, here.count + 1)

    def run(x0: Array) -> Here:
        value, grad = both(x0)
        first = -grad * jnp.minimum(1.0, 1 / jnp.linalg.norm(grad))
        begin = Here(x0, value, grad, first, jnp.eye(x0.size), jnp.zeros((), jnp.int32))
        return lax.while_loop(lambda here: here.count < iterations, iterate, begin)

    return run


class Analysis(NamedTuple):
    """What XLA says of one compiled update, each divided by n^2 (numbers, not bytes).

    `further` is the memory beside the state and the arguments: temporary arrays, and results that
    do not take the place of the state.
    """

    flops: float
    traffic: float
    state: float
    further: float


def analyse(update: Callable[..., Any], state: Any, *args: Any) -> Analysis:
    """Compile update(state, *args), the state handed over for good, and read its costs."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if isinstance(leaf, jax.Array)]
    n2 = max(leaf.size for leaf in leaves)
    compiled = jax.jit(update, donate_argnums=0).lower(state, *args).compile()
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    fresh = memory.output_size_in_bytes - memory.alias_size_in_bytes
    temporary = memory.temp_size_in_bytes
    number = max(leaves, key=lambda leaf: leaf.size).dtype.itemsize
    return Analysis(
        flops=cost["flops"] / n2,
        traffic=cost["bytes accessed"] / number / n2,
        state=sum(leaf.nbytes for leaf in leaves) / number / n2,
        further=(temporary + fresh) / number / n2,
    )


def ours(n: int) -> Analysis:
    """Analyse the update of `scale_by_bfgs` as `bfgs` uses it."""
    tx = optax.with_extra_args_support(scale_by_bfgs(self_scaling=True))
    x = jnp.zeros(n)

    def update(state: Any, grad: Array, x: Array, value: Array) -> Any:
        direction, state = tx.update(grad, state, x, value=value)
        return state, direction

    return analyse(update, tx.init(x), x, x, jnp.zeros(()))


def of_optimistix(f: Function, n: int) -> Analysis:
    """Analyse a step of optimistix's BFGS; the objective is part of it, but is not of order n^2."""
    import equinox as eqx
    import optimistix as optx

    x, struct = jnp.zeros(n), jax.ShapeDtypeStruct((), jnp.zeros(()).dtype)
    solver = optx.BFGS(rtol=0.0, atol=0.0)
    fn = eqx.filter_closure_convert(lambda x, _: (f(x), None), x, None)
    arrays, rest = eqx.partition(
        solver.init(fn, x, None, {}, struct, None, frozenset()), eqx.is_array
    )

    def step(arrays: Any, x: Array) -> Any:
        state = eqx.combine(arrays, rest)
        x, state, _ = solver.step(fn, x, None, {}, state, frozenset())
        return eqx.filter(state, eqx.is_array), x

    return analyse(step, arrays, x)
