"""How a decoder compares its state with the encoder's: additive, dot and general scores."""

import functools
from collections.abc import Callable
from typing import Protocol, TypeAlias

import jax.numpy as jnp
from flax import nnx

from fdl import initializers, ops
from fdl.types import Array


class Scores(Protocol):
    """A module that scores keys by a query; `keys` is computed once, the call at every step."""

    def keys(self, values: Array) -> Array:
        """Prepare the keys, (batch, S, A), from the encoder's outputs (batch, S, K)."""
        ...

    def __call__(self, query: Array, keys: Array) -> Array:
        """Score each key, (batch, S), by a query of shape (batch, H)."""
        ...


Attention: TypeAlias = Callable[..., Scores]  # (query_features, key_features, *, rngs) -> module


class AdditiveScores(nnx.Module):
    """e_j = v . tanh(W_q query + W_k key_j), as a module; see `additive`.

    Args:
      query_features: H.
      key_features: K.
      units: A, in which both are compared.
      rngs: for the parameters.
    """

    def __init__(self, query_features: int, key_features: int, *, units: int, rngs: nnx.Rngs):
        init = initializers.glorot_uniform()
        self.kernel_query = nnx.Param(init(rngs.params(), (query_features, units), jnp.float32))
        self.kernel_key = nnx.Param(init(rngs.params(), (key_features, units), jnp.float32))
        self.v = nnx.Param(init(rngs.params(), (units, 1), jnp.float32)[:, 0])

    def keys(self, values: Array) -> Array:
        """Return W_k h_j."""
        return values @ self.kernel_key[...].astype(values.dtype)

    def __call__(self, query: Array, keys: Array) -> Array:
        """Return e, (batch, S)."""
        query = query @ self.kernel_query[...].astype(query.dtype)
        return ops.additive_scores(query, keys, self.v[...].astype(query.dtype))


class GeneralScores(nnx.Module):
    """e_j = query . W key_j, or query . key_j without W; see `general` and `dot`.

    Args:
      query_features: H.
      key_features: K.
      matrix: whether there is a W; without it H and K must be equal.
      rngs: for the parameters.

    Raises:
      ValueError: for dot scores of vectors of different sizes.
    """

    def __init__(self, query_features: int, key_features: int, *, matrix: bool, rngs: nnx.Rngs):
        if not matrix and query_features != key_features:
            raise ValueError(
                f"dot() must compare vectors of one size, got queries of {query_features} and keys"
                f" of {key_features}: take general()"
            )
        init, shape = initializers.glorot_uniform(), (key_features, query_features)
        self.kernel = nnx.data(
            nnx.Param(init(rngs.params(), shape, jnp.float32)) if matrix else None
        )

    def keys(self, values: Array) -> Array:
        """Return W h_j."""
        return values if self.kernel is None else values @ self.kernel[...].astype(values.dtype)

    def __call__(self, query: Array, keys: Array) -> Array:
        """Return e, (batch, S)."""
        return ops.dot_scores(query, keys)


def additive(units: int) -> Attention:
    """Choose Bahdanau's score, which is Luong's "concat" too: e_j = v . tanh(W_q q + W_k k_j).

    Args:
      units: A, in which query and key are compared.

    Example:
      >>> scores = additive(5)(4, 3, rngs=nnx.Rngs(0))
      >>> scores(jnp.ones((2, 4)), scores.keys(jnp.ones((2, 6, 3)))).shape
      (2, 6)

    Source: Bahdanau et al. 2014, arXiv 1409.0473.
    """
    return functools.partial(AdditiveScores, units=units)


def general() -> Attention:
    """Choose Luong's "general" score: e_j = q . W k_j.

    Example:
      >>> general()(4, 3, rngs=nnx.Rngs(0)).kernel.shape
      (3, 4)

    Source: Luong et al. 2015, arXiv 1508.04025.
    """
    return functools.partial(GeneralScores, matrix=True)


def dot() -> Attention:
    """Choose Luong's "dot" score, without parameters: e_j = q . k_j.

    Example:
      >>> scores = dot()(3, 3, rngs=nnx.Rngs(0))
      >>> scores(jnp.ones((1, 3)), jnp.ones((1, 2, 3))).tolist()
      [[3.0, 3.0]]

    Source: Luong et al. 2015, arXiv 1508.04025.
    """
    return functools.partial(GeneralScores, matrix=False)
