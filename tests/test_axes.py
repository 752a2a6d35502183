"""Collectives that are the identity without an axis, and those of JAX with one."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from fdl import axes

N = 4


def vmapped(f: Callable) -> Callable:
    return jax.vmap(f, axis_name="data")


def pmapped(f: Callable) -> Callable:
    return jax.pmap(f, "data", devices=jax.devices()[:N])


def sharded(f: Callable) -> Callable:
    mesh = Mesh(np.array(jax.devices()[:N]), ("data",), axis_types=(AxisType.Auto,))

    def of_row(x: jax.Array) -> jax.Array:  # the others hand over a row, shard_map a slice of rows
        return jnp.expand_dims(jnp.asarray(f(x[0])), 0)

    spec = P("data")
    return jax.jit(jax.shard_map(of_row, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))


@pytest.mark.devices
@pytest.mark.parametrize("mapped", [vmapped, pmapped, sharded])
def test_all_participants_get_what_numpy_gets(mapped: Callable) -> None:
    x = np.random.default_rng(0).standard_normal((N, 3))
    rows = (N, 1)
    mean = mapped(lambda x: axes.mean({"a": x}, "data")["a"])(x)
    np.testing.assert_allclose(mean, np.tile(x.mean(0), rows), rtol=1e-14)
    np.testing.assert_allclose(
        mapped(lambda x: axes.total(x, "data"))(x), np.tile(x.sum(0), rows), rtol=1e-13
    )
    np.testing.assert_array_equal(mapped(lambda x: axes.index("data") + 0 * x[0])(x), np.arange(N))
    np.testing.assert_array_equal(mapped(lambda x: axes.size("data") + 0 * x[0])(x), [N] * N)
    np.testing.assert_array_equal(mapped(lambda x: axes.bound("data") + 0 * x[0])(x), [1] * N)


@pytest.mark.parametrize("axis", [None, "data", "other"])
def test_an_axis_that_is_not_bound_changes_nothing(axis: str | None) -> None:
    """Nor under transformations, or a mapping that names another axis."""
    tree = {"a": jnp.arange(3.0)}

    def check(x: jax.Array) -> jax.Array:
        assert not axes.bound(axis) and axes.size(axis) == 1 and axes.index(axis) == 0
        assert axes.mean(tree, axis) is tree and axes.total(tree, axis) is tree
        return x

    check(jnp.ones(2))
    jax.jit(check)(jnp.ones(2))
    jax.vmap(check, axis_name="rows")(jnp.ones(2))
    jax.grad(lambda x: check(x).sum())(jnp.ones(2))


def test_size_is_a_python_number_that_shapes_can_use() -> None:
    shape = jax.vmap(lambda x: jnp.zeros(2 * axes.size("data")) + x, axis_name="data")(jnp.ones(N))
    assert shape.shape == (N, 2 * N)
    assert type(axes.size("data")) is int
