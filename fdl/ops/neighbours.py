"""Classification by the nearest examples."""

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from fdl.ops.tangent_distance import tangent_distance
from fdl.types import Array


def squared_distances(x: ArrayLike, y: ArrayLike) -> Array:
    """Compute the squared Euclidean distance between every x_i and every y_j.

    From differences, one row after another: |x|^2 - 2 x.y + |y|^2 cancels for close neighbours.

    Args:
      x: (N, d), floating point.
      y: (M, d).

    Returns:
      (N, M).

    Example:
      >>> squared_distances(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0], [1.0, 0.0]])).tolist()
      [[25.0, 1.0]]
    """
    y = jnp.asarray(y)
    return lax.map(lambda row: ((row[None] - y) ** 2).sum(-1), jnp.asarray(x))


def nearest_vote(distances: ArrayLike, labels: ArrayLike, *, neighbours: int = 1) -> Array:
    """Choose the class that most of the nearest examples have.

    Of classes with equally many votes, that of the nearest neighbour among them wins; of equal
    distances, the first.

    Args:
      distances: (..., M), to the examples; monotone functions of them will do.
      labels: (M,) or (..., M), their classes, integers.
      neighbours: how many vote, in 1..M.

    Returns:
      A class for each row, (...).

    Raises:
      ValueError: when shapes do not fit or there are fewer examples than neighbours.

    Example:
      >>> far = jnp.array([[1.0, 2.0, 3.0, 9.0]])
      >>> labels = jnp.array([7, 5, 5, 7])
      >>> [nearest_vote(far, labels, neighbours=k).tolist() for k in (1, 3, 4)]
      [[7], [5], [7]]

    Source: DLB 5.1.4, k-nearest neighbours.
    """
    distances, labels = jnp.asarray(distances), jnp.asarray(labels)
    if not 1 <= neighbours <= distances.shape[-1]:
        raise ValueError(
            f"nearest_vote(neighbours=...) must lie in 1..{distances.shape[-1]}, got {neighbours}"
        )
    if labels.shape not in (distances.shape, distances.shape[-1:]):
        raise ValueError(
            f"nearest_vote(labels) must have shape {distances.shape} or {distances.shape[-1:]}, "
            f"got {labels.shape}"
        )
    order = jnp.argsort(distances, axis=-1, stable=True)[..., :neighbours]
    near = jnp.take_along_axis(jnp.broadcast_to(labels, distances.shape), order, axis=-1)
    votes = (near[..., :, None] == near[..., None, :]).sum(-1)
    return jnp.take_along_axis(near, votes.argmax(-1, keepdims=True), axis=-1)[..., 0]


def tangent_neighbours(
    x: ArrayLike,
    x_tangents: ArrayLike,
    examples: ArrayLike,
    example_tangents: ArrayLike,
    labels: ArrayLike,
    *,
    neighbours: int = 1,
    candidates: int = 40,
    ridge: float | Array = 0.0,
) -> Array:
    """Classify by the examples that are nearest in two-sided tangent distance.

    Only the `candidates` that are nearest in Euclidean distance are compared by tangents, which
    costs some hundred times as much; with all as candidates the search is exact.

    Args:
      x: what to classify, (N, d), floating point.
      x_tangents: (N, k, d).
      examples: (M, d).
      example_tangents: (M, m, d).
      labels: classes of the examples, (M,), integers.
      neighbours: how many vote, >= 1.
      candidates: >= neighbours; at most M are used.
      ridge: of `tangent_distance`.

    Returns:
      A class for each x, (N,). Memory grows with M d: rows are done one after another.

    Raises:
      ValueError: when shapes do not fit or there are fewer candidates than neighbours.

    Example:
      >>> across = jnp.array([[1.0, 0.0]])
      >>> x, examples = jnp.zeros((1, 2)), jnp.array([[5.0, 0.1], [0.0, 1.0]])
      >>> labels = jnp.array([3, 8])
      >>> tangent_neighbours(x, across[None], examples, jnp.stack([across] * 2), labels).tolist()
      [3]

    Source: Simard et al. 1998, Transformation invariance in pattern recognition, section 2.3.
    """
    x, examples, labels = jnp.asarray(x), jnp.asarray(examples), jnp.asarray(labels)
    others = jnp.asarray(example_tangents)
    if labels.shape != examples.shape[:1]:
        raise ValueError(
            f"tangent_neighbours(labels) must have shape {examples.shape[:1]}, got {labels.shape}"
        )
    candidates = min(candidates, len(examples))

    def classify(row: tuple[Array, Array]) -> Array:
        image, own = row
        _, near = lax.top_k(-((image[None] - examples) ** 2).sum(-1), candidates)
        distances = tangent_distance(image, examples[near], own, others[near], ridge=ridge)
        return nearest_vote(distances, labels[near], neighbours=neighbours)

    return lax.map(classify, (x, jnp.asarray(x_tangents)))
