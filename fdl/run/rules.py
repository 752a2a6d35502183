"""What a setting may be, said once, in its type: `lr: PositiveFloat = 0.1`."""

import dataclasses
import inspect
import math
import numbers
import types
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from fdl.errors import InputError


class Rule(NamedTuple):
    """A range that a value of a setting must lie in; put it into `Annotated[type, Rule(...)]`."""

    text: str  # completes "--lr must be ..."
    holds: Callable[[Any], bool]


def between(low: float, high: float) -> Rule:
    """Make the rule `low <= value <= high`.

    Example:
      >>> between(0, 0.5).text
      'in [0, 0.5]'
    """
    return Rule(f"in [{low:g}, {high:g}]", lambda value: low <= value <= high)


POSITIVE = Rule("> 0", lambda value: value > 0)
NONNEGATIVE = Rule(">= 0", lambda value: value >= 0)
NONEMPTY = Rule("non-empty", lambda value: len(value) > 0)

PositiveInt = Annotated[int, POSITIVE]
PositiveFloat = Annotated[float, POSITIVE]
NonNegativeInt = Annotated[int, NONNEGATIVE]
NonNegativeFloat = Annotated[float, NONNEGATIVE]
Fraction = Annotated[float, between(0, 1)]
OpenFraction = Annotated[float, Rule("in (0, 1)", lambda value: 0 < value < 1)]
DropRate = Annotated[float, Rule("in [0, 1)", lambda value: 0 <= value < 1)]
Seed = Annotated[int, Rule("in [0, 2**32)", lambda value: 0 <= value < 2**32)]

_KINDS: dict[type, tuple[type, str]] = {
    bool: (bool, "true or false"),
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
    str: (str, "text"),
}


def validate(settings: Any) -> None:
    """Refuse settings that break the rule of a field, are not finite, or contradict each other.

    A rule stated by a base class still holds where a subclass gives the field another default. A
    `check()` method of the settings is called last; it raises `InputError` where two fields
    contradict each other.

    Args:
      settings: an instance of a dataclass, possibly with dataclasses inside.

    Raises:
      InputError: one line that names the flag, the rule and the value.

    Example:
      >>> @dataclasses.dataclass(frozen=True)
      ... class Config:
      ...     lr: PositiveFloat = 0.1
      >>> validate(Config(lr=0.3))
      >>> validate(Config(lr=-1.0))
      Traceback (most recent call last):
          ...
      fdl.errors.InputError: --lr must be > 0, got -1.0
    """
    for flag, hint, value in _walk(settings, "--"):
        _check(flag, hint, value)
    check = getattr(settings, "check", None)
    if check is not None:
        check()


def _walk(settings: Any, prefix: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield (flag, type, value) of every field, once per class that declares the field's type."""
    classes = [c for c in type(settings).__mro__ if dataclasses.is_dataclass(c)]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        flag = prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            yield from _walk(value, f"{flag}.")
            continue
        for declaring in classes:
            if field.name in inspect.get_annotations(declaring):
                yield flag, get_type_hints(declaring, include_extras=True)[field.name], value


def _check(flag: str, hint: Any, value: Any) -> None:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        _check(flag, arguments[0], value)
        for rule in arguments[1:]:
            if isinstance(rule, Rule) and not rule.holds(value):
                raise InputError(f"{flag} must be {rule.text}, got {value!r}")
    elif origin in (Union, types.UnionType):
        _check_union(flag, arguments, value)
    elif origin is Literal:
        if value not in arguments:
            choices = ", ".join(map(str, arguments))
            raise InputError(f"{flag} must be one of {choices}, got {value!r}")
    elif origin in (tuple, list) and isinstance(value, (tuple, list)):
        any_length = origin is list or arguments[-1] is Ellipsis
        hints = arguments[:1] * len(value) if any_length else arguments
        if len(hints) != len(value):
            raise InputError(f"{flag} must be {len(hints)} values, got {value!r}")
        for inner, item in zip(hints, value, strict=True):
            _check(flag, inner, item)
    elif hint in _KINDS:
        _check_kind(flag, hint, value)


def _check_union(flag: str, hints: tuple[Any, ...], value: Any) -> None:
    """Accept a value that one of the types accepts; else complain as the last of them does."""
    if value is None and type(None) in hints:
        return
    problem = None
    for hint in hints:
        if hint is not type(None):
            try:
                return _check(flag, hint, value)
            except InputError as error:
                problem = error
    if problem is not None:
        raise problem


def _check_kind(flag: str, kind: type, value: Any) -> None:
    accepted, name = _KINDS[kind]
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{flag} must be {name}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{flag} must be finite, got {value!r}")
