"""Losses of predicted classes, taken from logits so that they are exact and finite at any scale."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array

Convention = Literal["all", "others"]


def sigmoid_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    label_smoothing: float = 0.0,
    convention: Convention = "all",
    positive_weight: float = 1.0,
    where: ArrayLike | None = None,
) -> Array:
    """Compute the negative log-likelihood of Bernoulli outputs, elementwise.

    -w y log sigmoid(z) - (1 - y) log sigmoid(-z) = softplus((1 - 2y) z) for y in {0, 1} and w = 1

    The gradient with respect to z is sigmoid(z) - y (w = 1). The best constant prediction of
    sigmoid(z) is the frequency of y = 1. The same as `optax.sigmoid_binary_cross_entropy`, with
    weights.

    Args:
      logits: z, any shape, floating point, finite.
      labels: y, the same shape; 0 or 1 (bool, integer or float) or a probability between.
      label_smoothing: epsilon in [0, 1]; see `smooth_labels`, of two classes.
      convention: of the smoothing.
      positive_weight: w > 0, the weight of y = 1 relative to that of y = 0.
      where: bool of the same shape; elements that do not count have loss and gradient 0, whatever
        their logit.

    Returns:
      The loss of each element in nats, shape of the logits, at least float32.

    Raises:
      ValueError: when shapes differ or an option is out of range.

    Example:
      >>> loss = sigmoid_cross_entropy(jnp.array([0.0, 1e4, -1e4]), jnp.array([1, 1, 1]))
      >>> [round(float(nats), 4) for nats in loss]
      [0.6931, 0.0, 10000.0]

    Source: DLB 6.2.2.2, equation 6.26.
    """
    z, y = _at_least_float32(logits), jnp.asarray(labels)
    _check_same("sigmoid_cross_entropy(logits, labels)", z.shape, y.shape)
    if not positive_weight > 0:
        raise ValueError(
            f"sigmoid_cross_entropy(positive_weight=...) must be > 0, got {positive_weight}"
        )
    y = y.astype(z.dtype)
    if label_smoothing:
        y = smooth_labels(jnp.stack([1 - y, y], -1), label_smoothing, convention=convention)[..., 1]
    if where is not None:
        where = jnp.asarray(where, bool)
        _check_same("sigmoid_cross_entropy(logits, where=...)", z.shape, where.shape)
        z = jnp.where(where, z, 0)
    loss = -(positive_weight * y * jax.nn.log_sigmoid(z) + (1 - y) * jax.nn.log_sigmoid(-z))
    return loss if where is None else jnp.where(where, loss, 0)


def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    label_smoothing: float = 0.0,
    convention: Convention = "all",
    class_weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Compute the negative log-likelihood of Multinoulli outputs.

    -sum_k w_k p_k log softmax(z)_k, which for a class y is w_y (logsumexp(z) - z_y)

    The gradient with respect to z is softmax(z) - p (w = 1); adding a constant to all z changes
    nothing. The best constant prediction of softmax(z) is the frequency of each class. The same as
    `optax.softmax_cross_entropy` and `optax.softmax_cross_entropy_with_integer_labels`, with
    weights.

    Args:
      logits: z, shape (..., classes), floating point, finite.
      labels: y, integer classes 0 .. classes - 1 of shape (...,), or p, a distribution for each
        example, floating point of shape (..., classes). An integer outside of the range cannot be
        refused under `jit`; its loss is NaN.
      label_smoothing: epsilon in [0, 1]; see `smooth_labels`.
      convention: of the smoothing.
      class_weights: w >= 0, shape (classes,). A mean over examples of the weighted losses divides
        by their number; to divide by the sum of the weights, as PyTorch does, do so in the
        objective.
      where: bool. Of shape (...,): examples that count, the others have loss and gradient 0
        whatever their logits. Of shape (..., classes): classes that exist, the others have
        probability 0; the loss is infinite when the label is one of them, and 0 for an example
        without any class.

    Returns:
      The loss of each example in nats, shape (...,), at least float32.

    Raises:
      ValueError: when shapes do not fit or an option is out of range.

    Example:
      >>> loss = softmax_cross_entropy(jnp.array([[0.0, 0.0], [1e4, -1e4]]), jnp.array([0, 1]))
      >>> [round(float(nats), 4) for nats in loss]
      [0.6931, 20000.0]
      >>> round(float(softmax_cross_entropy(jnp.zeros(2), jnp.array([0.5, 0.5]))), 4)
      0.6931

    Source: DLB 6.2.2.3, equation 6.30.
    """
    z, p = _at_least_float32(logits), jnp.asarray(labels)
    p = _distribution(z, p)
    active = None if where is None else _active(z, jnp.asarray(where, bool))
    if active is not None:
        z = jnp.where(active, z, -jnp.inf)
        p = jnp.where(active.any(-1, keepdims=True), p, 0)  # where nothing counts p may be NaN
    if label_smoothing:
        p = smooth_labels(p, label_smoothing, convention=convention, where=active)
    log_q = jax.nn.log_softmax(z)
    if active is not None:
        log_q = jnp.where(active | (p > 0), log_q, 0)  # 0 log 0 = 0
    if class_weights is not None:
        p = p * _class_weights(class_weights, z)
    loss = -(p * log_q).sum(-1)
    return loss if active is None else jnp.where(active.any(-1), loss, 0)


