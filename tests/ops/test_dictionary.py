import jax
import numpy as np
import pytest

from fdl import ops

RNG = np.random.default_rng(0)
X, Z = RNG.normal(size=(50, 6)), RNG.normal(size=(50, 4))
A, B = Z.T @ Z, X.T @ Z


def error(d):
    return np.square(X - Z @ np.asarray(d).T).sum()


def test_the_error_falls_atom_by_atom_to_the_least_under_the_constraint():
    d = ops.update_dictionary(np.eye(6, 4), A, B)
    update = jax.jit(ops.update_dictionary)
    errors = [error(np.eye(6, 4))]
    for _ in range(60):
        errors.append(error(d))
        d = update(d, A, B)
    d = np.asarray(d)
    assert (np.diff(errors) <= 1e-9).all()
    norms = np.linalg.norm(d, axis=0)
    assert (norms <= 1 + 1e-12).all()
    # optimal: no feasible move of an atom along the slope or, on the sphere, inwards only
    slope = d @ A - B
    inside = norms < 1 - 1e-9
    np.testing.assert_allclose(slope[:, inside], 0, atol=1e-6)
    along = slope - (slope * d).sum(0) * d
    np.testing.assert_allclose(along[:, ~inside], 0, atol=1e-6)
    assert ((slope * d).sum(0) <= 1e-6).all()


def test_small_atoms_are_the_least_squares_solution():
    x = 0.1 * X
    d = ops.update_dictionary(np.eye(6, 4), A, x.T @ Z, sweeps=200)
    np.testing.assert_allclose(d, np.linalg.lstsq(Z, x, rcond=None)[0].T, atol=1e-9)
    assert np.linalg.norm(d, axis=0).max() < 1


def test_an_atom_that_no_code_uses_stays():
    z = Z * np.array([1, 1, 0, 1])
    start = RNG.normal(size=(6, 4))
    d = ops.update_dictionary(start, z.T @ z, X.T @ z)
    np.testing.assert_array_equal(d[:, 2], start[:, 2])
    assert np.isfinite(d).all() and not np.allclose(d[:, 0], start[:, 0])


def test_what_is_wrong_is_said_in_one_line():
    with pytest.raises(ValueError, match=r"update_dictionary\(dictionary, squares, products\)"):
        ops.update_dictionary(np.eye(6, 4), A[:2], B)
    with pytest.raises(ValueError, match=r"update_dictionary\(sweeps=\.\.\.\) must be >= 0"):
        ops.update_dictionary(np.eye(6, 4), A, B, sweeps=-1)
