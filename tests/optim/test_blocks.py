"""Blocks: Gauss-Seidel, the lasso, and a part of the parameters optimised as if it were alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.linear_model import Lasso, LogisticRegression

from fdl.optim.blocks import blockwise, coordinate_descent
from fdl.optim.proximal import proximal_l1

RNG = np.random.default_rng(0)
A = RNG.standard_normal((40, 8))
TRUE = np.array([2.0, 0, 0, -1.0, 0, 0, 0.5, 0])
B = A @ TRUE + 0.3 * RNG.standard_normal(40) + 1.0
H, C = A.T @ A, A.T @ B


def quadratic(x):
    return x @ H @ x / 2 - C @ x


def run(tx, f, params, steps):
    """Return all iterates, as a tree with a leading axis."""

    def step(carry, _):
        p, state = carry
        value, grad = jax.value_and_grad(f)(p)
        updates, state = tx.update(grad, state, p, value=value, grad=grad, value_fn=f)
        p = optax.apply_updates(p, updates)
        return (p, state), p

    scan = jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), length=steps)[1])
    return jax.tree.map(np.asarray, scan(params))


def last(path):
    return jax.tree.map(lambda a: a[-1], path)


# --- blockwise -----------------------------------------------------------------------------------


def valley(p):
    a, b = p["a"], p["b"]["c"]
    return ((1 - a) ** 2).sum() + 10 * ((b - a**2) ** 2).sum() + p["b"]["d"] * a.sum()


START = {"a": np.array([-1.0, 0.5]), "b": {"c": np.array([1.0, 2.0]), "d": np.array(0.3)}}
INNERS = {
    "lbfgs": optax.lbfgs,
    "adam": lambda: optax.adam(0.1),
    "armijo": lambda: optax.chain(
        optax.sgd(1.0), optax.scale_by_backtracking_linesearch(20, store_grad=True)
    ),
}


@pytest.mark.parametrize("name", INNERS)
def test_a_part_moves_as_if_it_were_the_whole_problem(name):
    path = run(blockwise(INNERS[name](), {"a": True, "b": False}), valley, START, 8)
    alone = run(INNERS[name](), lambda a: valley(START | {"a": a}), START["a"], 8)
    np.testing.assert_allclose(path["a"], alone, rtol=1e-12)
    for leaf in ("c", "d"):
        np.testing.assert_array_equal(path["b"][leaf], [START["b"][leaf]] * 8)


def test_a_mask_of_everything_changes_nothing():
    plain = run(INNERS["armijo"](), valley, START, 6)
    whole = {"a": True, "b": {"c": True, "d": True}}
    for mask in (True, whole, lambda p: jax.tree.map(lambda _: True, p)):
        path = run(blockwise(INNERS["armijo"](), mask), valley, START, 6)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-12), path, plain)


def test_a_part_with_a_search_inside_masked_neighbours():
    """Two parts side by side, as a chain: each searches with the other where it was."""
    a, b = blockwise(optax.lbfgs(), {"a": True, "b": False}), optax.adam(0.05)
    tx = optax.partition({"a": optax.identity(), "b": b}, {"a": "a", "b": "b"})
    both = run(tx, valley, START, 1)
    alone = run(blockwise(b, {"a": False, "b": True}), valley, START, 1)
    np.testing.assert_allclose(both["b"]["c"], alone["b"]["c"])
    assert valley(last(run(a, valley, START, 5))) < valley(START)


@pytest.mark.slow
def test_the_data_of_an_objective_reach_it():
    def f(p, x):
        return ((p["w"] * x + p["b"]) ** 2).sum()

    tx = blockwise(optax.lbfgs(), {"w": True, "b": False})
    p, x = {"w": jnp.ones(3), "b": jnp.full(3, 2.0)}, jnp.array([1.0, 2.0, 4.0])
    state = tx.init(p)
    for _ in range(10):
        value, grad = jax.value_and_grad(f)(p, x)
        updates, state = tx.update(grad, state, p, value=value, grad=grad, value_fn=f, x=x)
        p = optax.apply_updates(p, updates)
    np.testing.assert_allclose(p["w"], -2.0 / x, rtol=1e-4)


# --- coordinate descent ---------------------------------------------------------------------------


def gauss_seidel(sweeps):
    """Solve H x = c one equation at a time."""
    x, path = np.zeros(8), []
    for k in range(8 * sweeps):
        i = k % 8
        x = x.copy()
        x[i] = (C[i] - H[i] @ x + H[i, i] * x[i]) / H[i, i]
        path.append(x)
    return np.array(path)


def test_on_a_quadratic_function_it_is_gauss_seidel():
    np.testing.assert_allclose(
        run(coordinate_descent(), quadratic, np.zeros(8), 80), gauss_seidel(10), rtol=0, atol=1e-12
    )


def test_over_leaves_it_is_block_gauss_seidel():
    left, right = slice(0, 3), slice(3, 8)

    def f(p):
        return quadratic(jnp.concatenate([p["left"], p["right"]]))

    def newton():  # the exact minimum over a block of a quadratic function
        def update(updates, state, params=None, *, value_fn, **extra):
            return jax.tree.map(
                lambda g: -jnp.linalg.solve(H[left, left] if len(g) == 3 else H[right, right], g),
                updates,
            ), state

        return optax.GradientTransformationExtraArgs(lambda p: optax.EmptyState(), update)

    x, expected = np.zeros(8), []
    for k in range(10):
        own, other = (left, right) if k % 2 == 0 else (right, left)
        x = x.copy()
        x[own] = np.linalg.solve(H[own, own], C[own] - H[own, other] @ x[other])
        expected.append(x)
    start = {"left": np.zeros(3), "right": np.zeros(5)}
    for blocks in ("leaves", {"left": "x", "right": "y"}, lambda p: {"left": 0, "right": 1}):
        path = run(coordinate_descent(newton(), blocks=blocks), f, start, 10)
        found = np.concatenate([path["left"], path["right"]], 1)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_leaves_of_one_label_move_together_and_have_one_state():
    params = {"a": np.ones(2), "b": np.ones(3), "c": np.ones(())}
    tx = coordinate_descent(optax.adam(0.1), blocks={"a": 0, "b": 1, "c": 0})
    state = tx.init(params)
    assert len(state.inner) == 2
    path = run(tx, lambda p: sum((leaf**2).sum() for leaf in p.values()), params, 4)
    moves = {k: np.abs(np.diff(np.concatenate([[params[k]], v]), axis=0)) for k, v in path.items()}
    np.testing.assert_array_equal(moves["a"].max(1) > 0, [True, False, True, False])
    np.testing.assert_array_equal(moves["c"] > 0, [True, False, True, False])
    np.testing.assert_array_equal(moves["b"].max(1) > 0, [False, True, False, True])
    # the second step of a block is its own second step: Adam's bias correction counts per block
    alone = run(optax.adam(0.1), lambda b: (b**2).sum(), params["b"], 2)
    np.testing.assert_allclose(path["b"][[1, 3]], alone, rtol=1e-12)


@pytest.mark.parametrize("order", ["cyclic", "random", "gauss_southwell"])
@pytest.mark.parametrize("strength", [0.02, 0.2])
def test_the_lasso_is_scikit_learn_s(order, strength):
    theirs = Lasso(strength, tol=1e-14, max_iter=100_000).fit(A, B)

    def f(p):
        return jnp.square(A @ p["w"] + p["b"] - B).mean() / 2

    tx = coordinate_descent(order=order, l1={"w": strength, "b": 0.0}, seed=3)
    found = last(run(tx, f, {"w": np.zeros(8), "b": np.zeros(())}, 1200))
    np.testing.assert_allclose(found["w"], theirs.coef_, atol=1e-8)
    assert found["b"] == pytest.approx(theirs.intercept_, abs=1e-8)
    np.testing.assert_array_equal(found["w"] == 0, theirs.coef_ == 0)
    assert (found["w"] == 0).any()


def test_sparse_logistic_regression_is_scikit_learn_s():
    y = (B > 1).astype(float)
    theirs = LogisticRegression(
        l1_ratio=1.0, C=0.2, solver="saga", tol=1e-12, max_iter=50_000, fit_intercept=False
    ).fit(A, y)

    def f(w):  # scikit-learn minimises |w|_1 + C * sum of losses
        z = A @ w
        return 0.2 * (jnp.logaddexp(0.0, z) - y * z).sum()

    found = last(run(coordinate_descent(l1=1.0), f, np.zeros(8), 400))
    np.testing.assert_allclose(found, theirs.coef_[0], atol=1e-6)
    assert (found == 0).any() and (found != 0).any()


def test_greedy_takes_the_steepest_coordinate_and_needs_fewer_steps():
    path = np.concatenate(
        [
            np.zeros((1, 8)),
            run(coordinate_descent(order="gauss_southwell"), quadratic, np.zeros(8), 30),
        ]
    )
    for before, after in zip(path[:-1], path[1:], strict=True):
        steepest = np.abs(H @ before - C).argmax()
        np.testing.assert_array_equal(np.delete(after, steepest), np.delete(before, steepest))
    best = quadratic(np.linalg.solve(H, C))
    gap = [
        float(quadratic(last(run(coordinate_descent(order=o), quadratic, np.zeros(8), 16)))) - best
        for o in ("gauss_southwell", "cyclic")
    ]
    assert gap[0] < gap[1]


def test_random_order_is_even_and_follows_the_seed():
    def which(seed):
        tx = coordinate_descent(optax.sgd(1.0), order="random", seed=seed)
        path = run(tx, lambda x: x.sum(), np.zeros(4), 400)
        return np.abs(np.diff(np.concatenate([np.zeros((1, 4)), path]), axis=0)).argmax(1)

    first = which(0)
    counts = np.bincount(first, minlength=4)
    assert ((counts - 100) ** 2 / 100).sum() < 16.3  # chi-squared, 3 degrees of freedom, p = 0.001
    np.testing.assert_array_equal(first, which(0))
    assert (first != which(1)).mean() > 0.5


def test_inside_an_inner_transformation_each_coordinate_has_its_own_state():
    tx = coordinate_descent(optax.sgd(0.01, momentum=0.9))
    path = run(tx, quadratic, np.zeros(8), 40)
    x, v = np.zeros(8), np.zeros(8)
    for k in range(40):
        i = k % 8
        v[i] = 0.9 * v[i] + (H @ x - C)[i]
        x[i] -= 0.01 * v[i]
        np.testing.assert_allclose(path[k], x, rtol=1e-12, atol=1e-15)


def test_an_inner_line_search_sees_the_objective_along_the_coordinate():
    search = optax.chain(optax.sgd(1.0), optax.scale_by_zoom_linesearch(40))
    path = run(coordinate_descent(search), quadratic, np.zeros(8), 160)
    values = [float(quadratic(x)) for x in path]
    assert (np.diff(values) <= 1e-9).all()
    np.testing.assert_allclose(path[-1], gauss_seidel(30)[-1], atol=1e-3)


def test_it_stops_at_a_kink_that_is_not_along_the_coordinates():
    # |x - y| is no sum over coordinates: each alone cannot lower 10 |x - y| + x + y here
    def f(x):
        return 10 * jnp.sqrt(1e-12 + (x[0] - x[1]) ** 2) + (x**2).sum()

    end = last(run(coordinate_descent(), f, np.ones(2), 20))
    np.testing.assert_allclose(end, 1.0, atol=1e-3)  # the minimum is at 0


def test_proximal_blocks_solve_the_lasso_too():
    def f(p):
        return jnp.square(A @ jnp.concatenate([p["x"], p["y"]]) - B).mean() / 2

    rate = 40 / np.linalg.eigvalsh(H)[-1]
    inner = optax.chain(
        optax.sgd(rate), proximal_l1(0.1, rate, mask=lambda p: jax.tree.map(lambda _: True, p))
    )
    found = last(
        run(
            coordinate_descent(inner, blocks="leaves"),
            f,
            {"x": np.zeros(4), "y": np.zeros(4)},
            3000,
        )
    )
    theirs = Lasso(0.1, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(A, B)
    np.testing.assert_allclose(np.concatenate([found["x"], found["y"]]), theirs.coef_, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_in_fewer_bits_it_is_the_same_up_to_rounding(dtype):
    def f(x):
        return quadratic(x.astype(float))

    found = run(coordinate_descent(l1=4.0), f, np.zeros(8, dtype), 64)
    assert found.dtype == dtype
    exact = run(coordinate_descent(l1=4.0), quadratic, np.zeros(8), 64)
    np.testing.assert_allclose(found.astype(float), exact, atol=8 * float(jnp.finfo(dtype).eps))


def test_complex_coordinates_are_two_real_ones():
    c = np.array([1 - 2j, 0.5 + 1j])

    def f(z):
        return (jnp.array([1.0, 3.0]) * jnp.abs(z - c) ** 2).sum()

    z = np.zeros(2, complex)
    tx = coordinate_descent(l1=0.6)
    state = tx.init(z)
    for _ in range(4):
        grad = jax.grad(f)(z)
        updates, state = tx.update(grad.conj(), state, z, grad=grad, value_fn=f)
        z = z + updates
    np.testing.assert_allclose(z, [0.7 - 1.7j, 0.4 + 0.9j], rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coordinate_descent(order="up"), r"coordinate_descent\(order=...\).*'up'"),
        (lambda: coordinate_descent(l1=-1.0), r"coordinate_descent\(l1=...\) must be >= 0"),
        (lambda: coordinate_descent(l1={"w": -1}), r"coordinate_descent\(l1=...\) must be >= 0"),
        (lambda: coordinate_descent(blocks="leaf"), r"coordinate_descent\(blocks=...\).*'leaf'"),
        (lambda: coordinate_descent(blocks="leaves"), r"\(blocks=...\) must be coordinates"),
        (lambda: coordinate_descent(optax.sgd(0.1), l1=1.0), r"\(l1=...\) must be 0 where"),
        (lambda: coordinate_descent().update(TRUE, None), r"update\(params=...\) must be given"),
        (
            lambda: coordinate_descent().update(TRUE, coordinate_descent().init(TRUE), TRUE),
            r"update\(value_fn=...\) must be given",
        ),
        (lambda: blockwise(optax.sgd(0.1), True).update(TRUE, None), r"update\(params=...\)"),
        (
            lambda: coordinate_descent(optax.sgd(0.1), blocks="leaves").update(TRUE, None),
            r"update\(params=...\)",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
