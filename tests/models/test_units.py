"""Hidden layers with parameters: starting values, special cases and what they learn."""

import jax
import numpy as np
import pytest
from flax import nnx

from fdl import models, ops
from fdl.pure import pure

X = np.array([[-4.0, 4.0, 1.0], [2.0, -1.0, 0.5]], np.float32)


def test_prelu_starts_at_a_quarter_and_learns_one_slope_a_feature():
    module = models.PReLU(3)
    np.testing.assert_array_equal(module(X), [[-1, 4, 1], [2, -0.25, 0.5]])
    apply, params, extra = pure(module)
    gradient = jax.jit(jax.grad(lambda p: apply(p, extra, X)[0].sum()))(params)
    np.testing.assert_array_equal(gradient["alpha"], [-4, -1, 0])


def test_prelu_of_one_feature_shares_its_slope():
    np.testing.assert_array_equal(models.PReLU(1, alpha=0.5)(X), [[-2, 4, 1], [2, -0.5, 0.5]])


def test_maxout_with_a_piece_of_zeros_is_the_rectifier():
    layer = models.Maxout(3, 5, pieces=2, rngs=nnx.Rngs(0))
    kernel = np.array(layer.affine.kernel[...])
    kernel[:, 1::2] = 0
    layer.affine.kernel[...] = kernel
    np.testing.assert_allclose(layer(X), np.maximum(X @ kernel[:, ::2], 0), rtol=1e-5)


def test_maxout_and_dense_take_their_affine_map_from_outside():
    made = []

    def affine(features_in, features_out, *, rngs):
        made.append((features_in, features_out))
        return nnx.Linear(features_in, features_out, use_bias=False, rngs=rngs)

    for factory in (models.dense(ops.relu), models.maxout(pieces=4), models.prelu()):
        layer = nnx.eval_shape(lambda f=factory: f(3, 5, affine=affine, rngs=nnx.Rngs(0)))
        assert layer.affine.bias is None
    assert made == [(3, 5), (3, 20), (3, 5)]


def test_rbf_starts_with_the_width_and_the_examples_it_was_given():
    data = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    layer = nnx.jit(lambda: models.RBF(3, 20, sigma=0.7, data=data, rngs=nnx.Rngs(0)))()
    centres = np.asarray(layer.centres[...])
    assert not np.array_equal(centres, data)
    np.testing.assert_array_equal(centres[np.lexsort(centres.T)], data[np.lexsort(data.T)])
    squared = ((data[:, None] - centres[None]) ** 2).sum(-1)
    np.testing.assert_allclose(layer(data), np.exp(-squared / (2 * 0.7**2)), rtol=1e-4)


def test_rbf_layer_answers_to_examples_in_many_dimensions():
    # with a width of 1 the units would be e^-64 at typical distances, and dead
    data = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32)
    h = nnx.jit(lambda: models.RBF(64, 10, data=data, rngs=nnx.Rngs(0))(data))()
    assert 0.1 < np.median(h) < 0.9


@pytest.mark.parametrize("shape", [(4, 3), (9, 2), (9,)])
def test_rbf_refuses_data_that_do_not_fit(shape):
    with pytest.raises(ValueError, match=r"\(n, 3\) with n >= 5, got"):
        models.RBF(3, 5, data=np.ones(shape), rngs=nnx.Rngs(0))


def test_widths_and_pieces_must_be_positive():
    with pytest.raises(ValueError, match="sigma=...\\) must be > 0, got 0.0"):
        models.RBF(3, 5, sigma=0.0, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="pieces=...\\) must be >= 1, got 0"):
        models.Maxout(3, 5, pieces=0, rngs=nnx.Rngs(0))
