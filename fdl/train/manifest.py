"""What a checkpoint holds, leaf by leaf: names, types, shapes. Nothing here touches a disk."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from fdl.types import PyTree

FORMAT = 1  # of the manifest; a checkpoint of a later format is refused, never guessed at

# What the storage layer can hold and NumPy can name on every supported version.
DTYPES = (
    "bool int4 int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 float64 "
    "complex64 complex128 float8_e4m3fn float8_e5m2"
).split()
_KEY_IMPLEMENTATIONS = ("threefry2x32", "rbg", "unsafe_rbg")


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """Name every leaf of a tree by its path.

    Args:
      tree: any pytree.

    Returns:
      Path -> leaf, in the order of `jax.tree.leaves`.

    Raises:
      ValueError: when two paths read the same once written out.

    Example:
      >>> list(named_leaves({"mlp": [{"w": 1.0}, {"w": 2.0}]}))
      ['mlp.0.w', 'mlp.1.w']
    """
    named: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "value"
        if name in named:
            raise ValueError(f"named_leaves(tree=...) must have distinct paths, got {name!r} twice")
        named[name] = leaf
    return named


def kind(leaf: Any) -> str:
    """Write a leaf's type and shape; a typed PRNG key has a type such as "key<fry>".

    Example:
      >>> kind(np.zeros((2, 3), np.float32)), kind(jax.random.key(0))
      ('float32[2,3]', 'key<fry>[]')
    """
    array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return f"{array.dtype.name}[{','.join(map(str, array.shape))}]"


def to_host(tree: PyTree) -> dict[str, np.ndarray]:
    """Bring a tree of arrays to this host: named, contiguous, in native byte order.

    Typed PRNG keys become their key data. Leaves that are spread over processes are gathered, so
    that every process has to make the call.

    Args:
      tree: device or host arrays of any shape, Python numbers.

    Returns:
      Path -> array. On a CPU it can be the memory of a device array, which a later step reuses.

    Raises:
      ValueError: for a leaf that is not an array of numbers.

    Example:
      >>> to_host({"w": jnp.arange(2, dtype=jnp.int32), "key": jax.random.key(7)})
      {'key': array([0, 7], dtype=uint32), 'w': array([0, 1], dtype=int32)}
    """
    named = named_leaves(tree)
    for name, leaf in named.items():
        if not _is_key(leaf) and kind(leaf).partition("[")[0] not in DTYPES:
            raise ValueError(
                f"to_host(tree=...) must hold arrays of numbers, {name} is {kind(leaf)}"
            )
    arrays = jax.device_get({name: _whole(leaf) for name, leaf in named.items()})
    return {name: _native(np.asarray(arrays[name], order="C")) for name in named}


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(getattr(leaf, "dtype", float), jax.dtypes.prng_key)


def _whole(leaf: Any) -> Any:
    if _is_key(leaf):
        leaf = jax.random.key_data(leaf)
    if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        return multihost_utils.process_allgather(leaf, tiled=True)
    return leaf


def _native(array: np.ndarray) -> np.ndarray:
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def nonfinite(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Name the arrays that show a run gone wrong: a NaN anywhere, an infinity in an array.

    An infinite scalar passes: "the best so far" starts there, in early stopping and in the states
    of optax's line searches and `reduce_on_plateau`.

    Example:
      >>> nonfinite({"w": np.array([1.0, np.inf]), "best": np.array(np.inf), "b": np.array(np.nan)})
      ['w', 'b']
    """
    floats = {k: v for k, v in arrays.items() if jnp.issubdtype(v.dtype, np.inexact)}
    return [
        name
        for name, array in floats.items()
        if (np.isnan(array).any() if array.ndim == 0 else not np.isfinite(array).all())
    ]


