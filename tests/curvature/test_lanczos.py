"""Lanczos' basis, ends and density of a spectrum: against eigh and densities written out."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import curvature, tree

EPS = {"float64": 1e-12, "float32": 2e-5}


def symmetric(values, dtype="float64", seed=0):
    """A dense symmetric matrix of these eigenvalues."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))
    return jnp.asarray(q * np.asarray(values) @ q.T, dtype)


def start(n, dtype="float64", seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=n), dtype)


@partial(jax.jit, static_argnums=2)
def run(a, v, steps):
    return curvature.lanczos(lambda u: a @ u, v, steps)


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("steps", [1, 7, 20, 50])
def test_recurrence_and_orthogonality(dtype, steps):
    a = symmetric(np.geomspace(1e-3, 10, 20), dtype)
    found = run(a, start(20, dtype), steps)
    rows = min(steps, 20)
    v, t = np.asarray(found.basis), np.asarray(curvature.tridiagonal(found))
    assert v.shape == (rows, 20) and v.dtype == dtype
    np.testing.assert_allclose(v @ v.T, np.eye(rows), atol=EPS[dtype])
    np.testing.assert_allclose(v @ np.asarray(a) @ v.T, t, atol=10 * EPS[dtype])
    left = np.asarray(a) @ v.T - v.T @ t  # only the last column is not 0
    np.testing.assert_allclose(left[:, :-1], 0, atol=10 * EPS[dtype])
    np.testing.assert_allclose(np.linalg.norm(left[:, -1]), found.betas[-1], atol=10 * EPS[dtype])


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize(
    "values",
    [np.arange(12.0), [3.0] * 12, [0.0] * 12, [-1.0] * 6 + [2.0] * 6, np.geomspace(1, 1e8, 12)],
    ids=["simple", "identity", "zero", "two", "steep"],
)
def test_all_eigenvalues_even_multiple_ones(values, dtype):
    a = symmetric(values, dtype)
    found = jnp.linalg.eigvalsh(curvature.tridiagonal(run(a, start(12, dtype), 12)))
    scale = max(1.0, np.max(np.abs(values)))
    np.testing.assert_allclose(found, np.sort(values), atol=20 * EPS[dtype] * scale)


def test_a_start_in_an_invariant_subspace_breaks_nothing():
    a = jnp.diag(jnp.array([1.0, 2.0, 3.0, 4.0]))
    v = jnp.array([1.0, 1.0, 0.0, 0.0])
    found = run(a, v, 4)
    assert found.betas[1] == 0  # the space of v has two dimensions
    np.testing.assert_allclose(found.basis @ found.basis.T, np.eye(4), atol=1e-13)
    ritz = jnp.linalg.eigvalsh(curvature.tridiagonal(found))
    np.testing.assert_allclose(ritz, [1.0, 2.0, 3.0, 4.0], atol=1e-13)
    assert jnp.isfinite(run(a, jnp.zeros(4), 4).basis).all()


@pytest.mark.slow
def test_trees_and_types():
    a = symmetric(np.arange(1.0, 7.0), "float32")
    v = {"w": jnp.ones((2, 2), jnp.bfloat16), "b": (jnp.ones(2), None)}
    _, unravel = tree.ravel(v)
    found = curvature.lanczos(lambda u: unravel(a @ tree.ravel(u)[0]), v, 6)
    assert found.basis.shape == (6, 6)
    exact = {"w": jnp.ones((2, 2)), "b": (jnp.ones(2), None)}
    _, unravel = tree.ravel(exact)
    pairs = curvature.extreme_eigenpairs(lambda u: unravel(a @ tree.ravel(u)[0]), exact, k=2)
    np.testing.assert_allclose(pairs.values, [1, 2, 5, 6], rtol=1e-5)
    assert pairs.vectors["w"].shape == (4, 2, 2)
    flat = jax.vmap(lambda u: tree.ravel(u)[0])(pairs.vectors)
    np.testing.assert_allclose(flat @ a, pairs.values[:, None] * flat, atol=1e-5)


