"""Arrays of a module from a checkpoint, and into one."""

import json
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx

from fdl.errors import DiskError, InputError
from fdl.interop import files, table
from fdl.interop.table import Names
from fdl.types import DTypeLike, PyTree

M = TypeVar("M", bound=nnx.Module)


def load_weights(
    module: M,
    source: str | os.PathLike[str],
    *,
    names: Names,
    dtype: DTypeLike | None = None,
    keep: str | None = None,
) -> M:
    """Fill a module with the arrays of a checkpoint.

    Names are strict in both directions, so that no array is left at its first value and none is
    lost without notice. Tensors are read one by one after all names and shapes have been compared.

    Args:
      module: any NNX module, also an abstract one (`nnx.eval_shape`). It is not changed.
      source: a folder with safetensors files, or one file.
      names: the table of the reference's names.
      dtype: of the arrays; as they were saved if None. Take `jnp.float32` for training.
      keep: regular expression of paths that keep the values they have in the module, such as
        `r"output\\..*"` for a new head; what the file has under their names is passed over.

    Returns:
      A module of the same kind.

    Raises:
      InputError: when the checkpoint is damaged, or listing the names that are missing, unexpected
        or of another shape.
      ValueError: when `dtype` is no floating-point type, or the table lacks a path.

    Example:
      >>> import tempfile
      >>> from fdl.interop.table import TRANSPOSED, Row
      >>> names = Names((Row("kernel", "weight", TRANSPOSED), Row("bias", "bias")))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_weights(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), folder, names=names)
      ...     module = load_weights(nnx.Linear(2, 3, rngs=nnx.Rngs(1)), folder, names=names)
      >>> bool((module.kernel == nnx.Linear(2, 3, rngs=nnx.Rngs(0)).kernel).all())
      True
    """
    if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"load_weights(dtype=...) must be a floating-point type, got {dtype}")
    parts: Any = nnx.split(module, nnx.RngState, ...)
    graph, streams, state = parts
    arrays, treedef = _named(nnx.to_pure_dict(state))
    wanted = {p: a.shape for p, a in arrays.items() if not (keep and re.fullmatch(keep, p))}
    with files.Tensors(Path(source)) as tensors:
        found = {name: entry.shape for name, entry in tensors.entries.items()}
        names = table.without_prefix(names, found)
        places = _places(names, {path: array.shape for path, array in arrays.items()}, found)
        kept = [n for p, where in places.items() if p not in wanted for w in where for n in w.names]
        allowed = [*kept, *(name for name, _ in table.extras(names, arrays))]
        table.check(str(source), [place for p in wanted for place in places[p]], allowed, found)
        for path in wanted:
            read = _read(tensors, *places[path])
            arrays[path] = jnp.array(read, dtype or read.dtype)
    return nnx.merge(graph, streams, jax.tree.unflatten(treedef, arrays.values()))


def save_weights(
    module: nnx.Module,
    folder: str | os.PathLike[str],
    *,
    names: Names,
    dtype: DTypeLike | None = None,
    config: Mapping[str, Any] | None = None,
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """Write the arrays of a module under the names of a reference.

    The folder appears when all is complete: what is cut off leaves nothing under its name.

    Args:
      module: any NNX module.
      folder: where `model.safetensors` goes, or the shards and their index; it must be empty or not
        there yet.
      names: the table of the reference's names.
      dtype: of the arrays in the file; as they are if None.
      config: what `config.json` holds; without it none is written.
      max_shard_bytes: size at which a next file is begun.

    Raises:
      InputError: when there is something in the folder.
      ValueError: when the table lacks a path, or the shards are to hold less than a byte.
      DiskError: when the folder cannot be written.
    """
    if max_shard_bytes < 1:
        raise ValueError(f"save_weights(max_shard_bytes=...) must be >= 1, got {max_shard_bytes}")
    folder = Path(folder).absolute()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} must be an empty folder or a new one")
    arrays, _ = _named(nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.RngState))))
    places = table.places(names, {path: array.shape for path, array in arrays.items()})
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
        unfinished.mkdir()
        try:
            _write(unfinished, _shards(arrays, places, names, dtype, max_shard_bytes), config)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise DiskError(f"{folder} cannot be written: {error.strerror}") from error


