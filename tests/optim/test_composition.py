"""Every transformation of fdl.optim inside every wrapper of optax: the objective must fall."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.optim.probes import at, objective, params_of, run, update
from tests.optim.registry import alone, every

pytestmark = pytest.mark.usefixtures("compile_quickly")

STEPS = 8
A, B = {"a": True, "b": False}, {"a": False, "b": True}


def descends(tx, params=None, steps=STEPS):
    params = params_of() if params is None else params
    end, state = run(tx, params, steps)
    assert jax.tree.structure(end) == jax.tree.structure(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(end))
    assert objective(end) < 0.95 * objective(params)
    return end, state


def same(found, expected):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12), found, expected
    )


@every
def test_wrappers_that_change_nothing_change_nothing(entry):
    """chain, named_chain, apply_if_finite and leaves of None."""
    plain, _ = at(alone(entry.name)(params_of()), STEPS)
    inside = optax.chain(optax.identity(), optax.apply_if_finite(entry.make(), 3))
    tx = optax.named_chain(("first", optax.identity()), ("ours", inside))
    end, state = descends(tx, params_of() | {"c": None})
    same({"a": end["a"], "b": end["b"]}, plain)
    assert set(state) == {"first", "ours"}


@every
def test_masked(entry):
    tx = optax.chain(optax.masked(entry.make(), A), optax.masked(optax.set_to_zero(), B))
    end, _ = descends(tx)
    same(end["b"], params_of()["b"])


@every
def test_partition_with_itself_and_with_another_transformation(entry):
    groups = {"x": entry.make(), "y": entry.make(), "theirs": optax.sgd(0.3)}
    labels = {"a": "x", "b": {"c": "y", "d": "theirs"}}
    end, _ = descends(optax.partition(groups, lambda p: labels))
    moved = jax.tree.map(lambda x, y: (x != y).any(), end, params_of())
    assert moved["a"] and moved["b"]["c"] and moved["b"]["d"]


@every
def test_flatten(entry):
    descends(optax.flatten(entry.make()))


@every
def test_multi_steps(entry):
    tx = optax.MultiSteps(entry.make(), 2)
    descends(optax.GradientTransformationExtraArgs(tx.init, tx.update), steps=2 * STEPS)


@every
def test_tuples_numbers_and_leaves_of_size_zero(entry):
    params = (jnp.asarray(2.0), {"weak": -1.0}, [jnp.zeros((0, 3)), jnp.ones((2, 0))])
    end, _ = descends(entry.make(), params)
    assert end[2][0].shape == (0, 3) and end[2][1].shape == (2, 0)
    descends(entry.make(), jnp.asarray(2.0))  # a number is a tree too


@every
def test_empty_tree(entry):
    tx = entry.make()
    for empty in ({}, [], {"a": None}):
        state = tx.init(empty)
        updates, after = tx.update(
            empty, state, empty, value=jnp.zeros(()), grad=empty, value_fn=objective
        )
        assert jax.tree.structure(updates) == jax.tree.structure(empty)
        assert jax.tree.structure(after) == jax.tree.structure(state)


@every
def test_map_params(entry):
    """`optax.tree.map_params` finds the parameters in a state without knowing it."""
    tx, params = entry.make(), params_of()
    state = tx.init(params)
    kept = optax.tree.map_params(tx, lambda leaf: leaf, state)
    assert jax.tree.structure(kept) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, kept, state)
    marked = optax.tree.map_params(
        tx, lambda leaf: "param", state, transform_non_params=lambda leaf: "other"
    )
    shapes = {leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim}
    for mark, leaf in zip(jax.tree.leaves(marked), jax.tree.leaves(state), strict=True):
        if mark == "other" and not entry.name.startswith("coordinate_descent"):
            assert leaf.shape not in shapes


@every
def test_a_gradient_that_is_not_finite_is_survived(entry):
    """Behind `apply_if_finite` one bad step is no step, and the next ones descend."""
    tx, params = optax.apply_if_finite(entry.make(), 3), params_of()

    def step(carry, factor):
        params, state, _ = update(tx, lambda p: factor * objective(p), *carry)
        return (params, state), params

    factors = jnp.ones(STEPS).at[0].set(jnp.nan)
    points = jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), factors)[1])(params)
    jax.tree.map(np.testing.assert_array_equal, at(points, 1), params)
    assert objective(at(points, STEPS)) < 0.95 * objective(params)
