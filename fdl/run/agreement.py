"""What the processes of a run tell each other: process 0's choice, and that all hold the same."""

import dataclasses
import hashlib
from typing import Any

import numpy as np

from fdl.errors import InputError
from fdl.run import processes

_SHOWN = 64  # bytes of a value that are worth showing in a message


def broadcast_int(value: int) -> int:
    """Return process 0's value in every process; every process must call it.

    Args:
      value: in [-2**63, 2**63); that of process 0 counts.

    Returns:
      The value of process 0.

    Raises:
      ValueError: the value does not fit 64 bits.

    Example:
      >>> broadcast_int(7)
      7
    """
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"broadcast_int(value=...) must fit 64 bits, got {value}")
    if processes.count() == 1:
        return value
    # As bytes: without x64, JAX would cut an int64 to 32 bits.
    own = np.frombuffer(value.to_bytes(8, "little", signed=True), np.uint8)
    return int.from_bytes(_gather(own)[0].tobytes(), "little", signed=True)


def assert_same(tree: Any, what: str) -> None:
    """Go on only if all processes hold an equal tree; every process must call it.

    Args:
      tree: a dataclass, or a pytree of numbers, strings, paths, None, arrays and keys.
      what: its name, for the message.

    Raises:
      InputError: in every process, with the first leaf that differs and two of its values.

    Example:
      >>> assert_same({"seed": 0, "name": "run"}, "settings")
    """
    if processes.count() == 1:
        return
    leaves = _leaves(tree)
    # The names first: rows can be compared only where there are equally many.
    if _first_other(_gather(_digest("\n".join(name for name, _ in leaves).encode()))):
        raise InputError(f"{what} must be the same in all processes, but have other fields in some")
    if not leaves:
        return
    gathered = _gather(np.stack([_row(leaf) for _, leaf in leaves]))
    other = _first_other(gathered)
    if not other:
        return
    leaf = int(np.flatnonzero((gathered[0] != gathered[other]).any(axis=1))[0])
    first, second = (
        gathered[p, leaf, 32:].tobytes().rstrip(b"\0").decode(errors="replace") for p in (0, other)
    )
    raise InputError(
        f"{what} must be the same in all processes, but {leaves[leaf][0] or 'the value'} "
        f"is {first} in process 0 and {second} in process {other}"
    )


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    import jax

    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        tree = dataclasses.asdict(tree)
    found = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: leaf is None)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in found]


def _row(leaf: Any) -> np.ndarray:
    """Return the hash of a leaf, and the beginning of its text: (32 + _SHOWN,) uint8."""
    text = _text(leaf)
    shown = np.frombuffer(text[:_SHOWN].ljust(_SHOWN, b"\0"), np.uint8)
    return np.concatenate([_digest(text), shown])


def _text(leaf: Any) -> bytes:
    """Write a leaf as bytes that are equal if and only if the leaves are."""
    if not hasattr(leaf, "dtype"):
        return repr(leaf).encode()
    import jax

    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    data = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
    digest = hashlib.sha256(data.tobytes()).hexdigest()  # tobytes is in C order always
    return f"{leaf.dtype}{list(leaf.shape)} with hash {digest[:16]}".encode()


def _digest(data: bytes) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(data).digest(), np.uint8)


def _gather(own: np.ndarray) -> np.ndarray:
    """Return the arrays of all processes, stacked: (count, *own.shape)."""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(own))


def _first_other(gathered: np.ndarray) -> int:
    """Return the first process whose array is not process 0's; 0 if there is none."""
    same = (gathered == gathered[:1]).reshape(len(gathered), -1).all(axis=1)
    return int(np.argmin(same))
