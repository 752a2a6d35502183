"""Noise at the inputs and the labels, drawn for each example from its own key."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array


def input_noise(key: Array, x: ArrayLike, *, scale: float) -> Array:
    """Add Gaussian noise: x + scale z, z ~ N(0, I).

    For small noise the expected squared error grows by scale^2 |df/dx|^2: a penalty on the slope
    of the model (Tikhonov). For a linear model that is exact, an L2 penalty of scale^2 |w|^2.

    Args:
      key: one typed PRNG key for each example, (b,).
      x: (b, ...), floating point.
      scale: standard deviation, >= 0.

    Returns:
      The shape and dtype of x.

    Raises:
      ValueError: a negative scale, inputs that are not floating point, another number of keys.

    Example:
      >>> keys = jax.random.split(jax.random.key(0), 4)
      >>> input_noise(keys, jnp.ones((4, 8, 8)), scale=0.1).shape
      (4, 8, 8)

    Source: DLB 7.5; Bishop 1995, "Training with noise is equivalent to Tikhonov regularization".
    """
    x = jnp.asarray(x)
    if not scale >= 0:
        raise ValueError(f"input_noise(scale=...) must be >= 0, got {scale}")
    if x.ndim == 0 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"input_noise(x) must be floating point (b, ...), got {x.dtype}{x.shape}")
    _one_key_each("input_noise", key, x)
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    z = jax.vmap(lambda k: jax.random.normal(k, x.shape[1:], dtype))(key)
    return (x + scale * z).astype(x.dtype)


def label_noise(key: Array, labels: ArrayLike, *, rate: float, classes: int) -> Array:
    """Replace a label, with some probability, by another one.

    With probability `rate` y becomes one of the k - 1 other classes, all equally likely. In
    expectation the cross-entropy is that of smoothed labels, `losses.smooth_labels(...,
    convention="others")`, which has no variance: train on that; this is for tests of robustness.

    Args:
      key: one typed PRNG key for each example, (b,).
      labels: integers 0..k-1, (b,).
      rate: in [0, 1].
      classes: k >= 2.

    Returns:
      Labels of the same shape and dtype.

    Raises:
      ValueError: labels that are no integers (b,), an argument out of range, another number of
        keys.

    Example:
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> label_noise(keys, jnp.array([0, 1, 1]), rate=1.0, classes=2).tolist()
      [1, 0, 0]

    Source: DLB 7.5.1.
    """
    y = jnp.asarray(labels)
    if y.ndim != 1 or not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(f"label_noise(labels) must be integers (b,), got {y.dtype}{y.shape}")
    if not 0 <= rate <= 1:
        raise ValueError(f"label_noise(rate=...) must lie in [0, 1], got {rate}")
    if classes < 2:
        raise ValueError(f"label_noise(classes=...) must be >= 2, got {classes}")
    _one_key_each("label_noise", key, y)

    def draw(k: Array) -> tuple[Array, Array]:
        whether, which = jax.random.split(k)
        wrong = jax.random.bernoulli(whether, jnp.float32(rate))
        return wrong, jax.random.randint(which, (), 1, classes, y.dtype)

    wrong, away = jax.vmap(draw)(key)
    return jnp.where(wrong, (y + away) % classes, y)


def _one_key_each(function: str, key: Array, a: Array) -> None:
    if key.shape != a.shape[:1]:
        raise ValueError(
            f"{function}(key) must hold a key for each of {a.shape[:1]} examples, got {key.shape}"
        )