def describe(
    step: int,
    tree: PyTree,
    arrays: Mapping[str, np.ndarray],
    *,
    config: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> dict[str, Any]:
    """Write the manifest of a checkpoint: all about it but the numbers, as a JSON object.

    Args:
      step: the number of updates.
      tree: what is saved.
      arrays: `to_host(tree)`.
      config: plain JSON.
      metrics: name -> number.

    Raises:
      TypeError: when `config` is not plain JSON.

    Example:
      >>> describe(3, {"w": 1.0}, to_host({"w": 1.0}), config={}, metrics={})["leaves"]
      {'w': 'float64[]'}
    """
    content = {
        "format": FORMAT,
        "step": step,
        "config": dict(config),
        "metrics": {name: float(value) for name, value in metrics.items()},
        "leaves": {name: kind(leaf) for name, leaf in named_leaves(tree).items()},
        # No storage holds arrays of size zero; this is all there is to know about them.
        "empty": {k: [str(v.dtype), v.shape] for k, v in arrays.items() if not v.size},
    }
    return json.loads(json.dumps(content))  # as it will be read: tuples are lists there


def seal(content: Mapping[str, Any]) -> str:
    """Write a JSON object with its own digest inside, for `unseal` to check.

    Example:
      >>> unseal(seal({"step": 3}))
      {'step': 3}
    """
    return json.dumps({**content, "sha256": _digest(content)}, indent=1)


def unseal(text: str) -> dict[str, Any]:
    """Read what `seal` wrote.

    Raises:
      ValueError: when it is not as it was written.
    """
    content = json.loads(text)
    if not isinstance(content, dict) or content.pop("sha256", None) != _digest(content):
        raise ValueError("it does not match its digest")
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def differences(about: Mapping[str, Any], template: PyTree) -> list[str]:
    """Compare the types and shapes of the saved leaves with those of a template.

    Args:
      about: a manifest.
      template: arrays or `jax.ShapeDtypeStruct`s.

    Returns:
      One line for each leaf that differs, is missing or is too many.

    Example:
      >>> saved = {"w": np.zeros(2, np.float32)}
      >>> about = describe(0, saved, to_host(saved), config={}, metrics={})
      >>> differences(about, {"w": np.zeros(3, np.float32), "b": np.zeros(1)})
      ['b is float64[1] here, missing there', 'w is float32[3] here, float32[2] there']
    """
    wanted = {name: kind(leaf) for name, leaf in named_leaves(template).items()}
    found = about["leaves"]
    return [
        f"{name} is {wanted.get(name, 'missing')} here, {found.get(name, 'missing')} there"
        for name in [*wanted, *(name for name in found if name not in wanted)]
        if wanted.get(name) != found.get(name)
    ]


def place(array: np.ndarray, like: Any) -> Any:
    """Put a host array where a template leaf is.

    Args:
      array: what `to_host` made of such a leaf.
      like: a NumPy array or number (the result stays on the host), a `jax.Array` or a
        `jax.ShapeDtypeStruct` (the result has its sharding), typed PRNG keys included.

    Example:
      >>> place(np.array([0, 7], np.uint32), jax.random.key(0)) == jax.random.key(7)
      Array(True, dtype=bool)
    """
    if not isinstance(like, jax.Array | jax.ShapeDtypeStruct):
        return array
    # An uncommitted array may be moved by JAX to where the others are; it should stay so.
    free = isinstance(like, jax.Array) and not like.committed
    sharding = None if free else like.sharding
    if sharding is None or sharding.is_fully_addressable:
        return jax.device_put(_as_key(array, like.dtype) if _is_key(like) else array, sharding)
    placed = jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
    return _as_key(placed, like.dtype) if _is_key(like) else placed


def _as_key(data: Any, dtype: Any) -> jax.Array:
    for name in _KEY_IMPLEMENTATIONS:
        if jax.random.key(0, impl=name).dtype == dtype:
            return jax.random.wrap_key_data(jnp.asarray(data), impl=name)
    raise ValueError(f"place(like=...) must have one of JAX's own key types, got {dtype}")