def filled(module: M, *trees: PyTree) -> M:
    """Put values back into a module: what `fdl.pure.pure` took out of it, after training.

    Args:
      module: as it was given to `pure`; it is not changed.
      *trees: nested dicts of arrays, such as `params` and `extra`; what they lack stays.

    Returns:
      A module of the same kind, for `save_pretrained`.

    Raises:
      ValueError: when a tree has a leaf that the module lacks or has in another shape.

    Example:
      >>> module = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      >>> filled(module, {"bias": jnp.ones(3)}).bias[...]
      Array([1., 1., 1.], dtype=float32)
    """
    parts: Any = nnx.split(module, nnx.RngState, ...)
    graph, streams, state = parts
    arrays, treedef = _named(nnx.to_pure_dict(state))
    for path, leaf in (item for tree in trees for item in _named(tree)[0].items()):
        if path not in arrays or arrays[path].shape != jnp.shape(leaf):
            has = arrays[path].shape if path in arrays else "nothing of this name"
            raise ValueError(f"filled: {path} has shape {jnp.shape(leaf)}, the module {has}")
        arrays[path] = leaf
    return nnx.merge(graph, streams, jax.tree.unflatten(treedef, arrays.values()), copy=True)


def _places(
    names: Names, shapes: Mapping[str, tuple[int, ...]], present: Collection[str]
) -> dict[str, list[table.Place]]:
    """Look up where each array is in a file, and where it is once more."""
    first = table.places(names, shapes)
    found = {path: [place] for path, place in first.items()}
    for path, place in table.copies(names, shapes, first.values()):
        if place.names[0] in present:
            found[path].append(place)
    return found


def _read(tensors: files.Tensors, first: table.Place, *others: table.Place) -> np.ndarray:
    """Read an array of ours from its first place, and compare what stands in the others."""
    array: np.ndarray = first.layout.read(*map(tensors.get, first.names))
    for place in others:
        copy = place.layout.read(*map(tensors.get, place.names))
        if not np.array_equal(array, copy, equal_nan=True):
            one, other = first.names[0], place.names[0]
            raise InputError(
                f"{tensors.entries[other].file}: {other} must have the values of {one}, to which it"
                " is tied in the model"
            )
    return array


def _shards(
    arrays: Mapping[str, Any],
    places: Mapping[str, table.Place],
    names: Names,
    dtype: DTypeLike | None,
    most: int,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield as many tensors at a time as a file holds, so that no more are copied at once."""
    shard: dict[str, np.ndarray] = {}
    size = 0
    for name, tensor in _tensors(arrays, places, names, dtype):
        if shard and size + tensor.nbytes > most:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor
        size += tensor.nbytes
    yield shard


def _tensors(
    arrays: Mapping[str, Any],
    places: Mapping[str, table.Place],
    names: Names,
    dtype: DTypeLike | None,
) -> Iterator[tuple[str, np.ndarray]]:
    for path, place in places.items():
        out = place.layout.write(np.asarray(arrays[path], dtype))
        out = out if isinstance(out, tuple) else (out,)
        for name, tensor in zip(place.names, out, strict=True):
            # a transposed view would be written in the order of its memory, that is wrongly;
            # np.ascontiguousarray does the same but gives scalars an axis
            yield name, np.array(tensor, order="C")
    for name, value in table.extras(names, arrays):
        if value is not None:
            yield name, value


def _write(
    folder: Path, shards: Iterator[dict[str, np.ndarray]], config: Mapping[str, Any] | None
) -> None:
    written = []
    total = 0
    for i, shard in enumerate(shards):
        path = folder / f"{i}.safetensors"
        # readers of the reference want to be told a format
        safetensors.numpy.save_file(shard, path, metadata={"format": "pt"})
        written.append((path, list(shard)))
        total += sum(tensor.nbytes for tensor in shard.values())
    if len(written) == 1:
        written[0][0].rename(folder / files.WEIGHTS)
    else:
        where: dict[str, str] = {}
        for i, (path, names) in enumerate(written, 1):
            name = f"model-{i:05d}-of-{len(written):05d}.safetensors"
            path.rename(folder / name)
            where |= dict.fromkeys(names, name)
        index = {"metadata": {"total_size": total}, "weight_map": where}
        (folder / files.INDEX).write_text(json.dumps(index, indent=1, sort_keys=True))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config, indent=1))
    for file in folder.iterdir():
        with file.open("rb") as stream:  # on the disk before the folder gets its name
            os.fsync(stream.fileno())


def _named(tree: PyTree) -> tuple[dict[str, Any], Any]:
    leaves, treedef = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves
    }, treedef
