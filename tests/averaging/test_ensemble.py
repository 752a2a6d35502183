"""Members drawn and asked together are those drawn and asked alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.random import default_rng

from fdl import averaging, models
from fdl.pure import pure

pytestmark = pytest.mark.usefixtures("compile_quickly")


def build(key):
    return pure(models.MLP(models.MLPConfig(3, (4,), 2), rngs=nnx.Rngs(key)))


def test_members_are_drawn_and_predict_as_if_alone():
    keys = jax.random.split(jax.random.key(0), 3)
    params, extra = averaging.init_members(lambda key: build(key)[1:], keys)
    x = jnp.asarray(default_rng(0).normal(size=(5, 3)), jnp.float32)
    apply = build(keys[0]).apply
    together = averaging.predict_members(apply, params, extra, x)
    for j, key in enumerate(keys):
        alone = build(key)
        jax.tree.map(np.testing.assert_array_equal, averaging.member(params, j), alone.params)
        np.testing.assert_allclose(together[j], apply(alone.params, {}, x)[0], rtol=1e-6, atol=1e-6)
    assert abs(together[0] - together[1]).max() > 0.1


def test_a_stack_holds_its_members():
    trees = [{"a": np.full(2, i, np.float32), "b": (i,)} for i in range(3)]
    stacked = averaging.stack_members(trees)
    assert stacked["a"].shape == (3, 2) and stacked["a"].dtype == np.float32
    for i in (0, 1, 2, -1):
        jax.tree.map(np.testing.assert_array_equal, averaging.member(stacked, i), trees[i])


def test_rules_of_their_arguments():
    with pytest.raises(ValueError, match="must hold at least one tree, got none"):
        averaging.stack_members([])
    for index in (2, -3):  # jax would clamp it
        with pytest.raises(IndexError, match=rf"must be from -2 to 1, got {index}"):
            averaging.member({"w": jnp.zeros(2)}, index)
