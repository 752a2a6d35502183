"""An optimizer by its name on the command line."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_origin

import jax
import jax.numpy as jnp
import optax

from fdl import optim, tree
from fdl.errors import InputError
from fdl.types import Params

Factory = Callable[..., optax.GradientTransformation]

LARGEST = 2**30  # bytes of one matrix; a step of BFGS or Newton's method holds some four of them
VECTORS = 100  # arrays that are as long as so many times the parameters are no matrices yet


def optimizer(
    name: str,
    learning_rate: float | None = None,
    *,
    default: float,
    schedule: Callable[[float], optax.ScalarOrSchedule] = float,
    params: Params | None = None,
    **options: Any,
) -> optax.GradientTransformation:
    """Make the optimizer of `fdl.optim` or of optax called `name`.

    Args:
      name: a key of `factories`, as "momentum", "bfgs", "adamw" or "optax.lbfgs".
      learning_rate: None leaves it to the optimizer's line search, where it has one.
      default: the learning rate of all others.
      schedule: from the learning rate to its schedule, such as
        `lambda lr: optax.cosine_decay_schedule(lr, steps)`; not asked where a line search
        decides, nor of the few optimizers that take a number only.
      params: what is to be learned, arrays or their shapes; None: the memory is not looked at.
      **options: those that the function takes are passed on (`momentum` to "sgd"), others are not.

    Returns:
      The transformation.

    Raises:
      InputError: for an unknown name, with the nearest known ones, a learning rate given to what
        takes none, what the optimizer refuses, or one whose matrices take more than a gigabyte
        each for `params`. Nothing is allocated before.

    Example:
      >>> tx = optimizer("sgd", default=0.1, momentum=0.9)
      >>> optimizer("sdg", default=0.1)
      Traceback (most recent call last):
      ...
      fdl.errors.InputError: --optimizer must name one of fdl.optim or optax, got 'sdg'; near: sgd
    """
    known = factories()
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, 3)) or ", ".join(sorted(known)[:5])
        rule = "--optimizer must name one of fdl.optim or optax"
        raise InputError(f"{rule}, got {name!r}; near: {near}")
    parameters = inspect.signature(known[name]).parameters
    taken = {option: value for option, value in options.items() if option in parameters}
    if "learning_rate" in parameters:
        taken |= _rate(parameters, learning_rate, default, schedule)
    elif learning_rate is not None:
        raise InputError(f"--optimizer {name} takes no learning rate, got {learning_rate}")
    try:
        tx = known[name](**taken)
    except (TypeError, ValueError) as error:
        raise InputError(f"--optimizer {name}: {error}") from error
    if params is not None:
        _refuse_matrices(name, tx, params)
    return tx


def factories() -> dict[str, Factory]:
    """Return the optimizers that need nothing but a learning rate, by name.

    Those of optax, of which each is also called "optax." and its name; those of `fdl.optim`, which
    come first where both have one ("adagrad" and "lbfgs"); and two of `fdl.optim` in their other
    form: "nesterov_lookahead", and "saddle_free_krylov" for any number of parameters.

    Example:
      >>> {"sgd", "adam", "bfgs", "lbfgs", "optax.lbfgs"} <= factories().keys()
      True
    """
    theirs, ours = (
        {name: f for name, f in vars(room).items() if _is_optimizer(name, f)}
        for room in (optax, optim)
    )
    others = {
        "coordinate_descent": optim.coordinate_descent,
        "nesterov_lookahead": functools.partial(optim.nesterov, form="lookahead"),
        "saddle_free_krylov": functools.partial(optim.saddle_free_newton, rank=20),
    }
    return theirs | {f"optax.{name}": f for name, f in theirs.items()} | ours | others


def _is_optimizer(name: str, f: Any) -> bool:
    if not inspect.isfunction(f) or name.startswith(("_", "scale_by_")):
        return False
    parameters = inspect.signature(f).parameters
    required = [
        p for p in parameters.values() if p.default is p.empty and p.kind < p.VAR_POSITIONAL
    ]
    return "learning_rate" in parameters and {p.name for p in required} <= {"learning_rate"}


def _rate(
    parameters: Any,
    learning_rate: float | None,
    default: float,
    schedule: Callable[[float], optax.ScalarOrSchedule],
) -> dict[str, Any]:
    if "linesearch" in parameters:
        return {} if learning_rate is None else {"learning_rate": learning_rate}
    # None to these is no step size at all, and to adadelta not even a descent
    rate = default if learning_rate is None else learning_rate
    kinds = [get_origin(kind) for kind in get_args(parameters["learning_rate"].annotation)]
    scheduled = Callable in kinds  # a few optimizers take a number only
    return {"learning_rate": schedule(rate) if scheduled else rate}


def _refuse_matrices(name: str, tx: optax.GradientTransformation, params: Params) -> None:
    """Refuse a method whose matrices are too large, as an update traced without data tells."""
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    largest = max(_arrays(_trace(tx, params)), key=_size)
    if largest.size > VECTORS * count and _size(largest) > LARGEST:
        shape = " x ".join(str(n) for n in largest.shape)
        raise InputError(
            f"--optimizer {name} computes with matrices of {shape} numbers,"
            f" {_size(largest) / 1e9:.1f} GB each, for {count} parameters: take a smaller model,"
            " or lbfgs, nonlinear_cg, newton_cg or saddle_free_krylov, which need no matrix"
        )


def _trace(tx: optax.GradientTransformation, params: Params) -> Any:
    """Return the jaxpr of the first update of a sum of squares."""

    def update(params: Params) -> Any:
        value, grad = jax.value_and_grad(square)(params)
        more = {"value": value, "grad": grad, "value_fn": square}
        return optax.with_extra_args_support(tx).update(grad, tx.init(params), params, **more)

    def square(params: Params) -> Any:
        return tree.vdot(params, params).real

    return jax.make_jaxpr(update)(jax.eval_shape(lambda p: p, params)).jaxpr


def _arrays(jaxpr: Any) -> Iterator[Any]:
    """Yield the shapes of all numbers that a jaxpr computes, those of its loops included."""
    for equation in jaxpr.eqns:
        shapes = [out.aval for out in equation.outvars if hasattr(out.aval, "dtype")]
        yield from (a for a in shapes if jnp.issubdtype(a.dtype, jnp.inexact))
        for inner in jax.tree.leaves(list(equation.params.values())):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from _arrays(inner)


def _size(array: Any) -> int:
    return array.size * array.dtype.itemsize
