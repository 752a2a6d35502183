"""Which parameters a penalty or a decay applies to, chosen by their path and shape.

A predicate is a function `(path, leaf) -> bool`; a path is the names on the way to the leaf joined
by points, as in "hidden.0.affine.kernel".
"""

import re
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from fdl.types import Array, Params, PyTree

Select: TypeAlias = Callable[[str, Array], bool]

# names of parameters that shift, scale or place units; an ensemble gives them a second axis
_NOT_WEIGHTS = frozenset({"alpha", "bias", "centres", "raw_sigma", "scale"})


def weights_only(path: str, leaf: Array) -> bool:
    """Select what multiplies two units: kernels yes, biases, scales and slopes no.

    True for leaves with two axes or more that are not called alpha, bias, centres, raw_sigma or
    scale. Biases are left alone since they need few data to be fitted well, and penalising them
    underfits.

    Args:
      path: names joined by points.
      leaf: the parameter.

    Returns:
      Whether it is a weight.

    Example:
      >>> weights_only("output.kernel", jnp.ones((3, 2))), weights_only("output.bias", jnp.ones(2))
      (True, False)

    Source: DLB 7.1.
    """
    return jnp.ndim(leaf) >= 2 and path.rsplit(".", 1)[-1] not in _NOT_WEIGHTS


def everything(path: str, leaf: Array) -> bool:
    """Select every parameter, such as the weight vector of a bare linear model.

    Args:
      path: names joined by points.
      leaf: the parameter.

    Returns:
      True.

    Example:
      >>> everything("w", jnp.ones(3))
      True
    """
    del path, leaf
    return True


def select_paths(pattern: str) -> Select:
    """Make a predicate that is true where a regular expression matches the whole path.

    Args:
      pattern: of Python's `re`; write `.*` for what may come before or after.

    Returns:
      A predicate for penalties and `mask`.

    Raises:
      ValueError: when the pattern is no regular expression.

    Example:
      >>> first_layer = select_paths(r"hidden\\.0\\..*kernel")
      >>> first_layer("hidden.0.affine.kernel", jnp.ones((2, 2))), first_layer("output.kernel", 0)
      (True, False)
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"select_paths(pattern={pattern!r}): {error}") from None
    return lambda path, leaf: compiled.fullmatch(path) is not None


def mask(select: Select) -> Callable[[Params], PyTree]:
    """Make a function from parameters to booleans, as optax's `mask=` arguments want it.

    Args:
      select: the predicate.

    Returns:
      A function of a parameter tree to a tree of the same structure with a bool for each leaf.

    Example:
      >>> mask(weights_only)({"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)})
      {'bias': False, 'kernel': True}
    """
    return lambda params: jax.tree_util.tree_map_with_path(
        lambda path, leaf: bool(select(_name(path), leaf)), params
    )


def weight_mask(params: Params) -> PyTree:
    """Mark the weights of a parameter tree: `mask(weights_only)`, ready for optax.

    Args:
      params: any tree.

    Returns:
      A tree of the same structure with a bool for each leaf.

    Example:
      >>> import optax
      >>> tx = optax.adamw(1e-3, weight_decay=1e-2, mask=weight_mask)
    """
    return mask(weights_only)(params)


def selected(params: Params, select: Select) -> list[Array]:
    """List the leaves for which a predicate is true.

    Args:
      params: any tree.
      select: the predicate.

    Returns:
      The leaves, in the order of `jax.tree.leaves`.

    Raises:
      ValueError: when there are none, naming all paths; nearly always a mistake in the predicate.

    Example:
      >>> len(selected({"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}, weights_only))
      1
    """
    named = [(_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]
    chosen = [leaf for path, leaf in named if select(path, leaf)]
    if not chosen:
        paths = ", ".join(path for path, _ in named)
        raise ValueError(f"selected(select=...) must choose a parameter, got none of: {paths}")
    return chosen


def _name(path: jax.tree_util.KeyPath) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
