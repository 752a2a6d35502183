"""Keys for each example: a function of the example's key and of how many were drawn before."""

import jax
import numpy as np
import pytest
from flax import nnx

from fdl.models import draw


def data(keys):
    return np.asarray(jax.random.key_data(keys))


KEYS = jax.random.split(jax.random.key(0), 4)


def test_each_example_draws_from_its_own_key_and_never_the_same_twice():
    rngs = nnx.Rngs(KEYS)
    first, second = draw(rngs, "dropout"), draw(rngs, "dropout")
    assert first.shape == second.shape == (4,)
    assert len(np.unique(np.concatenate([data(KEYS), data(first), data(second)]), axis=0)) == 12
    alone = nnx.Rngs(KEYS[2:3])
    np.testing.assert_array_equal(data(draw(alone, "dropout")), data(first)[2:3])
    np.testing.assert_array_equal(data(draw(alone, "dropout")), data(second)[2:3])


def test_one_key_draws_what_flax_draws():
    np.testing.assert_array_equal(data(draw(nnx.Rngs(7), "noise")), data(nnx.Rngs(7).noise()))


def test_a_key_is_used_as_it_is_and_a_stream_is_found_by_name():
    np.testing.assert_array_equal(data(draw(KEYS, "any")), data(KEYS))
    rngs = nnx.Rngs(params=0, dropout=KEYS)
    assert draw(rngs, "dropout").shape == (4,)
    assert draw(rngs.dropout, "any").shape == (4,)


def test_no_rngs_is_said_plainly():
    with pytest.raises(ValueError, match="'dropout' is needed: call with rngs=nnx.Rngs"):
        draw(None, "dropout")
