"""The files of a checkpoint: headers are checked first, then tensors are read one by one.

A folder holds `model.safetensors`, or shards and `model.safetensors.index.json`, or one file of
another name that ends in `.safetensors`.
"""

import contextlib
import json
import math
import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import safetensors

from fdl.errors import InputError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(jnp.bfloat16),
}
_SIZES = {"U64": 8, "I64": 8, "U32": 4, "I32": 4, "U16": 2, "I16": 2, "U8": 1, "I8": 1, "BOOL": 1}
_SIZES |= {name: dtype.itemsize for name, dtype in DTYPES.items()} | {"F8_E4M3": 1, "F8_E5M2": 1}
_LONGEST = 32 << 20  # bytes of JSON: a header of 100000 tensors has some 10 MB


class Entry(NamedTuple):
    """What a header says of a tensor.

    Attributes:
      file: that holds it.
      dtype: the name that safetensors gives the type.
      shape: of the tensor.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]


class Tensors:
    """The tensors of a checkpoint, by name; a context manager.

    Args:
      source: a folder or a file.

    Attributes:
      entries: what the headers say. Nothing else has been read until `get` is called.

    Raises:
      InputError: when a file is missing, damaged or breaks a rule of its format.
    """

    def __init__(self, source: Path):
        self.entries = _entries(source)
        self._stack = contextlib.ExitStack()
        self._opened: dict[Path, Any] = {}

    def __enter__(self) -> "Tensors":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def get(self, name: str) -> np.ndarray:
        """Read one tensor of floating-point numbers."""
        entry = self.entries[name]
        if entry.dtype not in DTYPES:
            raise InputError(
                f"{entry.file}: {name} must be of type {', '.join(DTYPES)}, got {entry.dtype}"
            )
        try:
            if entry.file not in self._opened:
                opened = safetensors.safe_open(entry.file, framework="np")
                self._opened[entry.file] = self._stack.enter_context(opened)
            return np.asarray(self._opened[entry.file].get_tensor(name))
        except (safetensors.SafetensorError, OSError) as error:
            raise InputError(f"{entry.file} is damaged: {_brief(error)}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file of moderate size in which no key occurs twice.

    Raises:
      InputError: when the file is missing or breaks one of these rules.
    """
    if not path.is_file():  # a pipe would wait for ever
        raise InputError(f"{path} is missing")
    try:
        size = path.stat().st_size
        if size > _LONGEST:
            raise InputError(f"{path} must have at most {_LONGEST} bytes, got {size}")
        return _parsed(path, path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _entries(source: Path) -> dict[str, Entry]:
    if source.is_file():
        return _header(source)
    if not source.is_dir():
        raise InputError(f"{source} is neither a folder nor a file")
    if (source / WEIGHTS).exists():
        return _header(source / WEIGHTS)
    if (source / INDEX).exists():
        return _sharded(source / INDEX)
    files = sorted(source.glob("*.safetensors"))
    if len(files) != 1:
        raise InputError(f"{source} must hold {WEIGHTS} or {INDEX}")
    return _header(files[0])


def _sharded(index: Path) -> dict[str, Entry]:
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not where:
        raise InputError(f"{index}: weight_map must be an object that names a file for each tensor")
    for file in where.values():
        # the shards lie beside the index, never elsewhere on the disk
        if not isinstance(file, str) or not re.fullmatch(r"[\w.-]+\.safetensors", file):
            raise InputError(
                f"{index}: a shard must be a plain *.safetensors name, got {file!r:.80}"
            )
    shards = {file: _header(index.parent / file) for file in sorted(set(where.values()))}
    found = {name: entry for shard in shards.values() for name, entry in shard.items()}
    for name, file in where.items():
        if name not in shards[file]:
            raise InputError(f"{index}: {name[:100]} is not in {file}")
    if sum(map(len, shards.values())) != len(where):
        raise InputError(f"{index} must list every tensor of its shards, each once")
    return found


def _header(path: Path) -> dict[str, Entry]:
    """Read and check the header of one file."""
    if not path.is_file():
        raise InputError(f"{path} is missing")
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            first = stream.read(8)
            length = struct.unpack("<Q", first)[0] if len(first) == 8 else -1
            if not 2 <= length <= min(_LONGEST, size - 8):
                raise InputError(f"{path} is no safetensors file: its header has no proper length")
            header = _parsed(path, stream.read(length))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    header.pop("__metadata__", None)
    return {name: _entry(path, name, e, size - 8 - length) for name, e in header.items()}


def _entry(path: Path, name: str, entry: Any, size: int) -> Entry:
    """Check what a header says of one tensor: its bytes are in the file, as many as its shape."""
    wrong = InputError(f"{path} is damaged: its header has a wrong entry for {name[:100]}")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise wrong
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not (_sizes(shape) and _sizes(offsets) and len(offsets) == 2 and isinstance(dtype, str)):
        raise wrong
    if dtype not in _SIZES:
        raise InputError(f"{path}: {name[:100]} is of the unknown type {dtype[:20]}")
    start, end = offsets
    if end > size or end - start != math.prod(shape) * _SIZES[dtype]:
        raise wrong
    return Entry(path, dtype, tuple(shape))


def _sizes(values: Any) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= 32
        and all(type(value) is int and 0 <= value < 1 << 63 for value in values)
    )


def _parsed(path: Path, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = dict(pairs)
        if len(keys) < len(pairs):
            raise ValueError("a key occurs twice")
        return keys

    try:
        parsed = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} has no proper JSON: {_brief(error)}") from error
    if not isinstance(parsed, dict):
        raise InputError(f"{path} must hold a JSON object, got {type(parsed).__name__}")
    return parsed


def _brief(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
