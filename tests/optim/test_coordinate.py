"""The minimum over one coordinate: SciPy's, closed forms at the kink, functions of all kinds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from fdl.optim import coordinate

FUNCTIONS = {
    "quadratic": lambda z: 3 * (z - 1.7) ** 2 + 1,
    "quartic": lambda z: (z + 2) ** 4,
    "cosh": lambda z: jnp.cosh(z - 1) + z / 3,
    "softplus": lambda z: jax.nn.softplus(5 * z) - z,
    "exponential": lambda z: jnp.exp(z) - 3 * z,
    "absolute of softened": lambda z: jnp.sqrt(1e-4 + (z - 0.5) ** 2),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_minimum_is_that_of_a_bracketing_search(name):
    f = FUNCTIONS[name]
    find = jax.jit(lambda z, strength: coordinate.minimise(f, z, jax.grad(f)(z), strength))
    for strength in (0.0, 0.3, 2.0):

        def total(z, strength=strength):
            return float(f(jnp.asarray(z)) + strength * abs(z))

        best = scipy.optimize.minimize_scalar(total, (-6, 6), tol=1e-12, method="golden")
        for start in (-3.0, 0.0, 4.0):
            found = float(find(jnp.asarray(start), jnp.asarray(strength)))
            limit = best.fun + 1e-9 * (1 + abs(best.fun))
            assert total(found) <= limit, (strength, start, found)


@pytest.mark.slow
def test_at_the_kink_the_coordinate_is_exactly_zero():
    # |J'(0)| <= l1 is the condition for it
    for name, f in FUNCTIONS.items():
        slope = float(jnp.abs(jax.grad(f)(0.0)))
        for start in (-3.0, 0.0, 4.0):
            z, g = jnp.asarray(start), jax.grad(f)(start)
            assert coordinate.minimise(f, z, g, jnp.asarray(1.01 * slope + 1e-6)) == 0, name
            assert coordinate.minimise(f, z, g, jnp.asarray(0.97 * slope - 1e-3)) != 0, name


def test_a_quadratic_function_takes_two_looks():
    seen = []

    def f(z):
        jax.debug.callback(lambda z: seen.append(float(z)), z)
        return 3 * (z - 1.7) ** 2

    jax.block_until_ready(coordinate.minimise(f, jnp.asarray(5.0), 0.0, jnp.asarray(0.6)))
    jax.effects_barrier()
    visited = list(dict.fromkeys(seen))
    np.testing.assert_allclose(visited[:2], [5.0, 1.6], rtol=1e-14)
    assert len(visited) <= 3


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_value_never_rises(dtype):
    def wild(z):  # many minima, NaN below -2
        return jnp.sin(5 * z) + 0.05 * z**2 - 0.1 * jnp.log(z + 2)

    starts = jnp.asarray(np.random.default_rng(0).uniform(-1.99, 8, 300), dtype)
    lasso = jnp.asarray(0.1, dtype)
    ends = jax.jit(jax.vmap(lambda z: coordinate.minimise(wild, z, jax.grad(wild)(z), lasso)))(
        starts
    )
    assert ends.dtype == dtype and np.isfinite(ends).all()
    before, after = (jax.vmap(wild)(z) + 0.1 * jnp.abs(z) for z in (starts, ends))
    eps = np.finfo(dtype).eps
    assert (after <= before + 16 * eps * (1 + np.abs(before))).all()
    # and nearly all end where the derivative is zero (or at the kink)
    slope = jnp.abs(coordinate.smallest_subgradient(ends, jax.vmap(jax.grad(wild))(ends), 0.1))
    assert np.mean(np.asarray(slope) < 1e3 * np.sqrt(eps)) > 0.97


@pytest.mark.slow
def test_starts_side_by_side_end_as_each_alone():
    f = FUNCTIONS["cosh"]
    starts = jnp.linspace(-4.0, 5.0, 9)

    def find(z):
        return coordinate.minimise(f, z, jax.grad(f)(z), jnp.asarray(0.2))

    np.testing.assert_allclose(jax.vmap(find)(starts), [find(z) for z in starts], rtol=1e-14)


def test_what_has_no_value_stays_where_it_is():
    for f in (lambda z: z * jnp.nan, lambda z: jnp.log(-1.0 - z**2)):
        assert coordinate.minimise(f, jnp.asarray(1.5), 0.0, jnp.asarray(0.1)) == 1.5


def test_subgradient_of_smallest_norm_is_found_by_search():
    rng = np.random.default_rng(0)
    x, g, strength = rng.integers(-1, 2, 50), rng.standard_normal(50), rng.uniform(0, 2, 50)
    found = coordinate.smallest_subgradient(jnp.asarray(x), jnp.asarray(g), jnp.asarray(strength))
    for i in range(50):
        signs = np.linspace(-1, 1, 20001) if x[i] == 0 else np.array([np.sign(x[i])])
        elements = g[i] + strength[i] * signs
        nearest = elements[np.abs(elements).argmin()]
        assert float(found[i]) == pytest.approx(nearest, abs=2e-4)


def test_strengths_are_laid_out_as_the_parameters_are():
    params = {"w": jnp.ones((2, 2)), "b": {"c": jnp.ones(1, complex), "d": None}, "e": jnp.ones(())}
    found = coordinate.strengths({"w": 1.0, "b": 2.0, "e": 3.0}, params)
    np.testing.assert_array_equal(found, [2, 2, 3, 1, 1, 1, 1])
    np.testing.assert_array_equal(coordinate.strengths(0.5, params), 0.5 * np.ones(7))