def smooth_labels(
    labels: ArrayLike,
    amount: float,
    *,
    convention: Convention = "all",
    where: ArrayLike | None = None,
) -> Array:
    """Move a part of each distribution to the other classes, so that no logit must be infinite.

    "all":    (1 - epsilon) p + epsilon / k, the true class included (PyTorch, optax)
    "others": (1 - epsilon) p + epsilon (1 - p) / (k - 1), the wrong classes only (the book)

    For one-hot p the book's true class keeps 1 - epsilon, the other's 1 - epsilon + epsilon / k.

    Args:
      labels: p, a distribution over the last axis, shape (..., k), floating point.
      amount: epsilon in [0, 1].
      convention: "all" or "others".
      where: bool, shape (..., k); classes that exist, k being their number; all if None.

    Returns:
      Distributions of the same shape.

    Raises:
      ValueError: when an option is out of range.

    Example:
      >>> [round(float(p), 4) for p in smooth_labels(jnp.array([1.0, 0.0, 0.0]), 0.3)]
      [0.8, 0.1, 0.1]
      >>> book = smooth_labels(jnp.array([1.0, 0.0, 0.0]), 0.3, convention="others")
      >>> [round(float(p), 4) for p in book]
      [0.7, 0.15, 0.15]

    Source: Szegedy et al. 2015, arXiv 1512.00567, section 7 ("all"); DLB 7.5.1 ("others").
    """
    if not 0 <= amount <= 1:
        raise ValueError(f"smooth_labels(amount=...) must lie in [0, 1], got {amount}")
    p = jnp.asarray(labels)
    exists = jnp.ones_like(p) if where is None else jnp.asarray(where, p.dtype)
    k = exists.sum(-1, keepdims=True)
    if convention == "all":
        return (1 - amount) * p + amount * exists / jnp.maximum(k, 1)
    if convention == "others":
        return (1 - amount) * p + amount * (exists - p) / jnp.maximum(k - 1, 1)
    raise ValueError(f'smooth_labels(convention=...) must be "all" or "others", got {convention!r}')


def zero_one(logits: ArrayLike, labels: ArrayLike) -> Array:
    """Compute the 0-1 loss: 0 where the largest logit is that of the label, else 1.

    Its mean is the error rate, 1 less the accuracy. It is what one wants to minimise and cannot,
    its gradient being 0 almost everywhere; the cross-entropies above are its surrogates. Of equal
    logits the first counts.

    Args:
      logits: shape (..., classes); or any other scores.
      labels: integer classes, shape (...,).

    Returns:
      0 or 1 for each example, float32, shape (...,).

    Raises:
      ValueError: when the shapes do not fit.

    Example:
      >>> zero_one(jnp.array([[2.0, 1.0], [2.0, 1.0]]), jnp.array([0, 1]))
      Array([0., 1.], dtype=float32)

    Source: DLB 8.1.2.
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    _check_same("zero_one(logits, labels) without the classes", logits.shape[:-1], labels.shape)
    return (logits.argmax(-1) != labels).astype(jnp.float32)


def _at_least_float32(logits: ArrayLike) -> Array:
    logits = jnp.asarray(logits)
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def _distribution(z: Array, labels: Array) -> Array:
    """Turn classes into one-hot distributions and refuse anything that fits neither form."""
    if jnp.issubdtype(labels.dtype, jnp.integer) and labels.shape == z.shape[:-1]:
        known = (labels >= 0) & (labels < z.shape[-1])
        one_hot = jax.nn.one_hot(labels, z.shape[-1], dtype=z.dtype)
        return jnp.where(known[..., None], one_hot, jnp.nan)
    if jnp.issubdtype(labels.dtype, jnp.floating) and labels.shape == z.shape:
        return labels.astype(z.dtype)
    raise ValueError(
        f"softmax_cross_entropy(labels=...) must be integers of shape {z.shape[:-1]} or "
        f"distributions (floats) of shape {z.shape}, got {labels.dtype} of shape {labels.shape}"
    )


def _active(z: Array, where: Array) -> Array:
    if where.shape == z.shape[:-1]:
        return jnp.broadcast_to(where[..., None], z.shape)
    if where.shape != z.shape:
        raise ValueError(
            f"softmax_cross_entropy(where=...) must have shape {z.shape[:-1]} (examples) or "
            f"{z.shape} (classes), got {where.shape}"
        )
    return where


def _class_weights(weights: ArrayLike, z: Array) -> Array:
    weights = jnp.asarray(weights, z.dtype)
    _check_same("softmax_cross_entropy(classes, class_weights=...)", z.shape[-1:], weights.shape)
    return weights.reshape((1,) * (z.ndim - 1) + weights.shape)


def _check_same(what: str, expected: tuple[int, ...], given: tuple[int, ...]) -> None:
    if expected != given:
        raise ValueError(f"{what} must have equal shapes, got {expected} and {given}")
