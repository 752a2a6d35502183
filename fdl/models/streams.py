"""Random keys for layers: one for the whole batch or one for each example."""

import jax
from flax import nnx

from fdl.types import Array


def draw(rngs: nnx.Rngs | nnx.RngStream | Array | None, stream: str) -> Array:
    """Take the next key, or the next key of each example, from a stream.

    key_i = fold_in(stream.key_i, stream.count_i), and the counts go up by one, so that the next
    draw differs. `nnx.Rngs(keys)` with keys of shape (b,) makes streams with a key for each
    example; Flax's own layers can only use streams with one key.

    Args:
      rngs: where the stream is found, the stream itself, or typed key(s) to be used as they are.
      stream: name of the stream; `nnx.Rngs` falls back to its default stream.

    Returns:
      Typed PRNG key(s) of shape () or (b,).

    Raises:
      ValueError: when there are no rngs.

    Example:
      >>> rngs = nnx.Rngs(jax.random.split(jax.random.key(0), 3))
      >>> draw(rngs, "dropout").shape
      (3,)
    """
    if rngs is None:
        raise ValueError(f"the random stream {stream!r} is needed: call with rngs=nnx.Rngs(seed)")
    if isinstance(rngs, jax.Array):
        return rngs
    source = rngs[stream] if isinstance(rngs, nnx.Rngs) else rngs
    if source.key[...].ndim == 0:
        return source()
    keys = jax.vmap(jax.random.fold_in)(source.key[...], source.count[...])
    source.count[...] += 1
    return keys
