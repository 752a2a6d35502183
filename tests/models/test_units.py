"""Hidden layers with parameters: starting values, special cases and what they learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fdl import models, ops
from fdl.pure import pure

X = jnp.array([[-4.0, 4.0, 1.0], [2.0, -1.0, 0.5]], jnp.float32)


def test_prelu_starts_at_a_quarter_and_learns_one_slope_a_feature():
    module = models.PReLU(3)
    np.testing.assert_array_equal(module(X), [[-1, 4, 1], [2, -0.25, 0.5]])
    apply, params, extra = pure(module)
    gradient = jax.grad(lambda p: apply(p, extra, X)[0].sum())(params)
    np.testing.assert_array_equal(gradient["alpha"], [-4, -1, 0])


def test_prelu_of_one_feature_shares_its_slope():
    np.testing.assert_array_equal(models.PReLU(1, alpha=0.5)(X), [[-2, 4, 1], [2, -0.5, 0.5]])


def test_maxout_with_a_piece_of_zeros_is_the_rectifier():
    layer = models.Maxout(3, 5, pieces=2, rngs=nnx.Rngs(0))
    kernel = layer.affine.kernel[...].at[:, 1::2].set(0)
    layer.affine.kernel[...] = kernel
    np.testing.assert_allclose(layer(X), np.maximum(X @ kernel[:, ::2], 0), rtol=1e-5)


def test_maxout_and_dense_take_their_affine_map_from_outside():
    made = []

    def affine(features_in, features_out, *, rngs):
        made.append((features_in, features_out))
        return nnx.Linear(features_in, features_out, use_bias=False, rngs=rngs)

    for factory in (models.dense(ops.relu), models.maxout(pieces=4), models.prelu()):
        layer = factory(3, 5, affine=affine, rngs=nnx.Rngs(0))
        assert layer(X).shape == (2, 5) and layer.affine.bias is None
    assert made == [(3, 5), (3, 20), (3, 5)]


def test_rbf_starts_with_the_width_and_the_examples_it_was_given():
    data = jax.random.normal(jax.random.key(0), (20, 3), jnp.float32)
    layer = models.RBF(3, 20, sigma=0.7, data=data, rngs=nnx.Rngs(0))
    order = np.lexsort(np.asarray(layer.centres[...]).T)
    centres, data = np.asarray(layer.centres[...]), np.asarray(data)
    np.testing.assert_array_equal(centres[order], data[np.lexsort(data.T)])
    squared = ((data[:, None] - centres[None]) ** 2).sum(-1)
    np.testing.assert_allclose(layer(data), np.exp(-squared / (2 * 0.7**2)), rtol=1e-4)


def test_rbf_layer_answers_to_examples_in_many_dimensions():
    # with a width of 1 the units would be e^-64 at typical distances, and dead
    data = jax.random.normal(jax.random.key(0), (50, 64))
    h = models.RBF(64, 10, data=data, rngs=nnx.Rngs(0))(data)
    assert 0.1 < float(jnp.median(h)) < 0.9


@pytest.mark.parametrize("shape", [(4, 3), (9, 2), (9,)])
def test_rbf_refuses_data_that_do_not_fit(shape):
    with pytest.raises(ValueError, match=r"\(n, 3\) with n >= 5, got"):
        models.RBF(3, 5, data=jnp.ones(shape), rngs=nnx.Rngs(0))


def test_widths_and_pieces_must_be_positive():
    with pytest.raises(ValueError, match="sigma=...\\) must be > 0, got 0.0"):
        models.RBF(3, 5, sigma=0.0, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="pieces=...\\) must be >= 1, got 0"):
        models.Maxout(3, 5, pieces=0, rngs=nnx.Rngs(0))
