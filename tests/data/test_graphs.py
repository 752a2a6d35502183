import numpy as np

from fdl.data import karate


def test_karate_has_the_degrees_that_zachary_drew():
    graph = karate()
    degrees = np.bincount(graph.edges.ravel(), minlength=graph.n_nodes)
    assert graph.edges.shape == (78, 2)
    assert degrees[0] == 16 and degrees[33] == 17 and degrees[11] == 1
    assert degrees.sum() == 2 * 78


def test_karate_edges_are_listed_once_and_join_different_members():
    edges = karate().edges
    assert np.all(edges[:, 0] < edges[:, 1])
    assert len({tuple(edge) for edge in edges.tolist()}) == 78


def test_karate_sides_follow_the_two_leaders():
    graph = karate()
    assert graph.labels[0] == 0 and graph.labels[33] == 1
    assert np.bincount(graph.labels).tolist() == [17, 17]
    # The split cut few friendships: modularity of the two sides is about 0.36.
    degrees = np.bincount(graph.edges.ravel(), minlength=34)
    inside = np.mean(graph.labels[graph.edges[:, 0]] == graph.labels[graph.edges[:, 1]])
    shares = np.array([degrees[graph.labels == side].sum() for side in (0, 1)]) / 156
    assert abs(inside - (shares**2).sum() - 0.358) < 0.01


def test_karate_weights_count_contexts():
    weights = karate().weights
    assert weights.sum() == 231 and weights.min() == 1 and weights.max() == 7
