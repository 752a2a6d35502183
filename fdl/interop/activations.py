"""What checkpoints call the units."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from fdl import ops
from fdl.errors import InputError
from fdl.interop import fields
from fdl.types import Array

Unit = Callable[[Array], Array]

UNITS: dict[str, Unit] = {  # the first of two names is the one that is written
    "relu": ops.relu,
    "gelu": ops.gelu,
    "gelu_new": functools.partial(ops.gelu, approximate=True),
    "silu": ops.silu,
    "swish": ops.silu,
    "tanh": ops.tanh,
    "sigmoid": ops.sigmoid,
    "elu": ops.elu,
    "selu": ops.selu,
    "mish": ops.mish,
    "relu6": ops.relu6,
    "leaky_relu": ops.leaky_relu,
}


def unit(config: Mapping[str, Any], key: str) -> Unit:
    """Return the unit that a `config.json` names, a rectifier if it names none.

    Raises:
      InputError: when the name is unknown.

    Example:
      >>> unit({"hidden_act": "tanh"}, "hidden_act") is ops.tanh
      True
    """
    return UNITS[fields.word(config, key, "relu", tuple(UNITS))]


def name(unit: Unit) -> str:
    """Return what a unit is called.

    Raises:
      InputError: when it has no name.

    Example:
      >>> name(ops.silu)
      'silu'
    """
    for known, function in UNITS.items():
        if function is unit:
            return known
    raise InputError(f"save_pretrained: the unit must be one of {', '.join(UNITS)}, got {unit}")
