"""From logits to a token: what reshapes a distribution before one draws from it, and the draw.

Shapes: logits (..., V). Every function computes in float32 or wider, whatever the logits are in.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array


def top_k_logits(logits: Array, k: ArrayLike) -> Array:
    """Keep the k largest logits; the others become -inf.

    Logits that equal the k-th are all kept: equally likely tokens share their fate.

    Args:
      logits: shape (..., V).
      k: whole number >= 1, may be traced; from V on nothing changes.

    Returns:
      Shape (..., V), float32 or wider.

    Example:
      >>> top_k_logits(jnp.array([1.0, 3.0, 2.0, 3.0]), 3).tolist()
      [-inf, 3.0, 2.0, 3.0]

    Source: Fan et al. 2018, arXiv 1805.04833, section 5.
    """
    logits = _wide(logits)
    ranked = _descending(logits)
    at = jnp.clip(jnp.asarray(k, jnp.int32), 1, logits.shape[-1]) - 1
    kth = jax.lax.dynamic_index_in_dim(ranked, at, axis=-1)
    return jnp.where(logits >= kth, logits, -jnp.inf)


def top_p_logits(logits: Array, p: ArrayLike) -> Array:
    """Keep the most likely tokens that together have probability p; the others become -inf.

    The nucleus is the smallest set of the most likely tokens whose probabilities sum to p or more:
    a token stays if those before it sum to less than p. The first always stays, and so do all whose
    logits equal the last one's.

    Args:
      logits: shape (..., V).
      p: in (0, 1], may be traced; 1 changes nothing.

    Returns:
      Shape (..., V), float32 or wider.

    Example:
      >>> top_p_logits(jnp.log(jnp.array([0.5, 0.125, 0.25, 0.125])), 0.7).round(3).tolist()
      [-0.693..., -inf, -1.386..., -inf]

    Source: Holtzman et al. 2019, arXiv 1904.09751, equations 2 and 3.
    """
    logits = _wide(logits)
    ranked = _descending(logits)
    probs = jax.nn.softmax(ranked)
    before = jnp.cumsum(probs, -1) - probs
    # the first stays whatever p is, and where no logit is finite, so that no probability is
    first = jax.lax.broadcasted_iota(jnp.int32, ranked.shape, ranked.ndim - 1) == 0
    last = jnp.min(jnp.where((before < p) | first, ranked, jnp.inf), -1, keepdims=True)
    # rounding may bring the sum to 1 before the end: what is kept then is by rule, not by sum
    return jnp.where((logits >= last) | (jnp.asarray(p) >= 1), logits, -jnp.inf)


def penalise_repetition(logits: Array, seen: Array, penalty: ArrayLike) -> Array:
    """Make tokens that were seen less likely: positive logits / penalty, negative ones * penalty.

    Args:
      logits: shape (..., V).
      seen: booleans, shape (..., V).
      penalty: > 0, may be traced; 1 changes nothing, 1.2 is the paper's.

    Returns:
      Shape (..., V), float32 or wider.

    Example:
      >>> seen = jnp.array([True, True, False])
      >>> penalise_repetition(jnp.array([3.0, -1.0, 3.0]), seen, 1.5).tolist()
      [2.0, -1.5, 3.0]

    Source: Keskar et al. 2019 (CTRL), arXiv 1909.05858, section 4.1, in the form that treats
    negative logits apart; the paper divides these too, which makes them likelier.
    """
    logits = _wide(logits)
    penalty = jnp.asarray(penalty, logits.dtype)
    return jnp.where(seen, jnp.where(logits > 0, logits / penalty, logits * penalty), logits)


def sample_logits(keys: Array, logits: Array, temperature: ArrayLike = 1.0) -> Array:
    """Draw a token of each row from softmax(logits / temperature); at 0 take the most likely.

    Args:
      keys: typed PRNG keys, one for each row, shape (B,): a row's draw depends on nothing else.
      logits: shape (B, V).
      temperature: >= 0, may be traced; below 1 likely tokens become likelier.

    Returns:
      int32, shape (B,). Of equal largest logits the first is the most likely.

    Example:
      >>> keys = jax.random.split(jax.random.key(0), 2)
      >>> logits = jnp.array([[0.0, 5.0, -jnp.inf], [1.0, 0.0, 0.5]])
      >>> sample_logits(keys, logits, 0.0).tolist()
      [1, 0]
      >>> sample_logits(keys, logits, 0.01).tolist()
      [1, 0]
    """
    logits = _wide(logits)
    temperature = jnp.asarray(temperature, logits.dtype)
    cooled = logits / jnp.where(temperature > 0, temperature, 1)
    drawn = jax.vmap(jax.random.categorical)(keys, cooled)
    return jnp.where(temperature > 0, drawn, jnp.argmax(logits, -1)).astype(jnp.int32)


def _wide(logits: Array) -> Array:
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def _descending(logits: Array) -> Array:
    return jnp.flip(jnp.sort(logits, axis=-1), axis=-1)
