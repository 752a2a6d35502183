"""Count on the host how often a JAX function, its gradient and its Hessian really run.

    fun = counted(f, counts)      fun == f in value and in every derivative

`counts.nf` grows when a value of f is computed, `ng` when a reverse pass (or a directional
derivative) is, `nh` when a Hessian-vector product is, in whichever way it was written: forward over
reverse, reverse over reverse or reverse over forward. What a compiled program skips, such as the
other branch of `lax.cond` or a result nobody reads, is not counted; a `vmap` counts its lanes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Array = jax.Array


@dataclass(eq=False)  # compared by identity: a parameter of the primitive below
class Counts:
    nf: int = 0
    ng: int = 0
    nh: int = 0

    def reset(self) -> None:
        self.nf = self.ng = self.nh = 0

    @property
    def work(self) -> int:
        return self.nf + 2 * self.ng + 4 * self.nh


def counted(f: Callable[[Array], Array], counts: Counts) -> Callable[[Array], Array]:
    """Return x -> f(x) for one array x and a scalar f, its executions counted."""

    def fun(x: Array) -> Array:
        return tick(f(tick(x, counts, "input")), counts, "value")

    return fun


# A primitive that is the identity and runs a callback on its way. Callbacks sit where a result
# leaves: the value at the end, a gradient where it comes out of the pullback; so if only the
# tangent of a gradient is read, the compiler drops the gradient together with its tick.
#
#   kind         counts        its derivative                          its transpose
#   value        nf            directional
#   directional  ng, nh, ...   directional                             identity
#   input        nothing       tangent; itself is of one order more    -
#   tangent      nothing       tangent                                 pullback
#   pullback     ng, nh, ...   pullback, of one order more             identity
tick_p = Primitive("tick")


def tick(x: Array, counts: Counts, kind: str, order: int = 0, times: int = 1) -> Array:
    return tick_p.bind(x, counts=counts, kind=kind, order=order, times=times)


def _run(x: Array, *, counts: Counts, kind: str, order: int, times: int) -> Array:
    if kind in ("input", "tangent"):
        return x
    field = "nf" if kind == "value" else "ng" if order == 1 else "nh"

    def add(x: Array) -> np.ndarray:
        setattr(counts, field, getattr(counts, field) + times)
        return np.asarray(x)

    return jax.pure_callback(add, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def _jvp(primals: Any, tangents: Any, *, counts: Counts, kind: str, order: int, times: int) -> Any:
    (x,), (t,) = primals, tangents
    higher = order + 1 if kind == "input" else order
    out = tick(x, counts, kind, higher, times)
    if isinstance(t, ad.Zero):
        return out, t
    if kind == "value":
        return out, tick(t, counts, "directional", 1, times)
    if kind == "input":
        return out, tick(t, counts, "tangent", higher, times)
    return out, tick(t, counts, kind, order + (kind != "tangent"), times)


def _transpose(
    cotangent: Any, x: Any, *, counts: Counts, kind: str, order: int, times: int
) -> list[Any]:
    if isinstance(cotangent, ad.Zero):
        return [ad.Zero(x.aval)]
    if kind == "tangent":
        return [tick(cotangent, counts, "pullback", order, times)]
    return [cotangent]


def _batch(args: Any, dims: Any, *, counts: Counts, kind: str, order: int, times: int) -> Any:
    (x,), (dim,) = args, dims
    return tick(x, counts, kind, order, times * x.shape[dim]), dim


tick_p.def_impl(_run)
tick_p.def_abstract_eval(lambda x, **_: x)
mlir.register_lowering(tick_p, mlir.lower_fun(_run, multiple_results=False))
ad.primitive_jvps[tick_p] = _jvp
ad.primitive_transposes[tick_p] = _transpose
batching.primitive_batchers[tick_p] = _batch
