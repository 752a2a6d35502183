"""Surrogates of the 0-1 loss: losses of a score's margin, which a gradient can follow."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array


def logistic(score: ArrayLike, label: ArrayLike) -> Array:
    """Compute the logistic loss of two classes, elementwise: softplus(-m), m = label * score.

    The sigmoid cross-entropy with the labels written -1 and +1. Divided by log 2 it lies above the
    0-1 loss. It still pulls where a class is already right, so that the margin goes on growing and
    test errors may fall after those of the training set have reached 0.

    Args:
      score: f, any shape, floating point; a class is predicted by its sign.
      label: the same shape; -1 or +1, or 0 and 1 (bool, integer or float): what is not above 0 is
        the class of negative scores.

    Returns:
      The loss of each element in nats, at least float32.

    Raises:
      ValueError: when the shapes differ.

    Example:
      >>> [round(float(l), 4) for l in logistic(jnp.array([0.0, 2.0, 1e4]), jnp.array([1, 1, -1]))]
      [0.6931, 0.1269, 10000.0]

    Source: DLB 8.1.2.
    """
    return jax.nn.softplus(-_margin("logistic", score, label))


def hinge(score: ArrayLike, label: ArrayLike) -> Array:
    """Compute the hinge loss, elementwise: max(0, 1 - m), m = label * score.

    Scores beyond the margin of 1 have no gradient; at m = 1 it is the middle of the one-sided ones.
    The same as `optax.hinge_loss` for labels -1 and +1.

    Args:
      score: f, any shape, floating point; a class is predicted by its sign.
      label: the same shape; -1 or +1, or 0 and 1.

    Returns:
      The loss of each element, at least float32.

    Raises:
      ValueError: when the shapes differ.

    Example:
      >>> hinge(jnp.array([0.5, 2.0, 2.0]), jnp.array([1, 1, -1]))
      Array([0.5, 0. , 3. ], dtype=float32)

    Source: Cortes and Vapnik 1995, Support-vector networks; DLB 5.7.2.
    """
    return jnp.maximum(0, 1 - _margin("hinge", score, label))


def squared_hinge(score: ArrayLike, label: ArrayLike) -> Array:
    """Compute the squared hinge loss, elementwise: max(0, 1 - m)^2, m = label * score.

    Args:
      score: f, any shape, floating point; a class is predicted by its sign.
      label: the same shape; -1 or +1, or 0 and 1.

    Returns:
      The loss of each element, at least float32.

    Raises:
      ValueError: when the shapes differ.

    Example:
      >>> squared_hinge(jnp.array([0.5, 2.0, 2.0]), jnp.array([1, 1, -1]))
      Array([0.25, 0.  , 9.  ], dtype=float32)

    Source: Tang 2013, Deep Learning using Linear Support Vector Machines, arXiv 1306.0239.
    """
    return jnp.square(hinge(score, label))


def exponential(score: ArrayLike, label: ArrayLike) -> Array:
    """Compute the exponential loss, elementwise: exp(-m), m = label * score.

    What AdaBoost minimises. One example far on the wrong side outweighs all others; below a margin
    of -88 it overflows to infinity in float32.

    Args:
      score: f, any shape, floating point; a class is predicted by its sign.
      label: the same shape; -1 or +1, or 0 and 1.

    Returns:
      The loss of each element, at least float32.

    Raises:
      ValueError: when the shapes differ.

    Example:
      >>> [round(float(l), 4) for l in exponential(jnp.array([0.0, 1.0]), jnp.array([1, -1]))]
      [1.0, 2.7183]

    Source: Friedman, Hastie, Tibshirani 2000, Additive Logistic Regression.
    """
    return jnp.exp(-_margin("exponential", score, label))


def multiclass_hinge(logits: ArrayLike, labels: ArrayLike) -> Array:
    """Compute the hinge loss of k classes: sum_{j != y} max(0, 1 - z_y + z_j) / k.

    Each wrong class that comes nearer than 1 to the right one counts. The same as PyTorch's
    `multi_margin_loss`; `optax.multiclass_hinge_loss` takes the nearest wrong class alone. Times
    k it lies above the 0-1 loss.

    Args:
      logits: z, or any other scores, shape (..., k), floating point.
      labels: y, integer classes 0 .. k - 1, shape (...,). One outside of the range cannot be
        refused under `jit`; its loss is NaN.

    Returns:
      The loss of each example, shape (...,), at least float32.

    Raises:
      ValueError: when the shapes do not fit or the labels are not integers.

    Example:
      >>> multiclass_hinge(jnp.array([[2.0, 1.5, 0.0], [2.0, 1.5, 0.0]]), jnp.array([0, 2]))
      Array([0.16666667, 1.8333334 ], dtype=float32)

    Source: Weston and Watkins 1999, Support Vector Machines for Multi-Class Pattern Recognition.
    """
    z, y = jnp.asarray(logits), jnp.asarray(labels)
    if not jnp.issubdtype(y.dtype, jnp.integer) or y.shape != z.shape[:-1]:
        raise ValueError(
            f"multiclass_hinge(labels) must be integers of shape {z.shape[:-1]}, "
            f"got {y.dtype} of shape {y.shape}"
        )
    z = z.astype(jnp.promote_types(z.dtype, jnp.float32))
    right = jax.nn.one_hot(y, z.shape[-1], dtype=bool)
    own = jnp.where(right, z, 0).sum(-1, keepdims=True)
    each = jnp.where(right, 0, jnp.maximum(0, 1 - own + z))
    return jnp.where(right.any(-1), each.sum(-1) / z.shape[-1], jnp.nan)


def _margin(function: str, score: ArrayLike, label: ArrayLike) -> Array:
    score, label = jnp.asarray(score), jnp.asarray(label)
    if score.shape != label.shape:
        raise ValueError(
            f"{function}(score, label) must have equal shapes, got {score.shape} and {label.shape}"
        )
    score = score.astype(jnp.promote_types(score.dtype, jnp.float32))
    return jnp.where(label > 0, score, -score)
