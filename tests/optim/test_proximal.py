"""Proximal steps reach the penalised minimum with exact zeros (DLB 7.1.2, ISTA)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from sklearn.linear_model import ElasticNet

from fdl import regularizers
from fdl.optim import proximal_elastic_net, proximal_group_lasso, proximal_l1

BEST = np.array([3.0, -0.2, 0.05, -2.0])
CURVATURE = np.array([1.0, 2.0, 0.5, 4.0])


def gradient(w):
    return CURVATURE * (w - BEST)


def minimise(tx, steps, w, gradient=gradient):
    def step(carry, _):
        w, state = carry
        updates, state = tx.update(gradient(w), state, w)
        return (optax.apply_updates(w, updates), state), None

    return jax.jit(lambda w: jax.lax.scan(step, (w, tx.init(w)), None, steps)[0][0])(w)


def first_update(tx, updates, params):
    return jax.jit(lambda u, p: tx.update(u, tx.init(p), p)[0])(updates, params)


def applied(tx, params):
    return params + first_update(tx, np.zeros_like(params), params)


def all_of(params):
    return jax.tree.map(lambda _: True, params)


def number(name):
    """The last word of a fixture's name: 07 is 0.7."""
    word = name.rsplit("_", 1)[1]
    return float(f"0.{word[1:]}" if word.startswith("0") else word)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-9), ("float32", 2e-4)])
def test_soft_threshold_has_the_values_of_another_implementation(fixture_dir, dtype, rtol):
    data = np.load(fixture_dir("clip_constraints") / "data.npz")
    names = [n for n in data.files if n.startswith("soft_threshold_")]
    assert names
    for name in names:
        w = data["W"].astype(dtype)
        found = applied(proximal_l1(number(name), 1.0, mask=all_of), w)
        np.testing.assert_allclose(
            found, data[name], rtol=rtol, atol=1e-14 if rtol < 1e-8 else 1e-5
        )
        np.testing.assert_array_equal(np.asarray(found) == 0, data[name] == 0)


def test_proximal_l1_reaches_the_soft_thresholded_minimum_with_exact_zeros():
    tx = optax.chain(optax.sgd(0.2), proximal_l1(0.3, 0.2, mask=all_of))
    w = minimise(tx, 500, np.ones(4))
    expected = np.sign(BEST) * np.maximum(np.abs(BEST) - 0.3 / CURVATURE, 0)
    np.testing.assert_allclose(w, expected, atol=1e-14)
    assert expected[2] == 0 and w[2] == 0


def test_proximal_l1_follows_a_schedule():
    rate = optax.piecewise_constant_schedule(0.5, {1: 0.1, 2: 0.1})
    tx = proximal_l1(1.0, rate, mask=all_of)
    w, seen, update = np.array([4.0]), [], jax.jit(tx.update)
    state = tx.init(w)
    for _ in range(3):
        updates, state = update(np.zeros(1), state, w)
        w = w + np.asarray(updates)
        seen.append(w[0])
    np.testing.assert_allclose(seen, [3.5, 3.45, 3.445], rtol=1e-12)


def test_proximal_l1_leaves_the_unmasked_alone_and_a_prefix_mask_reaches_below():
    params = {"layer": {"kernel": np.ones((2, 2)), "bias": np.ones(2)}, "head": np.ones(3)}
    zeros = jax.tree.map(np.zeros_like, params)
    tx = proximal_l1(1.0, 0.25, mask=lambda _: {"layer": True, "head": False})
    updates = first_update(tx, zeros, params)
    expected = {"layer": {"kernel": -0.25, "bias": -0.25}, "head": 0.0}
    jax.tree.map(np.testing.assert_array_equal, updates, expected)


def test_proximal_l1_keeps_the_type_of_the_parameters():
    w = np.ones(3, jnp.bfloat16)
    tx = proximal_l1(0.5, lambda step: np.float32(0.1), mask=all_of)
    assert first_update(tx, np.zeros_like(w), w).dtype == jnp.bfloat16


A = np.random.default_rng(1).standard_normal((30, 5))
Y = A @ np.array([1.5, 0.0, -0.7, 0.02, 0.0]) + 0.1 * np.random.default_rng(2).standard_normal(30)
RATE = 30 / np.linalg.norm(A, 2) ** 2


