"""An optimizer by its name on the command line."""

import difflib
import inspect
from collections.abc import Callable
from typing import Any, get_args, get_origin

import optax

from fdl.errors import InputError

Factory = Callable[..., optax.GradientTransformation]


def optimizer(
    name: str,
    learning_rate: float | None = None,
    *,
    default: float,
    schedule: Callable[[float], optax.ScalarOrSchedule] = float,
    **options: Any,
) -> optax.GradientTransformation:
    """Make the optax optimizer called `name`.

    Args:
      name: of a function of optax that takes `learning_rate` and gives a transformation, as "sgd",
        "adamw" or "lbfgs".
      learning_rate: None leaves it to the optimizer's line search, where it has one.
      default: the learning rate of all others.
      schedule: from the learning rate to its schedule, such as
        `lambda lr: optax.cosine_decay_schedule(lr, steps)`; not asked where a line search
        decides, nor of the few optimizers that take a number only.
      **options: those that the function takes are passed on (`momentum` to "sgd"), others are not.

    Returns:
      The transformation.

    Raises:
      InputError: for an unknown name, with the nearest known ones, or what the optimizer refuses.

    Example:
      >>> tx = optimizer("sgd", default=0.1, momentum=0.9)
      >>> optimizer("sdg", default=0.1)
      Traceback (most recent call last):
      ...
      fdl.errors.InputError: --optimizer must name one of optax, got 'sdg'; near: sgd
    """
    known = factories()
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, 3)) or ", ".join(sorted(known)[:5])
        raise InputError(f"--optimizer must name one of optax, got {name!r}; near: {near}")
    parameters = inspect.signature(known[name]).parameters
    taken = {option: value for option, value in options.items() if option in parameters}
    # None to others is no step size at all, and to adadelta not even a descent
    if learning_rate is None and "linesearch" not in parameters:
        learning_rate = default
    if learning_rate is not None:
        kinds = [get_origin(kind) for kind in get_args(parameters["learning_rate"].annotation)]
        scheduled = Callable in kinds  # a few optimizers take a number only
        taken["learning_rate"] = schedule(learning_rate) if scheduled else learning_rate
    try:
        return known[name](**taken)
    except (TypeError, ValueError) as error:
        raise InputError(f"--optimizer {name}: {error}") from error


def factories() -> dict[str, Factory]:
    """Return the optimizers of optax that need nothing but a learning rate, by name.

    Example:
      >>> {"sgd", "adam", "lbfgs"} <= factories().keys()
      True
    """
    return {name: f for name, f in vars(optax).items() if _is_optimizer(name, f)}


def _is_optimizer(name: str, f: Any) -> bool:
    if not inspect.isfunction(f) or name.startswith(("_", "scale_by_")):
        return False
    parameters = inspect.signature(f).parameters
    required = [
        p for p in parameters.values() if p.default is p.empty and p.kind < p.VAR_POSITIONAL
    ]
    return "learning_rate" in parameters and {p.name for p in required} <= {"learning_rate"}
