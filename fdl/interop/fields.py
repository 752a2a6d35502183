"""Typed values out of a `config.json`, each with the rule that it must obey.

Whoever wrote the file chose them: a size is refused before anything is built of that size.
"""

from collections.abc import Mapping
from typing import Any

from fdl.errors import InputError

LARGEST = 1 << 20  # a channel count or a vocabulary, with room to spare
MOST_LAYERS = 2048


def integer(config: Mapping[str, Any], key: str, default: int, *, least: int = 1) -> int:
    """Return a size.

    Raises:
      InputError: when it is no integer between `least` and 2**20.

    Example:
      >>> integer({"num_labels": 7}, "num_labels", 2)
      7
    """
    value = config.get(key, default)
    if type(value) is not int or not least <= value <= LARGEST:
        raise InputError(
            f"config.json: {key} must be an integer in [{least}, {LARGEST}], got {value!r:.80}"
        )
    return value


def integers(config: Mapping[str, Any], key: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """Return a list of sizes.

    Raises:
      InputError: when it is no list of at least one integer between 1 and 2**20.

    Example:
      >>> integers({"depths": [3, 4]}, "depths", ())
      (3, 4)
    """
    values = config.get(key, default)
    proper = isinstance(values, list | tuple) and 1 <= len(values) <= MOST_LAYERS
    if not proper or not all(type(v) is int and 1 <= v <= LARGEST for v in values):
        raise InputError(
            f"config.json: {key} must be a list of integers in [1, {LARGEST}], got {values!r:.80}"
        )
    return tuple(values)


def number(config: Mapping[str, Any], key: str, default: float) -> float:
    """Return a finite number.

    Raises:
      InputError: when it is none.

    Example:
      >>> number({"layer_norm_eps": 1e-6}, "layer_norm_eps", 1e-5)
      1e-06
    """
    value = config.get(key, default)
    if type(value) not in (int, float) or not abs(value) < 1e30:
        raise InputError(f"config.json: {key} must be a number, got {value!r:.80}")
    return float(value)


def flag(config: Mapping[str, Any], key: str, default: bool) -> bool:
    """Return a truth value.

    Raises:
      InputError: when it is none.

    Example:
      >>> flag({}, "tie_word_embeddings", True)
      True
    """
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise InputError(f"config.json: {key} must be true or false, got {value!r:.80}")
    return value


def word(config: Mapping[str, Any], key: str, default: str, choices: tuple[str, ...]) -> Any:
    """Return one of several words.

    Raises:
      InputError: when it is none of `choices`.

    Example:
      >>> word({"layer_type": "basic"}, "layer_type", "bottleneck", ("basic", "bottleneck"))
      'basic'
    """
    value = config.get(key, default)
    if not isinstance(value, str) or value not in choices:
        raise InputError(
            f"config.json: {key} must be one of {', '.join(choices)}, got {value!r:.80}"
        )
    return value


def known(config: Mapping[str, Any], where: str, keys: tuple[str, ...]) -> None:
    """Refuse keys that nobody reads: what they ask for would be left out silently.

    Raises:
      InputError: naming the first.

    Example:
      >>> known({"layers": 2}, "model_args", ("layers", "channels"))
    """
    if unknown := sorted(config.keys() - set(keys)):
        raise InputError(f"config.json: {where} has the unknown key {unknown[0][:80]}")
