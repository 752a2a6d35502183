"""Mixtures of two examples and of their labels: mixup and CutMix.

The partner of an example is its neighbour in the batch: 0 and 1 are partners, 2 and 3, and so on.
`fdl.data.batch` puts the examples of a batch in random order, so that the neighbour is a random
one. A pair lies on one device as long as each holds an even number of examples, and what is drawn
comes from the key of each example: the mixture does not depend on the number of devices.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.data.crops import box
from fdl.types import Array


def mixup(key: Array, x: ArrayLike, y: ArrayLike, *, alpha: float) -> tuple[Array, Array]:
    """Replace each example by a weighted mean of itself and its neighbour, labels alike.

    x~_i = l_i x_i + (1 - l_i) x_j,  y~_i = l_i y_i + (1 - l_i) y_j,  l_i ~ Beta(alpha, alpha)

    with j the partner of i. A loss that is linear in the labels, such as the cross-entropy, is
    l_i L(x~_i, y_i) + (1 - l_i) L(x~_i, y_j).

    Args:
      key: one typed PRNG key for each example, (b,), b even.
      x: inputs (b, ...), floating point.
      y: targets (b, ...), floating point: distributions over classes (`jax.nn.one_hot`).
      alpha: > 0; small ones mix little (0.2 is usual), 1 makes l uniform.

    Returns:
      (x~, y~) of the shapes and dtypes of x and y.

    Raises:
      ValueError: an odd number of examples, another number of keys, targets that are no floating
        point numbers, or an alpha that is not > 0.

    Example:
      >>> keys = jax.random.split(jax.random.key(0), 2)
      >>> x, y = mixup(keys, jnp.array([[0.0], [1.0]]), jnp.eye(2), alpha=1.0)
      >>> bool((x[:, 0] == y[:, 1]).all())
      True

    Source: Zhang et al. 2018, arXiv 1710.09412; there a batch has one l and one permutation.
    """
    x, y = _checked("mixup", key, x, y, alpha)
    share = _beta(key, alpha)
    return _blend(x, _expand(share, x)), _blend(y, _expand(share, y))


def cutmix(key: Array, x: ArrayLike, y: ArrayLike, *, alpha: float = 1.0) -> tuple[Array, Array]:
    """Replace a rectangle of each image by that of its neighbour, and labels by its area.

    The rectangle has the sides sqrt(1 - l) H and sqrt(1 - l) W, l ~ Beta(alpha, alpha), and a
    centre that is uniform over the image; what lies outside is lost. With a the share of the
    pixels replaced, y~_i = (1 - a) y_i + a y_j.

    Args:
      key: one typed PRNG key for each example, (b,), b even.
      x: images (b, H, W) or (b, H, W, C), floating point.
      y: targets (b, ...), floating point: distributions over classes.
      alpha: > 0.

    Returns:
      (x~, y~) of the shapes and dtypes of x and y.

    Raises:
      ValueError: as `mixup`, or inputs that are no images.

    Example:
      >>> keys = jax.random.split(jax.random.key(0), 2)
      >>> x, y = cutmix(keys, jnp.zeros((2, 4, 4)).at[1].set(1.0), jnp.eye(2))
      >>> bool((x.mean((1, 2)) == y[:, 1]).all())
      True

    Source: Yun et al. 2019, arXiv 1905.04899, equations 1 and 2.
    """
    x, y = _checked("cutmix", key, x, y, alpha)
    if x.ndim not in (3, 4):
        raise ValueError(f"cutmix(x) must be (b, H, W) or (b, H, W, C), got {x.shape}")
    size = (x.shape[1], x.shape[2])

    def draw(k: Array, share: Array) -> Array:
        centre = jax.random.uniform(k, (2,), jnp.float32) * jnp.asarray(size, jnp.float32)
        half = jnp.sqrt(1 - share) * jnp.asarray(size, jnp.float32) / 2
        low, high = jnp.round(centre - half), jnp.round(centre + half)
        return box(size, low[0], low[1], high[0], high[1])

    place, amount = _two_keys(key)
    inside = jax.vmap(draw)(place, _beta(amount, alpha))
    kept = 1 - inside.mean((1, 2), dtype=jnp.float32)
    inside = inside.reshape(inside.shape + (1,) * (x.ndim - 3))
    return jnp.where(inside, _partner(x), x), _blend(y, _expand(kept, y))


def _partner(a: Array) -> Array:
    return jnp.flip(a.reshape(-1, 2, *a.shape[1:]), 1).reshape(a.shape)


def _blend(a: Array, share: Array) -> Array:
    share = share.astype(jnp.promote_types(a.dtype, jnp.float32))
    return (share * a + (1 - share) * _partner(a)).astype(a.dtype)


def _expand(share: Array, like: Array) -> Array:
    return share.reshape(share.shape + (1,) * (like.ndim - 1))


def _beta(key: Array, alpha: float) -> Array:
    a = jnp.float32(alpha)  # so that the same numbers are drawn when x64 is enabled
    return jax.vmap(lambda k: jax.random.beta(k, a, a, dtype=jnp.float32))(key)


def _two_keys(key: Array) -> tuple[Array, Array]:
    pairs = jax.vmap(jax.random.split)(key)
    return pairs[:, 0], pairs[:, 1]


def _checked(
    function: str, key: Array, x: ArrayLike, y: ArrayLike, alpha: float
) -> tuple[Array, Array]:
    x, y = jnp.asarray(x), jnp.asarray(y)
    if not alpha > 0:
        raise ValueError(f"{function}(alpha=...) must be > 0, got {alpha}")
    for name, a in (("x", x), ("y", y)):
        if a.ndim == 0 or not jnp.issubdtype(a.dtype, jnp.floating):
            raise ValueError(
                f"{function}({name}) must be floating point (b, ...), got {a.dtype}{a.shape}"
            )
    if len(x) % 2:
        raise ValueError(f"{function} needs an even number of examples on a device, got {len(x)}")
    if not key.shape == x.shape[:1] == y.shape[:1]:
        raise ValueError(
            f"{function} needs a key and a target for each of {x.shape[:1]} examples, "
            f"got {key.shape} and {y.shape[:1]}"
        )
    return x, y
