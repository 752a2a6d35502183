"""The objective as a transformation may evaluate it: data bound, trees of the form it expects."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fdl import tree
from fdl.types import Array, Params, PyTree

ValueFn = Callable[..., Array]


def bind(
    value_fn: ValueFn, params: Params, like: PyTree | None, extra_args: Mapping[str, Any]
) -> Callable[[Params], Array] | None:
    """Return `params -> value` for the parameters that a transformation is given.

    Keywords of an update whose names are parameters of `value_fn` are handed to it, as optax does.
    Under `optax.flatten` the parameters are one vector: its way back is read off `like`.

    Args:
      value_fn: `(params, **data) -> scalar`.
      params: the parameters as the transformation sees them.
      like: a tree of the caller's own form, such as the extra argument `grad`; None: like `params`.
      extra_args: keywords of the update.

    Returns:
      The function; its value is real, float32 at least. None where it cannot be evaluated: under
      `optax.masked` or `optax.partition` nobody knows the other parameters (a warning names
      `fdl.optim.blockwise`, which does).

    Example:
      >>> f = bind(lambda w, data: (w * data).sum(), jnp.ones(2), None, {"data": 3.0, "other": 1})
      >>> float(f(jnp.ones(2)))
      6.0
    """
    if masked(params):
        warnings.warn(
            "value_fn cannot be evaluated on a part of the parameters, so the step is not searched:"
            " take fdl.optim.blockwise instead of optax.masked or optax.partition",
            stacklevel=2,
        )
        return None
    names = list(inspect.signature(value_fn).parameters)[1:]
    data = {name: extra_args[name] for name in names if name in extra_args}
    unflatten = unflattener(params, like)
    kind = tree.dtype(params)

    def value(p: Params) -> Array:
        return jnp.real(value_fn(unflatten(p), **data)).astype(kind).reshape(())

    return value


def masked(params: Params) -> bool:
    """Tell whether leaves are hidden, as `optax.masked` hides them.

    Example:
      >>> masked({"w": 1.0, "b": optax.MaskedNode()})
      True
    """
    leaves = jax.tree.leaves(params, is_leaf=lambda x: isinstance(x, optax.MaskedNode))
    return any(isinstance(leaf, optax.MaskedNode) for leaf in leaves)


def unflattener(params: Params, like: PyTree | None) -> Callable[[Params], Params]:
    """Return the way back from `optax.flatten`, which lays leaves out one after another.

    Args:
      params: the parameters as the transformation sees them.
      like: a tree of the caller's own form; None: like `params`.

    Returns:
      `params -> tree` of the caller's form: the identity unless `params` are one vector.

    Example:
      >>> unflattener(jnp.ones(3), {"w": jnp.zeros(2), "b": jnp.zeros(1)})(jnp.arange(3.0))["w"]
      Array([1., 2.], dtype=float32)
    """
    if like is None or tree.same_structure(params, like):
        return lambda p: p
    leaves, structure = jax.tree.flatten(like)
    sizes = [jnp.size(leaf) for leaf in leaves]

    def unflatten(flat: Array) -> Params:
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        parts = [
            flat[end - size : end].reshape(jnp.shape(leaf)).astype(leaf.dtype)
            for leaf, size, end in zip(leaves, sizes, ends, strict=True)
        ]
        return jax.tree.unflatten(structure, parts)

    return unflatten


def reform(tree_: PyTree, params: Params) -> PyTree:
    """Give a tree of the caller's form, such as the extra `grad`, the form of `params`.

    Args:
      tree_: of the caller's form.
      params: the parameters as the transformation sees them, masked or flat.

    Returns:
      The same values: hidden where `params` are, one vector where `params` are.

    Example:
      >>> reform({"w": jnp.ones(1), "b": jnp.zeros(2)}, jnp.ones(3)).tolist()
      [0.0, 0.0, 1.0]
    """
    if tree.same_structure(tree_, params):
        return tree_
    if masked(params):
        hidden = lambda x: isinstance(x, optax.MaskedNode)  # noqa: E731
        return jax.tree.map(lambda p, t: p if hidden(p) else t, params, tree_, is_leaf=hidden)
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree_)])
