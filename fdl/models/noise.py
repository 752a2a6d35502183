"""A layer that adds noise in training."""

import jax
import jax.numpy as jnp
from flax import nnx

from fdl.models.streams import draw
from fdl.types import Array


class GaussianNoise(nnx.Module):
    """Add Gaussian noise to the units in training; pass them on as they are in use.

    y = x + scale z, or y = x (1 + scale z) with `multiplicative`;  z ~ N(0, I)

    Multiplicative noise has the mean and the variance of dropout at scale^2 = rate / (1 - rate).
    Additive noise can be outgrown: a network that scales its units up hardly feels it.

    Attributes:
      deterministic: True after `module.eval()`: return x as it is. False after `module.train()`.

    Args:
      scale: standard deviation, >= 0.
      multiplicative: in proportion to each unit.
      stream: name of the random stream.

    Raises:
      ValueError: for a negative scale; when called in training without `rngs`, or with another
        number of keys than examples.

    Example:
      >>> noise = GaussianNoise(0.1)
      >>> noise(jnp.ones((2, 4)), rngs=nnx.Rngs(0)).shape
      (2, 4)
      >>> noise.eval()
      >>> noise(jnp.ones(3))
      Array([1., 1., 1.], dtype=float32)

    Source: DLB 7.5, 7.12; Srivastava et al. 2014, section 10 (multiplicative).
    """

    def __init__(self, scale: float, *, multiplicative: bool = False, stream: str = "noise"):
        if not scale >= 0:
            raise ValueError(f"GaussianNoise(scale=...) must be >= 0, got {scale}")
        self.scale = scale
        self.multiplicative = multiplicative
        self.stream = stream
        self.deterministic = False

    def __call__(self, x: Array, *, rngs: nnx.Rngs | nnx.RngStream | Array | None = None) -> Array:
        """Add noise to x, shape (batch, ...), with one key or a key for each example."""
        if self.deterministic or self.scale == 0:
            return x
        z = _normal(draw(rngs, self.stream), x.shape)
        amount = self.scale * (x * z if self.multiplicative else z)
        return (x + amount).astype(x.dtype)


def _normal(keys: Array, shape: tuple[int, ...]) -> Array:
    # in 32 bits, so that the same numbers are drawn when x64 is enabled
    if keys.ndim == 0:
        return jax.random.normal(keys, shape, jnp.float32)
    if keys.shape != shape[:1]:
        raise ValueError(
            f"one key or one for each of {shape[:1]} examples is needed, got {keys.shape}"
        )
    return jax.vmap(lambda key: jax.random.normal(key, shape[1:], jnp.float32))(keys)
