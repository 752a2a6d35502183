"""A penalty that keeps the parameters of two models close to each other."""

import jax
import jax.numpy as jnp

from fdl import tree
from fdl.types import Array, Params


def soft_tying(a: Params, b: Params, strength: float | Array) -> Array:
    """Penalise the distance of two models' parameters: strength * |w_A - w_B|^2.

    Two tasks that are alike have parameters that are alike, but not the same. When the same
    parameters serve twice (hard tying), nothing needs a penalty: use one leaf of the tree in both
    places, and its gradient is the sum of the two. With b held by `jax.lax.stop_gradient` it draws
    a towards a model that has been trained before.

    Args:
      a: any tree.
      b: a tree of the same form.
      strength: >= 0, of the unit loss / w^2.

    Returns:
      A scalar, at least float32.

    Raises:
      ValueError: for a negative strength, or trees of different forms.

    Example:
      >>> float(soft_tying({"w": jnp.ones(3)}, {"w": jnp.zeros(3)}, 0.5))
      1.5

    Source: Lasserre et al. 2006; DLB 7.9.
    """
    if isinstance(strength, float | int) and not strength >= 0:
        raise ValueError(f"soft_tying(strength=...) must be >= 0, got {strength}")
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(p)] for p in (a, b)]
    if not tree.same_structure(a, b) or shapes[0] != shapes[1]:
        raise ValueError(f"soft_tying(a, b) must be of one form, got {shapes[0]} and {shapes[1]}")
    kind = tree.dtype((a, b))
    apart = jax.tree.map(lambda x, y: jnp.asarray(x, kind) - jnp.asarray(y, kind), a, b)
    return strength * tree.vdot(apart, apart)
