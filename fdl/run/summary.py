"""Table of what a model holds: every array with its path, shape, type, numbers and bytes."""

import math
from typing import Any, NamedTuple

import jax


class Leaf(NamedTuple):
    """One leaf of a parameter tree."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    size: int  # numbers in it
    nbytes: int


def leaves(tree: Any) -> list[Leaf]:
    """List the leaves of a tree in its own order.

    Args:
      tree: pytree of arrays, of `jax.ShapeDtypeStruct`s, or of Python numbers.

    Returns:
      One `Leaf` for each; its path joins the keys with dots.

    Example:
      >>> import jax.numpy as jnp
      >>> leaves({"dense": {"bias": jnp.zeros(3, jnp.bfloat16)}})
      [Leaf(path='dense.bias', shape=(3,), dtype='bfloat16', size=3, nbytes=6)]
    """
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        leaf = leaf if hasattr(leaf, "dtype") else jax.numpy.asarray(leaf)
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        size = math.prod(leaf.shape)
        nbytes = size * leaf.dtype.itemsize
        found.append(Leaf(name, tuple(leaf.shape), str(leaf.dtype), size, nbytes))
    return found


def summary(params: Any, extra: Any = None) -> str:
    """Describe a model as an aligned table of plain text.

    Args:
      params: pytree of the parameters.
      extra: pytree of the other arrays of the model, such as running statistics.

    Returns:
      One line for each array, then totals; no newline at the end.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"bias": jnp.zeros(3, "float32"), "kernel": jnp.zeros((2, 3), "float32")}
      >>> print(summary(params))
      path        shape  dtype    count  bytes
      bias        3      float32      3     12
      kernel      2x3    float32      6     24
      parameters                      9     36  (36 B)
    """
    rows = [("path", "shape", "dtype", "count", "bytes", "")]
    for name, tree in (("parameters", params), ("other state", extra)):
        part = leaves(tree)
        if part or name == "parameters":
            rows += [_row(leaf) for leaf in part]
            size, nbytes = sum(leaf.size for leaf in part), sum(leaf.nbytes for leaf in part)
            rows.append((name, "", "", f"{size:,}", f"{nbytes:,}", f"({_readable(nbytes)})"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align = (str.ljust, str.ljust, str.ljust, str.rjust, str.rjust, str.ljust)
    lines = (
        "  ".join(put(cell, width) for put, cell, width in zip(align, row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _row(leaf: Leaf) -> tuple[str, str, str, str, str, str]:
    shape = "x".join(map(str, leaf.shape)) or "()"
    return leaf.path, shape, leaf.dtype, f"{leaf.size:,}", f"{leaf.nbytes:,}", ""


def _readable(size: int) -> str:
    """Write a number of bytes with a binary unit.

    Example:
      >>> _readable(36), _readable(2048), _readable(3 * 2**30)
      ('36 B', '2.0 KiB', '3.0 GiB')
    """
    unit = min(int(math.log(size, 1024)), 4) if size else 0
    return f"{size / 1024**unit:.1f} {' KMGT'[unit]}iB" if unit else f"{size} B"