def test_proximal_elastic_net_is_that_of_scikit_learn():
    tx = optax.chain(optax.sgd(RATE), proximal_elastic_net(0.2, RATE, l1_ratio=0.7, mask=all_of))
    w = minimise(tx, 500, np.zeros(5), lambda w: A.T @ (A @ w - Y) / 30)
    other = ElasticNet(alpha=0.2, l1_ratio=0.7, fit_intercept=False, tol=1e-12).fit(A, Y)
    np.testing.assert_allclose(w, other.coef_, atol=1e-8)
    np.testing.assert_array_equal(np.asarray(w) == 0, other.coef_ == 0)
    assert (other.coef_ == 0).any() and (other.coef_ != 0).any()


def test_the_ends_of_the_elastic_net_are_the_soft_threshold_and_a_shrinking():
    ends = [applied(proximal_elastic_net(0.6, 0.5, l1_ratio=r, mask=all_of), BEST) for r in (1, 0)]
    threshold = applied(proximal_l1(0.6, 0.5, mask=all_of), BEST)
    np.testing.assert_allclose(ends[0], threshold, rtol=1e-12)
    np.testing.assert_allclose(ends[1], BEST / 1.3, rtol=1e-12)


MATRIX = np.array([[3.0, 0.1, -1.0], [4.0, -0.2, 1.0]])  # columns of norms 5, 0.22 and 1.41


def test_proximal_group_lasso_is_the_block_soft_threshold_of_a_diagonal_problem():
    """|W - B|^2 / 2 + alpha sum_j |W_:j| has the minimum B_:j max(0, 1 - alpha / |B_:j|)."""
    tx = optax.chain(optax.sgd(0.4), proximal_group_lasso(0.5, 0.4, mask=all_of))
    w = np.asarray(minimise(tx, 200, np.ones((2, 3)), lambda w: w - MATRIX))
    norms = np.linalg.norm(MATRIX, axis=0)
    np.testing.assert_allclose(w, MATRIX * np.maximum(0, 1 - 0.5 / norms), atol=1e-14)
    assert (w[:, 1] == 0).all() and (w[:, [0, 2]] != 0).all()


@pytest.mark.parametrize("groups", ["columns", "rows"])
def test_the_step_of_a_group_minimises_distance_and_penalty(groups):
    kernel = np.random.default_rng(3).standard_normal((2, 2, 3, 2))  # of a convolution
    tx = proximal_group_lasso(2.0, 0.6, groups=groups, mask=all_of)
    found = np.asarray(applied(tx, kernel))

    def objective(z):
        z = z.reshape(kernel.shape)
        penalty = regularizers.group_lasso({"kernel": z}, 2.0, groups=groups)
        return jnp.square(z - kernel).sum() / 1.2 + penalty

    slope = jax.jit(jax.value_and_grad(objective))
    best = scipy.optimize.minimize(slope, kernel.ravel(), jac=True, method="L-BFGS-B").fun
    assert slope(found.ravel())[0] <= best + 1e-9
    kept = 3 if groups == "columns" else 2
    norms = np.sqrt((kernel**2).sum(tuple(a for a in range(4) if a != kept)))
    off = np.sqrt((found**2).sum(tuple(a for a in range(4) if a != kept))) == 0
    np.testing.assert_array_equal(off, norms <= 1.2)


def test_groups_of_zeros_and_of_extreme_sizes():
    w = np.array([[0.0, 3e-200, 3e200], [0.0, 4e-200, 4e200]])
    found = np.asarray(applied(proximal_group_lasso(1.0, 1e-200, mask=all_of), w))
    np.testing.assert_array_equal(found[:, 0], 0)
    np.testing.assert_allclose(found[:, 1], 0.8 * w[:, 1], rtol=1e-12)
    np.testing.assert_allclose(found[:, 2], w[:, 2], rtol=1e-12)


def refused(factory, *args, **options):
    return lambda: factory(*args, mask=all_of, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (refused(proximal_l1, -1.0, 0.1), r"proximal_l1\(strength=...\).*got -1.0"),
        (refused(proximal_elastic_net, -1.0, 0.1, l1_ratio=0.5), r"strength=...\).*got -1.0"),
        (refused(proximal_elastic_net, 1.0, 0.1, l1_ratio=2.0), r"in \[0, 1\], got 2.0"),
        (refused(proximal_group_lasso, -1.0, 0.1), r"strength=...\).*got -1.0"),
        (refused(proximal_group_lasso, 1.0, 0.1, groups="all"), "columns or rows, got all"),
        (
            lambda: applied(proximal_group_lasso(1.0, 0.1, mask=all_of), BEST),
            r"must choose matrices, got \(4,\)",
        ),
        (
            lambda: proximal_l1(1.0, 0.1, mask=all_of).update(np.ones(1), None),
            r"proximal_l1: update\(params=...\) must be given",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
