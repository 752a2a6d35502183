"""Noise on units: its moments, none in use, an example's own key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fdl.models import GaussianNoise
from fdl.pure import pure

N = 20_000
KEYS = jax.random.split(jax.random.key(0), N)
X = np.tile([1.0, -3.0], (N, 1))


class Layer(nnx.Module):
    def __init__(self, **options):
        self.noise = GaussianNoise(0.5, **options)

    def __call__(self, x, *, rngs=None):
        return self.noise(x, rngs=rngs)


def noisy(key, x=X, **options):
    apply, params, extra = pure(Layer(**options))
    return np.asarray(jax.jit(lambda k, x: apply(params, extra, x, key=k, train=True)[0])(key, x))


@pytest.mark.parametrize("key", [KEYS, KEYS[0]], ids=["a key each", "one key"])
@pytest.mark.parametrize("multiplicative", [False, True])
def test_noise_has_mean_0_and_the_deviation_asked_for(key, multiplicative):
    z = noisy(key, multiplicative=multiplicative) - X
    scale = 0.5 * (np.array([1.0, 3.0]) if multiplicative else np.ones(2))
    np.testing.assert_allclose(z.mean(0) / scale, 0, atol=5 / np.sqrt(N))
    np.testing.assert_allclose(z.std(0), scale, rtol=5 / np.sqrt(2 * N))
    assert abs(np.corrcoef(z.T)[0, 1]) < 5 / np.sqrt(N)


def test_the_noise_of_an_example_depends_on_its_key_only():
    np.testing.assert_array_equal(noisy(KEYS[4:6], X[4:6]), noisy(KEYS[:8], X[:8])[4:6])


def test_in_use_nothing_is_added():
    apply, params, extra = pure(Layer())
    np.testing.assert_array_equal(apply(params, extra, X)[0], X)
    layer = GaussianNoise(0.0)
    np.testing.assert_array_equal(layer(X), X)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"GaussianNoise\(scale=...\) must be >= 0, got -1"):
        GaussianNoise(-1)
    with pytest.raises(ValueError, match="random stream 'noise' is needed"):
        GaussianNoise(0.1)(jnp.ones((2, 2)))
    with pytest.raises(ValueError, match=r"each of \(2,\) examples is needed, got \(3,\)"):
        GaussianNoise(0.1)(jnp.ones((2, 2)), rngs=nnx.Rngs(KEYS[:3]))
