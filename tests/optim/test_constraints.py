"""Projections: torch's and SciPy's numbers, the optimality conditions, steps that stay inside."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from optax.projections import (
    projection_box,
    projection_l1_ball,
    projection_l2_ball,
    projection_non_negative,
    projection_simplex,
)

from fdl.optim.constraints import (
    per_unit,
    project,
    projection_frobenius_ball,
    projection_max_norm,
    projection_unit_norm,
)

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((12, 5)), RNG.standard_normal(12)
Q, C = A.T @ A, A.T @ B


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Draw the same numbers in each test, whichever ran before."""
    global RNG
    RNG = np.random.default_rng(1)


def minimise(tx, w, steps=4000):
    """Minimise |A w - b|^2 / 2; return the last iterate, and all of them."""

    def step(carry, _):
        w, state = carry
        updates, state = tx.update(Q @ w - C, state, w)
        w = optax.apply_updates(w, updates)
        return (w, state), w

    return jax.jit(lambda w: jax.lax.scan(step, (w, tx.init(w)), length=steps))(w)[1]


DESCEND = optax.sgd(1 / np.linalg.eigvalsh(Q)[-1])


def number(name):
    """The last word of a fixture's name: 05 is 0.5."""
    word = name.rsplit("_", 1)[1].split(":")[0]
    return float(f"0.{word[1:]}" if word.startswith("0") else word)


FIXTURE = np.load(Path(__file__).parents[1] / "fixtures" / "clip_constraints" / "data.npz")
PROJECTIONS = {  # the fixture's name without its limit -> ours
    "maxnorm_cols": projection_max_norm,
    "unitnorm_cols": lambda w, _: projection_unit_norm(w),
    "frobenius_ball": projection_frobenius_ball,
    "simplex_cols": lambda w, _: per_unit(projection_simplex)(w),
    "l1ball_cols": lambda w, c: per_unit(partial(projection_l1_ball, scale=c))(w),
}
STEMS = {name: name.rstrip("0123456789").rstrip("_") for name in FIXTURE.files}
PROJECTED = [name for name, stem in STEMS.items() if stem in PROJECTIONS]


def expected_of(name):
    """Undo that PyTorch divides by the norm + 1e-7 where it shortens a unit."""
    if not name.startswith("maxnorm"):
        return FIXTURE[name]
    norms = np.linalg.norm(FIXTURE["W"].astype(float), axis=0)
    return FIXTURE[name] * np.where(norms > number(name), (norms + 1e-7) / norms, 1)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-9), ("float32", 2e-4)])
@pytest.mark.parametrize("name", PROJECTED)
def test_projections_are_those_of_another_implementation(name, dtype, rtol):
    w = FIXTURE["W"].astype(dtype)
    c = number(name) if name[-1].isdigit() else 1.0
    tolerance = {"rtol": rtol, "atol": 1e-14 if dtype == "float64" else 1e-5}
    projection = jax.jit(lambda w: PROJECTIONS[STEMS[name]](w, c))
    found = projection(w)
    np.testing.assert_allclose(found, expected_of(name), **tolerance)
    assert found.dtype == dtype
    # the last link of a chain makes the iterate of it
    g = np.ones_like(w)
    tx = optax.chain(optax.sgd(0.5), project(projection))
    updates, _ = tx.update(g, tx.init(w), w + 0.5 * g)
    np.testing.assert_allclose(w + 0.5 * g + updates, expected_of(name), **tolerance)


def test_the_fixture_has_all_projections():
    assert {STEMS[name] for name in PROJECTED} == set(PROJECTIONS)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-9), ("float32", 2e-4)])
def test_clipping_is_left_to_optax(dtype, rtol):
    tolerance = {"rtol": rtol, "atol": 1e-14 if dtype == "float64" else 1e-5}
    g = {"g1": FIXTURE["g1"].astype(dtype), "g2": FIXTURE["g2"].astype(dtype)}
    norm = float(FIXTURE["global_norm"])
    np.testing.assert_allclose(optax.tree.norm(g), norm, rtol=rtol)
    names = {name.split(":")[0] for name in FIXTURE.files if name.startswith("clip_global_")}
    assert names
    for name in names:
        limit = number(name)
        clipped, _ = optax.clip_by_global_norm(limit).update(g, optax.EmptyState())
        longer = (norm + 1e-6) / norm if limit < norm else 1  # PyTorch divides by norm + 1e-6
        for leaf in g:
            expected = FIXTURE[f"{name}:{leaf}"] * longer
            np.testing.assert_allclose(clipped[leaf], expected, **tolerance)
    for name in (n for n in FIXTURE.files if n.startswith("clip_value_")):
        part = name.split(":")[1]
        clipped, _ = optax.clip(number(name)).update(g, optax.EmptyState())
        np.testing.assert_allclose(clipped[part], FIXTURE[name], **tolerance)


