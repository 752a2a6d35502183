"""Means of distributions against NumPy, and dropout's rules against all masks there are."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.random import default_rng

from fdl import averaging, models
from fdl.pure import pure

pytestmark = pytest.mark.usefixtures("compile_quickly")


def all_masks(d: int, keep: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the 2^d masks, and how likely each is."""
    masks = np.array(list(itertools.product([0.0, 1.0], repeat=d)))
    kept = masks.sum(1)
    return masks, keep**kept * (1 - keep) ** (d - kept)


def softmax_regression(d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = default_rng(d)
    return rng.normal(size=(5, d)), rng.normal(size=(d, 4)), rng.normal(size=4)


@pytest.mark.parametrize(("d", "keep"), [(3, 0.5), (10, 0.5), (7, 0.8)])
def test_weight_scaling_is_the_geometric_mean_over_all_masks_of_softmax_regression(d, keep):
    x, w, b = softmax_regression(d)
    masks, weights = all_masks(d, keep)
    logits = (x[None] * masks[:, None]) @ w / keep + b
    log_probs = jax.nn.log_softmax(logits)
    scaled = x @ w + b  # inverted dropout: scaled in training already
    expected = scaled - np.log(np.exp(scaled).sum(-1, keepdims=True))
    given = None if keep == 0.5 else jnp.asarray(weights)
    np.testing.assert_allclose(averaging.geometric_mean(log_probs, given), expected, atol=1e-12)
    # logits will do, and the arithmetic mean is another
    np.testing.assert_allclose(averaging.geometric_mean(logits, given), expected, atol=1e-12)
    assert abs(averaging.arithmetic_mean(log_probs, given) - expected).max() > 0.05


def test_means_are_those_of_the_probabilities():
    rng = default_rng(0)
    p = rng.dirichlet(np.ones(4), (6, 3))
    w = rng.uniform(size=6)
    arithmetic = np.average(p, axis=0, weights=w)
    geometric = np.exp(np.average(np.log(p), axis=0, weights=w))
    geometric /= geometric.sum(-1, keepdims=True)
    for mean, expected in [
        (averaging.arithmetic_mean, arithmetic),
        (averaging.geometric_mean, geometric),
    ]:
        found = mean(jnp.log(p), jnp.asarray(w))
        np.testing.assert_allclose(jnp.exp(found), expected, rtol=1e-12)
        np.testing.assert_allclose(mean(jnp.log(p), jnp.asarray(5 * w)), found, rtol=1e-12)
        equal = mean(jnp.log(p))
        np.testing.assert_allclose(equal, mean(jnp.log(p), jnp.ones(6)), rtol=1e-12)


def test_impossible_classes_and_far_logarithms():
    log_probs = jnp.log(jnp.array([[0.5, 0.5, 0.0], [0.25, 0.0, 0.75]]))
    mean = jnp.exp(averaging.arithmetic_mean(log_probs))
    np.testing.assert_allclose(mean, [0.375, 0.25, 0.375], rtol=1e-12)
    geometric = averaging.geometric_mean(log_probs)
    np.testing.assert_array_equal(geometric, [0, -np.inf, -np.inf])  # each excludes one
    alone = averaging.geometric_mean(log_probs, jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(jnp.exp(alone), [0.25, 0, 0.75], rtol=1e-12)
    far = averaging.arithmetic_mean(jnp.array([[-1000.0], [-1001.0]]))
    np.testing.assert_allclose(far, [-1000 + math.log((1 + math.exp(-1)) / 2)], rtol=1e-14)


def test_votes_are_counted():
    labels = default_rng(1).integers(0, 4, (7, 50))
    expected = [np.bincount(column, minlength=4).argmax() for column in labels.T]
    np.testing.assert_array_equal(averaging.majority_vote(jnp.asarray(labels), 4), expected)
    weights = np.array([5.0, 1, 1, 1, 1, 0, 0])
    expected = [np.bincount(c, weights, minlength=4).argmax() for c in labels.T]
    found = averaging.majority_vote(jnp.asarray(labels), 4, jnp.asarray(weights))
    np.testing.assert_array_equal(found, expected)


def test_monte_carlo_comes_nearer_with_the_root_of_its_masks():
    """And it comes to what the model predicts without dropout: for this one that is exact."""
    config = models.MLPConfig(6, (), 3, input_dropout=0.5)
    apply, params, extra = pure(models.MLP(config, rngs=nnx.Rngs(0)))
    x = jnp.asarray(default_rng(2).normal(size=(4, 6)), jnp.float32)
    scaled = jax.nn.log_softmax(apply(params, extra, x)[0])

    def predict(key):
        return jax.nn.log_softmax(apply(params, extra, x, key=key, train=True)[0])

    keys = jax.random.split(jax.random.key(1), (64, 256))
    drawn = jax.jit(jax.vmap(lambda k: averaging.monte_carlo(predict, k)))(keys)  # (64, 256, 4, 3)
    each = jax.vmap(averaging.geometric_mean)

    def error(n):
        return float(jnp.sqrt(jnp.square(each(drawn[:, :n]) - scaled[None]).mean()))

    assert 3.3 < error(16) / error(256) < 4.8
    everything = averaging.geometric_mean(drawn.reshape(-1, 4, 3))
    assert abs(everything - scaled).max() < 0.05 < abs(drawn[0] - scaled[None]).max()


def test_monte_carlo_in_parts_is_the_same():
    keys = jax.random.split(jax.random.key(0), 10)
    whole = averaging.monte_carlo(lambda k: jax.random.normal(k, (2,)), keys)
    parts = averaging.monte_carlo(lambda k: jax.random.normal(k, (2,)), keys, at_once=4)
    np.testing.assert_array_equal(whole, parts)
    np.testing.assert_array_equal(whole[3], jax.random.normal(keys[3], (2,)))


def test_rules_of_their_arguments():
    log_probs = jnp.zeros((3, 2))
    for mean in (averaging.arithmetic_mean, averaging.geometric_mean):
        with pytest.raises(ValueError, match=rf"{mean.__name__}\(weights=...\) must be of shape"):
            mean(log_probs, jnp.ones(2))
    with pytest.raises(ValueError, match=r"majority_vote\(weights=...\) must be of shape \(3,\)"):
        averaging.majority_vote(jnp.zeros((3, 1), int), 2, jnp.ones(4))
    with pytest.raises(ValueError, match=r"monte_carlo\(at_once=...\) must be >= 1, got 0"):
        averaging.monte_carlo(lambda key: key, jax.random.split(jax.random.key(0)), at_once=0)
