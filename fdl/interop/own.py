"""A configuration of ours as the JSON of a `config.json`, for networks that no reference has."""

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from fdl.errors import InputError
from fdl.interop import activations, fields

C = TypeVar("C")


def to_json(config: Any, free: tuple[str, ...]) -> dict[str, Any]:
    """Write the fields of a frozen configuration, except those that are free to differ.

    Raises:
      InputError: when a unit has no name.

    Example:
      >>> from fdl.models.resnet_config import ResNetConfig
      >>> free = ("kernel_init", "output_init", "axis_name", "dtype", "implementation")
      >>> to_json(ResNetConfig.tiny(), free)["activation"]
      'relu'
    """
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return {name: _plain(value) for name, value in values.items() if name not in free}


def from_json(kind: type[C], values: Mapping[str, Any], free: tuple[str, ...]) -> C:
    """Read what `to_json` wrote; the free fields have their defaults.

    Raises:
      InputError: when a field is missing, unknown, of another type or out of range.

    Example:
      >>> from fdl.models.resnet_config import ResNetConfig
      >>> free = ("kernel_init", "output_init", "axis_name", "dtype", "implementation")
      >>> config = ResNetConfig.tiny(preactivation=True)
      >>> from_json(ResNetConfig, to_json(config, free), free) == config
      True
    """
    hints = {n: hint for n, hint in get_type_hints(kind).items() if n not in (*free, "_")}
    fields.known(values, kind.__name__, tuple(hints))
    if missing := sorted(hints.keys() - values.keys()):
        raise InputError(f"config.json: {kind.__name__} lacks {missing[0]}")
    return kind(**{name: _value(values, name, hint) for name, hint in hints.items()})


def _plain(value: Any) -> Any:
    if callable(value):
        return activations.name(value)
    return list(value) if isinstance(value, tuple) else value


def _value(values: Mapping[str, Any], name: str, hint: Any) -> Any:
    if get_origin(hint) in (types.UnionType, Union):  # X | None
        if values[name] is None:
            return None
        (hint,) = (each for each in get_args(hint) if each is not type(None))
    if get_origin(hint) is Literal:
        return fields.word(values, name, "", get_args(hint))
    if get_origin(hint) is Callable:
        return activations.unit(values, name)
    if get_origin(hint) is tuple:
        return fields.integers(values, name, ())
    reader: Any = {int: fields.integer, float: fields.number, bool: fields.flag}[hint]
    return reader(values, name, 0)