def test_non_negative_least_squares_is_scipy_s():
    tx = optax.chain(DESCEND, project(projection_non_negative))
    path = minimise(tx, np.ones(5))
    expected, _ = scipy.optimize.nnls(A, B)
    np.testing.assert_allclose(path[-1], expected, atol=1e-10)
    assert (path >= 0).all() and (expected == 0).any() and (path[-1][expected == 0] == 0).all()


def test_least_squares_in_a_box_is_scipy_s():
    lower, upper = np.full(5, -0.2), np.array([0.1, 0.5, 0.3, 0.05, 2.0])
    tx = optax.chain(DESCEND, project(partial(projection_box, lower=lower, upper=upper)))
    expected = scipy.optimize.lsq_linear(A, B, (lower, upper), tol=1e-14).x
    np.testing.assert_allclose(minimise(tx, np.zeros(5))[-1], expected, atol=1e-8)


def test_on_a_ball_the_conditions_of_karush_kuhn_tucker_hold():
    limit = 0.5 * np.linalg.norm(np.linalg.solve(Q, C))
    path = minimise(
        optax.chain(DESCEND, project(partial(projection_l2_ball, scale=limit))), np.zeros(5)
    )
    w = np.asarray(path[-1])
    assert (np.linalg.norm(path, axis=1) <= limit * (1 + 1e-14)).all()
    assert np.linalg.norm(w) == pytest.approx(limit, rel=1e-12)
    multiplier = -(w @ (Q @ w - C)) / (w @ w)
    assert multiplier > 0
    np.testing.assert_allclose(Q @ w - C + multiplier * w, 0, atol=1e-9)
    # the norm penalty with that multiplier has the same minimum
    np.testing.assert_allclose(np.linalg.solve(Q + multiplier * np.eye(5), C), w, atol=1e-9)


def test_units_at_their_max_norm_have_a_multiplier_and_the_others_no_gradient():
    """Four problems |A w_j - b_j|^2 / 2, of which some are stopped by the limit, some are not."""
    b = A @ RNG.standard_normal((5, 4)) * np.array([0.1, 0.3, 1.0, 3.0])
    free = np.linalg.solve(Q, A.T @ b)
    tx = optax.chain(DESCEND, project(partial(projection_max_norm, limit=1.0)))

    def step(w, _):
        updates, _ = tx.update(Q @ w - A.T @ b, tx.init(w), w)
        return optax.apply_updates(w, updates), None

    w = np.asarray(jax.jit(lambda w: jax.lax.scan(step, w, length=4000)[0])(np.zeros((5, 4))))
    norms, gradient = np.linalg.norm(w, axis=0), Q @ w - A.T @ b
    multiplier = -(w * gradient).sum(0) / norms**2
    active = np.linalg.norm(free, axis=0) > 1
    assert active.any() and not active.all()
    np.testing.assert_allclose(norms[active], 1, rtol=1e-12)
    assert (multiplier[active] > 0).all()
    np.testing.assert_allclose(gradient + w * np.where(active, multiplier, 0), 0, atol=1e-8)


def test_on_the_simplex_the_conditions_of_karush_kuhn_tucker_hold():
    w = np.asarray(minimise(optax.chain(DESCEND, project(projection_simplex)), np.ones(5) / 5)[-1])
    assert w.sum() == pytest.approx(1, abs=1e-14) and (w >= 0).all()
    g = Q @ w - C
    level = g[w > 0].min()
    np.testing.assert_allclose(g[w > 0], level, atol=1e-9)
    assert (g[w == 0] >= level - 1e-9).all() and (w == 0).any()


def test_a_constraint_that_is_not_active_changes_nothing():
    tx = optax.chain(DESCEND, project(partial(projection_l2_ball, scale=100.0)))
    np.testing.assert_allclose(minimise(tx, np.ones(5)), minimise(DESCEND, np.ones(5)), atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, jnp.bfloat16])