def test_ends_of_a_large_spectrum_by_few_products():
    values = np.concatenate([np.linspace(0, 1, 196), [-7.0, -5.0, 6.0, 9.0]])
    a = symmetric(values)
    found = jax.jit(lambda v: curvature.extreme_eigenpairs(lambda u: a @ u, v, k=2, steps=25))(
        start(200)
    )
    np.testing.assert_allclose(found.values, [-7, -5, 6, 9], rtol=1e-10)
    np.testing.assert_array_less(found.residuals, 1e-4)
    errors = jnp.linalg.norm(found.vectors @ a - found.values[:, None] * found.vectors, axis=1)
    np.testing.assert_allclose(errors, found.residuals, atol=1e-9)


@pytest.mark.parametrize("dtype", EPS)
def test_power_iteration(dtype):
    a = symmetric([-8.0, 1.0, 2.0, 5.0], dtype)
    found = jax.jit(lambda v: curvature.power_iteration(lambda u: a @ u, v, rtol=1e-4))(
        start(4, dtype)
    )
    np.testing.assert_allclose(found.value, -8, rtol=1e-6)
    np.testing.assert_allclose(tree.norm(found.vector), 1, rtol=1e-5)
    error = jnp.linalg.norm(a @ found.vector - found.value * found.vector)
    np.testing.assert_allclose(error, found.residual, atol=1e-5)
    assert error <= 1e-3 and 5 < found.steps < 40  # |second / first| = 5/8
    few = curvature.power_iteration(lambda u: a @ u, start(4, dtype), max_steps=3)
    assert few.steps == 3
    halves = curvature.power_iteration(lambda u: 2 * u, jnp.ones(3, dtype))
    assert halves.steps == 1 and abs(halves.value - 2) < 1e-5


def test_density_is_the_smoothed_histogram():
    values = np.concatenate([np.linspace(-1, 1, 150), np.linspace(4, 5, 50)])
    a = symmetric(values)
    found = jax.jit(
        lambda key: curvature.lanczos_spectrum_density(
            lambda u: a @ u, jnp.zeros(200), key, steps=60, samples=40, width=0.05
        )
    )(jax.random.key(0))
    grid, density = np.asarray(found.grid), np.asarray(found.density)
    assert (density >= 0).all()
    np.testing.assert_allclose(np.trapezoid(density, grid), 1, rtol=1e-5)
    sigma = 0.05 * 6.0
    away = (grid[:, None] - values) / sigma
    exact = np.exp(-0.5 * away**2).mean(1) / (sigma * np.sqrt(2 * np.pi))
    assert np.abs(density - exact).max() < 0.05 * exact.max()
    assert np.trapezoid(np.abs(density - exact), grid) < 0.04  # of 2
    # moments: mean eigenvalue = trace / n
    np.testing.assert_allclose(np.trapezoid(grid * density, grid), values.mean(), atol=0.1)


def test_density_with_all_vectors_is_exact():
    # one sample in one dimension has weight 1 on the only eigenvalue
    found = curvature.lanczos_spectrum_density(lambda u: 3.0 * u, jnp.zeros(1), jax.random.key(0))
    np.testing.assert_allclose(np.trapezoid(found.density, found.grid), 1, rtol=1e-5)
    np.testing.assert_allclose(np.trapezoid(found.grid * found.density, found.grid), 3, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda op, v: curvature.lanczos(op, v, 0), r"lanczos\(steps=...\) must be >= 1, got 0"),
        (lambda op, v: curvature.lanczos(op, {}, 3), r"lanczos\(v=...\) must hold"),
        (lambda op, v: curvature.extreme_eigenpairs(op, v, k=0), r"\(k=...\) must be >= 1, got 0"),
        (lambda op, v: curvature.extreme_eigenpairs(op, v, k=2, steps=3), r"must be >= 2 k = 4"),
        (lambda op, v: curvature.power_iteration(op, v, max_steps=0), r"\(max_steps=...\)"),
        (
            lambda op, v: curvature.lanczos_spectrum_density(op, v, jax.random.key(0), samples=0),
            r"\(samples=...\) must be >= 1, got 0",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(lambda u: u, jnp.ones(5))
