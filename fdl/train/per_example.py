"""State that belongs to the examples of a batch and not to the model: what a stream carries on."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fdl import axes
from fdl.errors import InputError
from fdl.types import Array, PyTree


class PerExample(NamedTuple):
    """Marks a part of `extra` that has one row for each example of the global batch.

    Truncated backpropagation through time cuts a long sequence into pieces; the hidden state at the
    end of a piece is where the next begins. Row i of the state belongs to row i of every batch.
    `make_step` hands an objective the rows of this device's examples, and puts the rows that it
    gives back, unlike other state, which it averages over devices, into their places. Every
    device keeps all rows, so that a checkpoint holds them and does not depend on how many devices
    there are.

    Attributes:
      value: a tree of arrays of shape (batch, ...), floating point, integers or booleans.

    Example:
      >>> from fdl.train.state import init_state
      >>> from fdl.train.step import make_step
      >>> import optax
      >>> def objective(params, extra, batch, key):  # a running sum of each of two streams
      ...     sums = extra["sum"].value + batch["x"]
      ...     return (params["w"] * sums).mean(), ({"sum": PerExample(sums)}, {})
      >>> tx = optax.sgd(0.1)
      >>> extra = {"sum": PerExample(jnp.zeros(2))}
      >>> state = init_state({"w": jnp.float32(1.0)}, extra, tx)
      >>> step = make_step(objective, tx)
      >>> state, metrics = step(state, {"x": jnp.array([1.0, 2.0])})
      >>> state, metrics = step(state, {"x": jnp.array([1.0, 2.0])})
      >>> state.extra["sum"].value.tolist()
      [2.0, 4.0]

    Source: DLB 10.2; Williams and Peng 1990.
    """

    value: PyTree


def is_per_example(node: Any) -> bool:
    """Tell whether a node of a tree is a `PerExample`.

    Example:
      >>> is_per_example(PerExample(jnp.zeros(2)))
      True
    """
    return isinstance(node, PerExample)


def own_rows(tree: PyTree, axis: str | None) -> PyTree:
    """Keep of every `PerExample` in a tree the rows of this device's examples.

    Args:
      tree: of which everything else stays as it is.
      axis: the axis name over which the examples are spread; all rows where it is not bound.

    Returns:
      The same tree with rows i b, ..., (i + 1) b - 1 of B = n b on device i of n.

    Raises:
      InputError: when n does not divide B.

    Example:
      >>> own_rows({"h": PerExample(jnp.zeros((4, 3)))}, None)["h"].value.shape
      (4, 3)
    """
    n = axes.size(axis)

    def slice_(a: Array) -> Array:
        if len(a) % n:
            raise InputError(f"a state of {len(a)} streams is not divisible by {n} devices")
        own = len(a) // n
        return jax.lax.dynamic_slice_in_dim(a, axes.index(axis) * own, own)

    return tree if n == 1 else _on_rows(slice_, tree)


def all_rows(tree: PyTree, axis: str | None) -> PyTree:
    """Put the rows that each device has into their places: what `own_rows` took apart.

    Args:
      tree: with the rows of this device in its `PerExample` nodes.
      axis: the axis name over which the examples are spread.

    Returns:
      The same tree with all rows, equal on all devices.

    Example:
      >>> rows = jax.vmap(lambda h: all_rows(PerExample(h), "data").value, axis_name="data")
      >>> rows(jnp.array([[1, 2], [3, 4]]))[0].tolist()
      [1, 2, 3, 4]
    """
    n = axes.size(axis)

    def place(a: Array) -> Array:
        # a sum, not an all-gather: of that shard_map(check_vma=True) does not know it is equal
        numbers = a.astype(jnp.int8) if a.dtype == bool else a
        empty = jnp.zeros((n * len(a), *a.shape[1:]), numbers.dtype)
        placed = jax.lax.dynamic_update_slice_in_dim(empty, numbers, axes.index(axis) * len(a), 0)
        return axes.total(placed, axis).astype(a.dtype)

    return tree if n == 1 else _on_rows(place, tree)


def _on_rows(function: Any, tree: PyTree) -> PyTree:
    def node(part: Any) -> Any:
        return PerExample(jax.tree.map(function, part.value)) if is_per_example(part) else part

    return jax.tree.map(node, tree, is_leaf=is_per_example)
