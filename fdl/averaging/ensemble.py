"""Members of an ensemble as one tree: every leaf has a leading axis of k."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fdl.types import Apply, Array, Extra, Params, PyTree


def stack_members(members: Sequence[PyTree]) -> PyTree:
    """Stack trees of the same form along a new first axis.

    Args:
      members: k trees: parameters, or whole training states.

    Returns:
      A tree of the same form with leaves of shape (k, ...).

    Raises:
      ValueError: when there is none.

    Example:
      >>> stack_members([{"w": 1.0}, {"w": 2.0}])["w"].tolist()
      [1.0, 2.0]
    """
    if not members:
        raise ValueError("stack_members(members) must hold at least one tree, got none")
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(a) for a in leaves]), *members)


def member(stacked: PyTree, index: int) -> PyTree:
    """Take one member out of a stack.

    Args:
      stacked: a tree whose leaves have a leading axis of k.
      index: from -k to k - 1.

    Returns:
      The tree of that member.

    Raises:
      IndexError: when there is no such member.

    Example:
      >>> float(member({"w": jnp.array([1.0, 2.0])}, 1)["w"])
      2.0
    """
    k = len(jax.tree.leaves(stacked)[0])
    if not -k <= index < k:
        raise IndexError(f"member(index) must be from {-k} to {k - 1}, got {index}")
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def init_members(init: Callable[[Array], PyTree], keys: Array) -> PyTree:
    """Draw the initial values of k members at once, each as from its own key alone.

    Args:
      init: from one typed key to a tree, such as `lambda key: pure(Model(nnx.Rngs(key)))[1:]`,
        the parameters and the other state.
      keys: typed PRNG keys, shape (k,).

    Returns:
      The trees, stacked.

    Example:
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> init_members(lambda key: {"w": jax.random.normal(key, (2,))}, keys)["w"].shape
      (3, 2)
    """
    return jax.jit(jax.vmap(init))(keys)


def predict_members(apply: Apply, params: Params, extra: Extra, *args: Any) -> Any:
    """Let every member predict for the same inputs, as models in use (not in training).

    y_j = apply(params_j, extra_j, *args)

    Args:
      apply: a pure model.
      params: of all members, leaves of shape (k, ...).
      extra: likewise.
      args: what the model takes, the same for all.

    Returns:
      The outputs, with a leading axis of k.

    Example:
      >>> def apply(params, extra, x, key=None, train=False):
      ...     return params["w"] * x, extra
      >>> predict_members(apply, {"w": jnp.array([1.0, 2.0])}, {}, jnp.float32(3.0)).tolist()
      [3.0, 6.0]
    """
    return jax.vmap(lambda p, e: apply(p, e, *args)[0])(params, extra)
