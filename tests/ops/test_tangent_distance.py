"""Tangent distance: least squares of the fixture, bounds, symmetry, invariance, neighbours."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdl import ops

TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}
distances = jax.jit(ops.tangent_distances)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_distances_are_those_of_the_fixture(dtype, fixture_dir):
    arrays = np.load(fixture_dir("tangent") / "data.npz")
    x = jnp.asarray(arrays["images"].reshape(len(arrays["images"]), -1), dtype)
    vectors = jnp.asarray(arrays["tangents"], dtype)
    found = {
        "dist_one_sided_sq": distances(x, x, vectors),
        "dist_two_sided_sq": distances(x, x, vectors, vectors),
        "euclid_sq": jax.jit(ops.squared_distances)(x, x),
    }
    for name, value in found.items():
        assert value.dtype == dtype
        np.testing.assert_allclose(value, arrays[name], err_msg=name, **TOLERANCE[dtype])


def draw(seed, n=4, k=3, d=6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(n, k, d))


def test_a_ridge_is_a_mahalanobis_distance():
    (x, own), (y, other), ridge = draw(0), draw(1), 0.3
    one = jax.jit(ops.tangent_distance)(x, y, own, ridge=ridge)
    two = jax.jit(ops.tangent_distance)(x, y, own, other, ridge=ridge)
    for found, planes in ((one, own), (two, np.concatenate([own, other], 1))):
        for i, t in enumerate(planes):
            inverse = np.linalg.inv(np.eye(6) + t.T @ t / ridge)
            expected = (x[i] - y[i]) @ inverse @ (x[i] - y[i])
            np.testing.assert_allclose(found[i], expected, rtol=1e-10)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), ridge=st.sampled_from([0.0, 1e-3, 1.0, 1e6]))
def test_two_sided_is_symmetric_and_at_most_one_sided_and_that_at_most_euclidean(seed, ridge):
    x, vectors = draw(seed)
    vectors[0, 2] = vectors[0, 1]  # dependent
    vectors[1] = 0  # none
    one = distances(x, x, vectors, ridge=ridge)
    two = distances(x, x, vectors, vectors, ridge=ridge)
    euclid = ((x[:, None] - x[None]) ** 2).sum(-1)
    slack = 1e-9 * euclid.max()
    assert (two >= 0).all()
    assert (two <= one + slack).all() and (one <= euclid + slack).all()
    np.testing.assert_allclose(two, two.T, atol=slack)
    np.testing.assert_allclose(np.diag(two), 0, atol=slack)


def spots(angle, shift, grow):
    """Three round spots on 24x24 pixels, exactly, however they are moved."""
    c, s = np.cos(angle) * (1 + grow), np.sin(angle) * (1 + grow)
    rows, columns = np.meshgrid(np.arange(24) - 11.5, np.arange(24) - 11.5, indexing="ij")
    rows, columns = c * rows - s * columns + shift, s * rows + c * columns - shift
    centres = [(-2, -1, 1.0), (2, 3, 0.7), (1, -3, 0.5)]
    return sum(h * np.exp(-((rows - r) ** 2 + (columns - q) ** 2) / 18) for r, q, h in centres)


@pytest.mark.parametrize("move", [(1, 0, 0), (0, 3, 0), (0, 0, 1), (-1, 2, 0.5)])
def test_to_first_order_no_move_along_the_tangents_changes_the_distance(move):
    still = spots(0, 0, 0).reshape(1, -1)
    for step in (0.01, 0.1):
        moved = spots(*(step * m for m in move)).reshape(1, -1)
        own, other = (
            ops.tangents(image.reshape(1, 24, 24)).reshape(1, 4, -1) for image in (moved, still)
        )
        euclid = ((moved - still) ** 2).sum()
        assert distances(moved, still, own, other)[0, 0] < 0.005 * euclid


def test_differentiation_goes_along_the_minimum():
    (x, own), (y, other) = draw(2), draw(3)

    def distance(x, own):
        return ops.tangent_distance(x, y[0], own, other[0], ridge=0.1)

    value, (by_x, by_own) = jax.jit(jax.value_and_grad(distance, (0, 1)))(x[0], own[0])
    step, direction = 1e-6, np.random.default_rng(4).normal(size=x[0].shape)
    ahead = distance(x[0] + step * direction, own[0] + step * direction[None])
    back = distance(x[0] - step * direction, own[0] - step * direction[None])
    slope = by_x @ direction + (by_own @ direction).sum()
    np.testing.assert_allclose(slope, (ahead - back) / (2 * step), rtol=1e-6)
    assert value > 0


def test_neighbours_are_those_of_a_full_table():
    (x, own), (examples, other) = draw(5, n=8), draw(6, n=30)
    labels = np.random.default_rng(7).integers(0, 3, 30)
    table = np.asarray(distances(x, examples, own, other, ridge=0.2))
    order = np.argsort(table, axis=1)
    find = jax.jit(ops.tangent_neighbours, static_argnames=("neighbours", "candidates"))
    found = find(x, own, examples, other, labels, candidates=99, ridge=0.2)
    np.testing.assert_array_equal(found, labels[order[:, 0]])
    for i, label in enumerate(
        find(x, own, examples, other, labels, neighbours=5, candidates=99, ridge=0.2)
    ):
        votes = np.bincount(labels[order[i, :5]], minlength=3)
        assert votes[label] == votes.max()


def test_only_the_nearest_in_euclidean_distance_are_candidates():
    across = np.array([[[1.0, 0.0]]])
    examples, labels = np.array([[5.0, 0.1], [0.0, 1.0]]), np.array([3, 8])
    rest = (np.zeros((1, 2)), across, examples, np.repeat(across, 2, 0), labels)
    assert ops.tangent_neighbours(*rest, candidates=2).tolist() == [3]
    assert ops.tangent_neighbours(*rest, candidates=1).tolist() == [8]


def test_most_votes_win_and_of_equally_many_the_nearest():
    rng = np.random.default_rng(8)
    table, labels = rng.permuted(np.tile(np.arange(12.0), (60, 1)), axis=1), rng.integers(0, 4, 12)
    drawn = 0
    for k in (1, 4, 12):
        for row, found in zip(table, ops.nearest_vote(table, labels, neighbours=k), strict=True):
            near = [labels[i] for i in np.argsort(row)[:k]]
            ranking = Counter(near).most_common()  # equal counts in the order of the first
            assert found == ranking[0][0]
            drawn += len(ranking) > 1 and ranking[0][1] == ranking[1][1]
    assert drawn > 5


X, VECTORS = draw(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: ops.tangent_distance(X, X, VECTORS, ridge=-1),
            r"ridge=...\) must be >= 0, got -1",
        ),
        (lambda: ops.tangent_distance(X, X[:, :5], VECTORS), r"\(4, 6\) and \(4, 5\)"),
        (lambda: ops.tangent_distance(X, X, VECTORS[..., :5]), r"x_tangents\) must be"),
        (lambda: ops.tangent_distance(X, X, VECTORS, X[0]), r"y_tangents\) must be"),
        (lambda: ops.nearest_vote(X, np.ones(6, int), neighbours=7), r"1..6, got 7"),
        (lambda: ops.nearest_vote(X, np.ones(4, int)), r"\(4, 6\) or \(6,\), got \(4,\)"),
        (
            lambda: ops.tangent_neighbours(X, VECTORS, X, VECTORS, np.ones(3, int)),
            r"labels\) must have shape \(4,\), got \(3,\)",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
