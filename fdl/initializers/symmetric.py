"""Weights drawn evenly from an interval around 0."""

import jax

from fdl.initializers.form import Initializer, initializer
from fdl.types import Array, DTypeLike


def symmetric_uniform(bound: float) -> Initializer:
    """Draw from U(-bound, bound): variance bound^2 / 3, whatever the shape.

    PyTorch's recurrent layers begin so, kernels and biases, with bound = 1 / sqrt(units). (JAX's
    `uniform(scale)` runs from 0 to scale.)

    Args:
      bound: >= 0.

    Returns:
      `(key, shape, dtype) -> array`.

    Raises:
      ValueError: for a bound below 0.

    Example:
      >>> w = symmetric_uniform(0.1)(jax.random.key(0), (1000,))
      >>> bool((abs(w) <= 0.1).all()), round(float(w.std()), 2)
      (True, 0.06)
    """
    if not bound >= 0:
        raise ValueError(f"symmetric_uniform(bound=...) must be >= 0, got {bound}")

    def draw(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        return jax.random.uniform(key, shape, dtype, minval=-bound, maxval=bound)

    return initializer(draw)
