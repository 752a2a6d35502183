import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from fdl import tree

RNG = np.random.default_rng(0)
REAL = {"w": RNG.normal(size=(3, 2)), "b": (RNG.normal(size=()), np.zeros((0, 4)))}
COMPLEX = {"c": RNG.normal(size=5) + 1j * RNG.normal(size=5), "w": RNG.normal(size=2)}
EMPTY = {"none": None, "list": []}


@pytest.mark.parametrize("a", [REAL, COMPLEX, EMPTY])
def test_inner_product_and_norms_are_those_of_the_vector(a):
    flat = np.concatenate([np.zeros(0), *map(np.ravel, jax.tree.leaves(a))])
    b = jax.tree.map(lambda x: 2 * x + 1, a)
    other = np.concatenate([np.zeros(0), *map(np.ravel, jax.tree.leaves(b))])
    np.testing.assert_allclose(tree.vdot(a, b), np.vdot(flat, other).real, rtol=1e-14)
    np.testing.assert_allclose(tree.norm(a), np.linalg.norm(flat), rtol=1e-14)
    parts = np.abs(np.concatenate([flat.real, flat.imag, [0.0]]))
    assert tree.max_abs(a) == parts.max()


def test_sums_of_halves_do_not_stop_growing():
    ones = {"w": jnp.ones(5000, jnp.bfloat16)}
    assert tree.vdot(ones, ones) == 5000
    assert tree.norm(ones).dtype == jnp.float32


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [((), "float32"), (("bfloat16",), "float32"), (("float16", "float64"), "float64")]
    + [
        (("complex64", "bfloat16"), "float32"),
        (("complex128",), "float64"),
        (("int32",), "float32"),
    ],
)
def test_type_is_the_widest_and_real(kinds, expected):
    leaves = [jnp.zeros(2, kind) for kind in kinds]
    assert tree.dtype(leaves) == expected
    assert tree.ravel(leaves)[0].dtype == expected


def test_ravel_of_real_trees_is_that_of_jax():
    vector, unravel = tree.ravel(REAL)
    np.testing.assert_array_equal(vector, ravel_pytree(REAL)[0])
    jax.tree.map(np.testing.assert_array_equal, unravel(vector), REAL)


@pytest.mark.parametrize("a", [COMPLEX, EMPTY, {"h": jnp.ones(3, jnp.bfloat16), "f": jnp.ones(())}])
def test_the_way_back_gives_values_and_types(a):
    vector, unravel = tree.ravel(a)
    back = unravel(vector)
    assert jax.tree.structure(back) == jax.tree.structure(a)
    for x, y in zip(jax.tree.leaves(back), jax.tree.leaves(a), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)
    np.testing.assert_allclose(tree.norm(a), np.linalg.norm(vector), rtol=1e-14)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_is_found(bad):
    assert tree.all_finite(REAL) and tree.all_finite(EMPTY)
    assert not tree.all_finite({**REAL, "c": np.array([0.0, bad])})


def test_gradient_of_the_squared_norm_is_twice_the_tree():
    grad = jax.jit(jax.grad(lambda a: tree.vdot(a, a)))(REAL)
    jax.tree.map(lambda g, a: np.testing.assert_allclose(g, 2 * a, rtol=1e-14), grad, REAL)
