"""Means of several predictions of the same thing, whoever made them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fdl.types import Array, PyTree


def monte_carlo(
    predict: Callable[[Array], PyTree], keys: Array, *, at_once: int | None = None
) -> PyTree:
    """Predict once for each key: n networks that a random mask, or noise, makes of one.

    y_j = predict(key_j),  j = 1, ..., n

    The mean over j, `arithmetic_mean` or `geometric_mean`, is the prediction of dropout's ensemble;
    its error falls as 1 / sqrt(n), and 10 to 20 masks are often enough. The expectation of any
    other function of noise is estimated likewise.

    Args:
      predict: a function of one key, such as
        `lambda key: log_softmax(apply(params, extra, x, key=key, train=True)[0])`.
      keys: typed PRNG keys of shape (n, ...); `predict` gets keys[j].
      at_once: how many to compute together, >= 1; None: all. Fewer need less memory.

    Returns:
      What `predict` returns, with a leading axis of n.

    Raises:
      ValueError: for `at_once` below 1.

    Example:
      >>> keys = jax.random.split(jax.random.key(0), 1000)
      >>> kept = monte_carlo(lambda key: jax.random.bernoulli(key, 0.8), keys)
      >>> kept.shape, bool(abs(kept.mean() - 0.8) < 0.05)
      ((1000,), True)

    Source: DLB 7.12; Srivastava et al. 2014, section 7.5.
    """
    if at_once is None:
        return jax.vmap(predict)(keys)
    if at_once < 1:
        raise ValueError(f"monte_carlo(at_once=...) must be >= 1, got {at_once}")
    return jax.lax.map(predict, keys, batch_size=at_once)


def arithmetic_mean(log_probs: Array, weights: Array | None = None) -> Array:
    """Average distributions: the prediction of bagging.

    log p(y | x) = log sum_j w_j p_j(y | x)

    Args:
      log_probs: log p_j, shape (k, ...), floating point; minus infinity is a probability of 0.
      weights: w_j >= 0, shape (k,), divided by their sum here; None: all equal.

    Returns:
      Logarithms of shape (...); normalised if each p_j is.

    Raises:
      ValueError: when there is not one weight for each prediction.

    Example:
      >>> log_probs = jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1]]))
      >>> [round(float(p), 3) for p in jnp.exp(arithmetic_mean(log_probs))]
      [0.7, 0.3]

    Source: DLB equations 7.52 and 7.53.
    """
    w = _weights("arithmetic_mean", log_probs, weights)
    return jax.nn.logsumexp(log_probs, axis=0, b=w)


def geometric_mean(log_probs: Array, weights: Array | None = None) -> Array:
    """Average logarithms of distributions and normalise again.

    p(y | x) = prod_j p_j(y | x)^w_j / sum_y' prod_j p_j(y' | x)^w_j

    With a linear model and a softmax, the mean over all dropout masks is exactly what scaling the
    weights predicts. One prediction that excludes a class excludes it from the mean.

    Args:
      log_probs: log p_j, shape (k, ..., classes), floating point. Unnormalised ones (logits) give
        the same result.
      weights: w_j >= 0, shape (k,), divided by their sum here; None: all equal.

    Returns:
      Normalised logarithms of shape (..., classes); NaN where every class is excluded.

    Raises:
      ValueError: when there is not one weight for each prediction.

    Example:
      >>> log_probs = jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1]]))
      >>> [round(float(p), 3) for p in jnp.exp(geometric_mean(log_probs))]
      [0.75, 0.25]

    Source: DLB equations 7.54 and 7.55, exact for a softmax by 7.56 to 7.66.
    """
    w = _weights("geometric_mean", log_probs, weights)
    # 0 * -inf: who has no weight cannot exclude a class
    terms = jnp.where(w == 0, 0, w * log_probs)
    return jax.nn.log_softmax(terms.sum(0), axis=-1)


def majority_vote(labels: Array, classes: int, weights: Array | None = None) -> Array:
    """Return the class with most votes; of classes that tie, the lowest.

    argmax_c sum_j w_j [labels_j = c]

    Args:
      labels: the class that each member names, integers in [0, classes), shape (k, ...).
      classes: how many there are, >= 1.
      weights: w_j >= 0, shape (k,); None: all equal.

    Returns:
      Integers of shape (...).

    Raises:
      ValueError: when there is not one weight for each member.

    Example:
      >>> majority_vote(jnp.array([[0, 2], [1, 2], [1, 0]]), 3).tolist()
      [1, 2]

    Source: DLB 7.11; Breiman 1996, Bagging predictors.
    """
    votes = jax.nn.one_hot(labels, classes)
    w = _weights("majority_vote", votes, weights, total=None if weights is None else 1.0)
    return (w * votes).sum(0).argmax(-1)


def _weights(
    function: str, values: Array, weights: Array | None, total: float | None = 1.0
) -> Array:
    """Return weights that sum to 1 with axes like those of the values; all 1 without a total."""
    k = len(values)
    w = jnp.ones(k, values.dtype) if weights is None else jnp.asarray(weights, values.dtype)
    if w.shape != (k,):
        raise ValueError(f"{function}(weights=...) must be of shape ({k},), got {w.shape}")
    # counts of votes are whole numbers, so that a tie is one
    w = w if total is None else total * w / w.sum()
    return w.reshape(k, *(1,) * (values.ndim - 1))
