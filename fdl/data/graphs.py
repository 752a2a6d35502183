"""Embedded graphs."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdl.data.embedded import embedded


class LabelledGraph(NamedTuple):
    """An undirected graph with a class for every node."""

    n_nodes: int
    edges: NDArray[Any]  # (E, 2) int32, each edge once, smaller node first
    weights: NDArray[Any]  # (E,) float32
    labels: NDArray[Any]  # (n_nodes,) int32


def karate() -> LabelledGraph:
    """Return Zachary's karate club: 34 members, 78 friendships, the side each took in a quarrel.

    The club fell apart. Labels: 0 went with the instructor ("Mr. Hi", node 0), 1 with the officer
    (node 33); 17 each. Weights count the contexts outside the club in which two members met (1..7).

    Returns:
      LabelledGraph(n_nodes=34, edges (78, 2), weights (78,), labels (34,)).

    Example:
      >>> graph = karate()
      >>> graph.n_nodes, graph.edges.shape, graph.edges[0].tolist(), graph.labels.sum().item()
      (34, (78, 2), [0, 1], 17)

    Source: Zachary 1977, "An information flow model for conflict and fission in small groups", as
    copied by networkx (BSD-3-Clause).
    """
    stored = embedded("karate")
    return LabelledGraph(
        n_nodes=len(stored["clubs"]),
        edges=stored["edges"].astype(np.int32),
        weights=stored["weights"].astype(np.float32),
        labels=stored["clubs"].astype(np.int32),
    )
