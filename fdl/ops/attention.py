"""Attention: how well each key answers a query, and the average of the values by that.

Letters: S positions of the keys, A features in which query and key are compared.
"""

import jax
import jax.numpy as jnp

from fdl.types import Array


def additive_scores(query: Array, keys: Array, v: Array) -> Array:
    """Compare a query with keys by a small network.

    e_j = v . tanh(query + key_j)

    with the query and the keys multiplied by their matrices already, so that the keys' product is
    made once for all queries. Luong's "concat" score v . tanh(W [query; key]) is the same function.

    Args:
      query: W_q s, shape (..., A).
      keys: W_k h_j, shape (..., S, A).
      v: shape (A,).

    Returns:
      e, shape (..., S).

    Example:
      >>> keys = jnp.array([[0.0], [9.0]])
      >>> additive_scores(jnp.zeros(1), keys, jnp.array([2.0])).round(3).tolist()
      [0.0, 2.0]

    Source: Bahdanau et al. 2014, arXiv 1409.0473, appendix A.1.2; DLB 12.4.5.1.
    """
    return jnp.tanh(query[..., None, :] + keys) @ v


def dot_scores(query: Array, keys: Array) -> Array:
    """Compare a query with keys by their scalar products.

    e_j = query . key_j

    "General" scores query . W key_j are these with the keys multiplied by W.

    Args:
      query: shape (..., A).
      keys: shape (..., S, A).

    Returns:
      e, shape (..., S).

    Example:
      >>> dot_scores(jnp.array([1.0, 2.0]), jnp.eye(2)).tolist()
      [1.0, 2.0]

    Source: Luong et al. 2015, arXiv 1508.04025, equation 8.
    """
    return (keys @ query[..., None])[..., 0]


def attend(scores: Array, values: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """Average values by the softmax of scores.

    a = softmax(e) over the unmasked positions,   context = sum_j a_j value_j

    Args:
      scores: e, shape (..., S).
      values: shape (..., S, K).
      mask: True where there is something to attend to, shape (..., S); all if None. Where a row has
        nothing, its weights and its context are 0.

    Returns:
      (context, a): shapes (..., K) and (..., S); a is exactly 0 where masked.

    Example:
      >>> values = jnp.array([[1.0], [3.0], [50.0]])
      >>> context, weights = attend(jnp.zeros(3), values, jnp.array([True, True, False]))
      >>> context.tolist(), weights.tolist()
      ([2.0], [0.5, 0.5, 0.0])

    Source: Bahdanau et al. 2014, arXiv 1409.0473, equations 5 and 6.
    """
    if mask is None:
        weights = jax.nn.softmax(scores)
    else:
        # the least finite number, not -inf: a row of nothing must not become nan
        least = jnp.finfo(scores.dtype).min
        weights = jnp.where(mask, jax.nn.softmax(jnp.where(mask, scores, least)), 0)
    return (weights[..., None, :] @ values)[..., 0, :], weights
