"""The regressor of FitNets: the published shapes, and what it computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fdl.errors import InputError
from fdl.models import regressor
from fdl.pure import pure


@pytest.mark.parametrize(
    ("guided", "hint", "weights"),
    [
        ((7,), (5,), 7 * 5),
        ((6, 6, 3), (6, 6, 5), 3 * 5),
        ((8, 7, 3), (6, 5, 4), 3 * 3 * 3 * 4),
        ((9, 2), (4, 3), 6 * 2 * 3),
    ],
)
def test_the_sizes_meet_with_the_fewest_weights(guided, hint, weights):
    apply, params, extra = pure(regressor(guided, hint, rngs=nnx.Rngs(0)))
    x = jnp.ones((2, *guided))
    assert apply(params, extra, x)[0].shape == (2, *hint)
    assert params["kernel"].size == weights


def test_each_place_of_the_hint_sees_the_window_that_lies_on_it():
    apply, params, extra = pure(regressor((5, 5, 2), (3, 3, 1), rngs=nnx.Rngs(0)))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 5, 2)), jnp.float32)
    slope = jax.grad(lambda x: apply(params, extra, x)[0][0, 0, 2, 0])(x)
    seen = np.asarray(slope[0]).any(-1)
    expected = np.zeros((5, 5), bool)
    expected[0:3, 2:5] = True
    np.testing.assert_array_equal(seen, expected)


def test_shapes_that_cannot_meet_are_named():
    with pytest.raises(InputError, match=r"two shapes .* got \(4,\) and \(2, 2, 4\)"):
        regressor((4,), (2, 2, 4), rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match=r"no larger than the guided maps \(4, 4\), got \(5, 4\)"):
        regressor((4, 4, 2), (5, 4, 2), rngs=nnx.Rngs(0))