@pytest.mark.parametrize(
    "projection", [partial(projection_max_norm, limit=1.5), projection_unit_norm]
)
def test_iterates_are_feasible_and_projecting_twice_is_projecting_once(projection, dtype):
    eps = float(jnp.finfo(dtype).eps)
    w = jnp.asarray(RNG.standard_normal((30, 7)) * np.geomspace(0.01, 10, 7), dtype)
    tx = optax.chain(optax.sgd(0.3), project(projection))
    state = tx.init(w)
    for k in range(3):
        updates, state = tx.update(jnp.sin(w + k), state, w)
        w = optax.apply_updates(w, updates)
        assert w.dtype == dtype and updates.dtype == dtype
        norms = np.linalg.norm(w.astype(float), axis=0)
        high = 1.5 if projection is not projection_unit_norm else 1
        assert (norms <= high * (1 + 8 * eps)).all()
        if projection is projection_unit_norm:
            assert (norms >= 1 - 8 * eps).all()
        np.testing.assert_allclose(projection(w).astype(float), w.astype(float), rtol=8 * eps)


def test_units_of_a_convolution_and_of_given_axes():
    w = RNG.standard_normal((3, 3, 4, 6)) * 5
    norms = np.sqrt((w**2).sum((0, 1, 2)))
    np.testing.assert_allclose(
        projection_max_norm(w, 2.0), w * np.minimum(1, 2.0 / norms), rtol=1e-12
    )
    rows = projection_unit_norm({"w": w[0, 0], "b": w[0, 0, 0]}, axis=1)
    np.testing.assert_allclose((rows["w"] ** 2).sum(1), 1, rtol=1e-12)
    np.testing.assert_array_equal(rows["b"], w[0, 0, 0])  # one axis: left alone


def test_layers_and_the_filters_of_a_convolution_are_projected_each_by_itself():
    w = {"a": RNG.standard_normal((3, 3, 2, 4)), "b": np.full((2, 2), 0.1), "c": np.ones(9)}
    found = projection_frobenius_ball(w, 1.5)
    np.testing.assert_allclose(found["a"], w["a"] * 1.5 / np.linalg.norm(w["a"]), rtol=1e-12)
    np.testing.assert_array_equal(found["b"], w["b"])  # inside
    np.testing.assert_array_equal(found["c"], w["c"])  # one axis: left alone
    found = jax.jit(per_unit(projection_simplex))(w)
    np.testing.assert_allclose(found["a"].sum((0, 1, 2)), 1, rtol=1e-12)
    one = projection_simplex(w["a"][..., 2].ravel())
    np.testing.assert_allclose(found["a"][..., 2].ravel(), one, rtol=1e-12)
    np.testing.assert_array_equal(found["c"], w["c"])


def test_complex_zero_and_extreme_units():
    w = np.array([[3.0 + 0j, 0, 1e-200, 1e200], [4.0j, 0, 1e-200j, -1e200]])
    found = np.abs(projection_unit_norm(w))
    np.testing.assert_allclose(found[:, 0], [0.6, 0.8], rtol=1e-12)
    np.testing.assert_allclose(found[:, 1:], np.sqrt(0.5), rtol=1e-12)
    short = projection_max_norm(w, 1.0)
    np.testing.assert_allclose(short[:, 1:3], w[:, 1:3], rtol=1e-12)
    np.testing.assert_allclose(np.abs(short[:, 3]), np.sqrt(0.5), rtol=1e-12)


def test_a_mask_chooses_what_is_projected():
    params = {"kernel": 10 * np.ones((4, 2)), "bias": -np.ones(2)}
    tx = project(
        partial(projection_max_norm, limit=1.0), lambda p: jax.tree.map(lambda w: w.ndim > 1, p)
    )
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    np.testing.assert_allclose(params["kernel"] + updates["kernel"], 0.5)
    np.testing.assert_array_equal(updates["bias"], 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: projection_max_norm(A, 0.0), r"projection_max_norm\(limit=...\) must be > 0"),
        (lambda: projection_frobenius_ball(A, -1.0), r"projection_frobenius_ball\(limit=...\)"),
        (lambda: project(projection_box).update(A, None), r"update\(params=...\) must be given"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
