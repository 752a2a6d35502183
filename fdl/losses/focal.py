"""A cross-entropy that turns down the examples which are right already."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.losses.classification import softmax_cross_entropy
from fdl.types import Array


def focal(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: float = 2.0,
    class_weights: ArrayLike | None = None,
) -> Array:
    """Compute the focal loss: -w_y (1 - p_y)^gamma log p_y, p = softmax(z).

    The cross-entropy, with the examples that are already right turned down; gamma = 0 is the
    cross-entropy itself. 1 - p is taken from the other classes' logits, so that the loss and its
    gradient are exact however certain the model is.

    Args:
      logits: z, shape (..., classes), floating point, finite; two classes at least.
      labels: y, integer classes 0 .. classes - 1, shape (...,). One outside of the range has loss
        NaN.
      gamma: >= 0.
      class_weights: w >= 0, shape (classes,).

    Returns:
      The loss of each example in nats, shape (...,), at least float32.

    Raises:
      ValueError: when the shapes do not fit, the labels are not integers or gamma is negative.

    Example:
      >>> loss = focal(jnp.array([[0.0, 0.0], [4.0, 0.0]]), jnp.array([0, 0]))
      >>> [round(float(nats), 6) for nats in loss]
      [0.173287, 6e-06]

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, arXiv 1708.02002, equation 5.
    """
    if not gamma >= 0:
        raise ValueError(f"focal(gamma=...) must be >= 0, got {gamma}")
    z, y = jnp.asarray(logits), jnp.asarray(labels)
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(f"focal(labels) must be integers, got {y.dtype}")
    cross_entropy = softmax_cross_entropy(z, y, class_weights=class_weights)
    z = z.astype(cross_entropy.dtype)
    others = jnp.where(jax.nn.one_hot(y, z.shape[-1], dtype=bool), -jnp.inf, z)
    log_wrong = jax.nn.logsumexp(others, -1) - jax.nn.logsumexp(z, -1)  # log(1 - p_y)
    return jnp.exp(gamma * log_wrong) * cross_entropy
