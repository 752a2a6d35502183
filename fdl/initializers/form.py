"""The form in which JAX and Flax call an initializer."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax.nn.initializers import Initializer as Initializer

from fdl.types import Array, DTypeLike

Draw = Callable[[Array, tuple[int, ...], DTypeLike], Array]


def initializer(draw: Draw) -> Initializer:
    """Make an initializer of a function that is told everything.

    Args:
      draw: `(key, shape, dtype) -> array`.

    Returns:
      `(key, shape, dtype=None, out_sharding=None) -> array`; None is the default float type. Like
      some of JAX's own it knows no sharding.

    Example:
      >>> import jax
      >>> initializer(lambda key, shape, dtype: jnp.ones(shape, dtype))(jax.random.key(0), (2,))
      Array([1., 1.], dtype=float32)
    """

    def init(
        key: Array,
        shape: Sequence[int],
        dtype: Any = None,
        out_sharding: Any = None,
    ) -> Array:
        if out_sharding is not None:
            raise NotImplementedError("this initializer(out_sharding=...) knows no sharding")
        return draw(key, tuple(shape), jnp.zeros((), dtype).dtype)

    return init
