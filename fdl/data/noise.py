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
    x = _inputs("input_noise", key, x)
    if not scale >= 0:
        raise ValueError(f"input_noise(scale=...) must be >= 0, got {scale}")
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    z = jax.vmap(lambda k: jax.random.normal(k, x.shape[1:], dtype))(key)
    return (x + scale * z).astype(x.dtype)


def masking_noise(key: Array, x: ArrayLike, *, rate: float, value: float = 0.0) -> Array:
    """Hide a random share of the inputs: each becomes `value` with probability `rate`.

    The inputs that are left keep their size, where dropout scales them up: what is hidden shall be
    told from the rest, by a denoising auto-encoder.

    Args:
      key: one typed PRNG key for each example, (b,).
      x: (b, ...), floating point.
      rate: in [0, 1].
      value: what hidden inputs become.

    Returns:
      The shape and dtype of x.

    Raises:
      ValueError: a rate out of range, inputs that are not floating point, another number of keys.

    Example:
      >>> keys = jax.random.split(jax.random.key(0), 2)
      >>> masking_noise(keys, jnp.ones((2, 3)), rate=1.0).tolist()
      [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]

    Source: Vincent et al. 2010, Stacked denoising autoencoders, section 3.3; DLB 14.5.
    """
    x = _inputs("masking_noise", key, x)
    if not 0 <= rate <= 1:
        raise ValueError(f"masking_noise(rate=...) must lie in [0, 1], got {rate}")
    p = jnp.float32(rate)
    hidden = jax.vmap(lambda k: jax.random.bernoulli(k, p, x.shape[1:]))(key)
    return jnp.where(hidden, jnp.asarray(value, x.dtype), x)


def salt_and_pepper(
    key: Array, x: ArrayLike, *, rate: float, low: float = 0.0, high: float = 1.0
) -> Array:
    """Set a random share of the inputs to their smallest or largest value, by a fair coin.

    Args:
      key: one typed PRNG key for each example, (b,).
      x: (b, ...), floating point.
      rate: share that is set, in [0, 1].
      low: pepper.
      high: salt, > low.

    Returns:
      The shape and dtype of x.

    Raises:
      ValueError: an argument out of range, inputs that are not floating point, another number of
        keys.

    Example:
      >>> keys = jax.random.split(jax.random.key(0), 2)
      >>> noisy = salt_and_pepper(keys, jnp.full((2, 50), 0.5), rate=1.0)
      >>> sorted(set(noisy.ravel().tolist()))
      [0.0, 1.0]

    Source: Vincent et al. 2010, Stacked denoising autoencoders, section 3.3.
    """
    x = _inputs("salt_and_pepper", key, x)
    if not 0 <= rate <= 1:
        raise ValueError(f"salt_and_pepper(rate=...) must lie in [0, 1], got {rate}")
    if not low < high:
        raise ValueError(f"salt_and_pepper(low, high) must be low < high, got {low} and {high}")
    u = jax.vmap(lambda k: jax.random.uniform(k, x.shape[1:], jnp.float32))(key)
    ends = jnp.where(u < rate / 2, low, high).astype(x.dtype)
    return jnp.where(u < rate, ends, x)


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


def _inputs(function: str, key: Array, inputs: ArrayLike) -> Array:
    x = jnp.asarray(inputs)
    if x.ndim == 0 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{function}(x) must be floating point (b, ...), got {x.dtype}{x.shape}")
    _one_key_each(function, key, x)
    return x


def _one_key_each(function: str, key: Array, a: Array) -> None:
    if key.shape != a.shape[:1]:
        raise ValueError(
            f"{function}(key) must hold a key for each of {a.shape[:1]} examples, got {key.shape}"
        )
