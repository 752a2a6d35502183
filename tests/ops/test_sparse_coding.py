"""Sparse codes against scikit-learn's, the conditions of optimality and the theorems of FISTA."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import ops

FOLDER = Path(__file__).parents[1] / "fixtures" / "sparse_coding"
FIXTURE = np.load(FOLDER / "data.npz")
L1 = json.loads((FOLDER / "config.json").read_text())["config"]["alpha"]
X, D = FIXTURE["X"], FIXTURE["D_rows_are_atoms"].T
BEST = FIXTURE["codes_fista20000"]
METHODS = {"ista": ops.ista, "fista": ops.fista}
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}


def path(method, steps, start=None, dictionary=D):
    return ops.proximal_path(
        lambda z: ops.correlate_sparse(ops.decode_sparse(z, dictionary) - X, dictionary),
        jnp.zeros(BEST.shape) if start is None else start,
        lipschitz=ops.sparse_lipschitz(dictionary),
        l1=L1,
        steps=steps,
        accelerate=method == "fista",
    )


def objective(z, x=X):
    return ops.sparse_objective(x, z, D, L1)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("method", METHODS)
def test_steps_are_those_of_the_fixture(method, dtype):
    expected = FIXTURE[f"{method}20_objective"]
    x, dictionary = X.astype(dtype), D.astype(dtype)
    with jax.default_matmul_precision("highest"):
        z = METHODS[method](x, dictionary, L1, steps=len(expected))
        np.testing.assert_allclose(ops.sparse_lipschitz(dictionary), FIXTURE["L"], rtol=1e-5)
    assert z.dtype == dtype
    np.testing.assert_allclose(z, FIXTURE[f"{method}20"], **TOLERANCE[dtype])
    if dtype == "float64":
        along = jax.vmap(objective)(path(method, len(expected)))
        np.testing.assert_allclose(along, expected, rtol=1e-9)


def test_five_steps_are_those_of_the_fixture():
    np.testing.assert_allclose(ops.ista(X, D, L1, steps=5), FIXTURE["ista5"], rtol=1e-9, atol=1e-12)


def test_both_come_as_near_to_the_optimum_as_their_theorems_say():
    steps = np.arange(1, 201)
    start = jnp.asarray(np.random.default_rng(0).normal(size=BEST.shape))
    apart = np.square(start - BEST).sum(1)
    lipschitz = float(ops.sparse_lipschitz(D))
    bounds = {
        "ista": lipschitz * apart / (2 * steps[:, None]),
        "fista": 2 * lipschitz * apart / (steps[:, None] + 1) ** 2,
    }
    for method, bound in bounds.items():
        above = np.asarray(jax.vmap(objective)(path(method, 200, start)) - objective(BEST)[None])
        assert (above <= bound).all()
        assert (above > -1e-9).all()
        if method == "ista":
            assert (np.diff(above, axis=0) <= 1e-12).all()  # and it never rises


def solvers():
    yield "fista", ops.fista(X, D, L1, steps=100_000, tolerance=1e-13)
    for rule in ("cyclic", "greedy"):
        yield rule, ops.coordinate_descent(X, D, L1, sweeps=2000, rule=rule, tolerance=1e-11)


def test_all_solvers_meet_the_conditions_of_optimality_and_scikit_learn():
    for name, z in solvers():
        assert ops.kkt_residual(X, z, D, L1).max() < 1e-6, name
        np.testing.assert_allclose(z, FIXTURE["codes_lasso_lars"], atol=1e-6, err_msg=name)
        np.testing.assert_allclose(objective(z), objective(BEST), rtol=1e-10, err_msg=name)
        zeros = np.abs(FIXTURE["codes_lasso_lars"]) < 1e-9
        assert np.asarray(z == 0)[zeros].mean() > 0.99, name  # exactly


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_several_strengths_at_once_are_each_by_itself(dtype):
    x, dictionary, strengths = X.astype(dtype), D.astype(dtype), np.array([0, 0.1, 0.5], dtype)

    def solve(l1):
        greedy = ops.coordinate_descent(x, dictionary, l1, sweeps=3, rule="greedy")
        return [method(x, dictionary, l1, steps=5) for method in METHODS.values()] + [greedy]

    together = jax.jit(jax.vmap(solve))(strengths)
    alone = [solve(float(l1)) for l1 in strengths]
    for found, expected in zip(together, zip(*alone, strict=True), strict=True):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, np.stack(expected), **TOLERANCE[dtype])


def test_learning_the_dictionary_in_turns_with_the_codes_is_what_scikit_learn_does():
    dictionary, z, found = jnp.asarray(D), jnp.zeros(BEST.shape), []
    for _ in FIXTURE["dict_learning_errors"]:
        z = ops.coordinate_descent(X, dictionary, L1, sweeps=5000, tolerance=1e-10, start=z)
        if not (z != 0).any(0).all():
            break  # an atom that no code uses is drawn anew there
        dictionary = ops.update_dictionary(dictionary, z.T @ z, X.T @ z)
        found.append(ops.sparse_objective(X, z, dictionary, L1).sum())
    assert len(found) > 1
    # scikit-learn ends its own coordinate descent earlier
    np.testing.assert_allclose(found, FIXTURE["dict_learning_errors"][: len(found)], rtol=1e-4)


def test_the_residual_is_the_least_subgradient():
    z = np.array(BEST)
    z[:, 0] += 0.3
    slope = jax.grad(lambda z: 0.5 * jnp.square(X - z @ D.T).sum())(jnp.asarray(z))
    expected = np.where(
        z != 0, np.abs(slope + L1 * np.sign(z)), np.maximum(np.abs(slope) - L1, 0)
    ).max(1)
    np.testing.assert_allclose(ops.kkt_residual(X, z, D, L1), expected, rtol=1e-9)
    assert expected.min() > 1e-3


@pytest.mark.parametrize("method", [*METHODS, "cyclic", "greedy"])
def test_a_strong_penalty_leaves_nothing_and_a_weaker_one_something(method):
    largest = float(np.abs(X @ D).max())

    def solve(l1):
        if method in METHODS:
            return METHODS[method](X, D, l1, steps=50)
        return ops.coordinate_descent(X, D, l1, sweeps=5, rule=method)

    assert (solve(largest) == 0).all()
    assert (solve(0.99 * largest) != 0).sum() >= 1


@pytest.mark.parametrize("method", METHODS)
def test_an_orthonormal_dictionary_is_solved_by_one_threshold(method):
    q = np.linalg.qr(np.random.default_rng(1).normal(size=(X.shape[1],) * 2))[0]
    z = METHODS[method](X, q, L1, steps=1)
    np.testing.assert_allclose(z, ops.soft_shrink(X @ q, L1), atol=1e-12)


def test_a_start_at_the_optimum_stays_and_a_wrong_one_is_refused():
    np.testing.assert_allclose(ops.fista(X, D, L1, steps=3, start=BEST), BEST, atol=1e-9)
    with pytest.raises(ValueError, match=r"start=.* must have the shape of the codes"):
        ops.fista(X, D, L1, steps=3, start=BEST[:1])


def test_an_example_rests_by_itself_whatever_its_batch_does():
    together = ops.fista(X, D, L1, steps=5000, tolerance=1e-4)
    alone = [ops.fista(X[i : i + 1], D, L1, steps=5000, tolerance=1e-4)[0] for i in range(2)]
    np.testing.assert_allclose(together[:2], alone, atol=1e-13)
    assert ops.kkt_residual(X, together, D, L1).max() > 1e-9  # it did stop early
    together = ops.coordinate_descent(X, D, L1, sweeps=500, tolerance=1e-3)
    alone = ops.coordinate_descent(X[:1], D, L1, sweeps=500, tolerance=1e-3)
    np.testing.assert_allclose(together[:1], alone, atol=1e-13)
    assert 1e-6 < ops.kkt_residual(X, together, D, L1).max() <= 1e-3


def test_the_gradient_of_the_optimum_is_the_partial_derivative_at_it():
    """Envelope theorem: against finite differences of the minimum itself."""

    def least(dictionary):
        z = ops.fista(X, dictionary, L1, steps=3000)
        return ops.sparse_objective(X, z, dictionary, L1).sum()

    move = np.random.default_rng(2).normal(size=D.shape)
    slope = (jax.grad(least)(jnp.asarray(D)) * move).sum()
    h = 1e-5
    difference = (least(D + h * move) - least(D - h * move)) / (2 * h)
    np.testing.assert_allclose(slope, difference, rtol=1e-6)


def test_an_atom_of_zeros_gets_code_zero():
    dictionary = np.concatenate([D, np.zeros((len(D), 1))], 1)
    for z in (
        ops.coordinate_descent(X, dictionary, L1, sweeps=2000, tolerance=1e-10),
        ops.fista(X, dictionary, L1, steps=20_000, tolerance=1e-13),
    ):
        assert (z[:, -1] == 0).all()
        np.testing.assert_allclose(z[:, :-1], BEST, atol=1e-6)
    assert np.isfinite(ops.fista(X, 0 * D, L1, steps=3)).all()


# --- convolutional dictionaries ------------------------------------------------------------------


def convolutional(spatial, window, codes=3, channels=2):
    """Draw filters and the matrix that they are: columns are decoded unit codes."""
    rng = np.random.default_rng(3)
    filters = jnp.asarray(rng.normal(size=(*window, codes, channels)))
    maps = (*(n - k + 1 for n, k in zip(spatial, window, strict=True)), codes)
    units = jnp.eye(int(np.prod(maps))).reshape(-1, *maps)
    matrix = ops.decode_sparse(units, filters).reshape(len(units), -1).T
    x = jnp.asarray(rng.normal(size=(2, *spatial, channels)))
    return x, filters, matrix


@pytest.mark.parametrize(("spatial", "window"), [((7,), (3,)), ((5, 6), (3, 2))])
def test_filters_code_as_the_matrix_that_they_are(spatial, window):
    x, filters, matrix = convolutional(spatial, window)
    flat = x.reshape(2, -1)
    z, dense = ops.fista(x, filters, 1.0, steps=3000), ops.fista(flat, matrix, 1.0, steps=3000)
    np.testing.assert_allclose(z.reshape(2, -1), dense, atol=1e-6)
    assert 0.1 < (z == 0).mean() < 0.9
    assert ops.kkt_residual(x, z, filters, 1.0).max() < 1e-6
    np.testing.assert_allclose(
        ops.correlate_sparse(x, filters).reshape(2, -1), flat @ matrix, atol=1e-12
    )
    exact = float(ops.sparse_lipschitz(matrix))
    assert exact <= float(ops.sparse_lipschitz(filters, spatial)) <= 1.7 * exact


def test_the_bound_of_filters_is_exact_on_a_circle():
    rng = np.random.default_rng(4)
    filters = rng.normal(size=(3, 2, 1))
    columns = [
        np.roll(np.pad(filters[:, k, 0], (0, 5)), shift) for k in range(2) for shift in range(8)
    ]
    exact = np.linalg.eigvalsh(np.stack(columns) @ np.stack(columns).T).max()
    np.testing.assert_allclose(ops.sparse_lipschitz(filters, (8,)), exact, rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.ista(X, D, -1.0, steps=1), r"ista\(l1=\.\.\.\) must be >= 0, got -1"),
        (lambda: ops.fista(X, D, 1.0, steps=-1), r"fista\(steps=\.\.\.\) must be >= 0, got -1"),
        (
            lambda: ops.fista(X, D, 1.0, steps=1, tolerance=-1.0),
            r"fista\(tolerance=\.\.\.\) must be >= 0",
        ),
        (lambda: ops.fista(X, D.T, 1.0, steps=1), r"correlate_sparse\(x, dictionary\)"),
        (lambda: ops.decode_sparse(X, D), r"decode_sparse\(z, dictionary\)"),
        (lambda: ops.sparse_lipschitz(np.ones((3, 2, 1))), r"sparse_lipschitz\(shape=\.\.\.\)"),
        (
            lambda: ops.coordinate_descent(X, D, 1.0, sweeps=1, rule="random"),
            r"coordinate_descent\(rule=\.\.\.\) must be cyclic or greedy, got 'random'",
        ),
        (lambda: ops.coordinate_descent(X, D, 1.0, sweeps=-1), r"sweeps=\.\.\.\) must be >= 0"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(call, message):
    with pytest.raises(ValueError, match=message):
        call()
