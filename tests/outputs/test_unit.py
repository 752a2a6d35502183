"""What all output units promise: fits, samples, extremes, shapes, precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import outputs

RNG = np.random.default_rng(0)
MIX = np.array([[1.0, 0.4], [0.0, 0.8]])
NUMBERS = RNG.normal(size=(41, 2)) @ MIX + np.array([3.0, -1.0])
TWO_HEAPS = np.where(RNG.random((200, 1)) < 0.3, -2.0, 3.0) + 0.5 * RNG.normal(size=(200, 2))
BITS = RNG.integers(2, size=(40, 2))
CLASSES = RNG.integers(4, size=40)
COUNTS = RNG.poisson(3.0, size=(40, 2))

CASES = {  # name -> unit, targets
    "linear_gaussian": (outputs.linear_gaussian(2), NUMBERS),
    "precision": (outputs.heteroscedastic(2), NUMBERS),
    "variance": (outputs.heteroscedastic(2, by="variance"), NUMBERS),
    "log_variance": (outputs.heteroscedastic(2, by="log_variance"), NUMBERS),
    "covariance": (outputs.full_covariance(2), NUMBERS),
    "full_precision": (outputs.full_covariance(2, by="precision"), NUMBERS),
    "laplace": (outputs.laplace(2), NUMBERS),
    "mixture": (outputs.mixture(2, 2), TWO_HEAPS),
    "bernoulli": (outputs.bernoulli(2), BITS),
    "multinoulli": (outputs.multinoulli(4), CLASSES),
    "poisson": (outputs.poisson(2), COUNTS),
}
each = pytest.mark.parametrize("name", CASES)


@functools.cache
def fitted(name):
    unit, y = CASES[name]
    return jax.jit(unit.fit)(jnp.asarray(y))


@each
def test_fit_is_where_the_likelihood_is_flat_and_highest(name):
    unit, y = CASES[name]
    raw = fitted(name)
    assert raw.shape == (unit.size,)

    @jax.jit
    @jax.vmap
    def loss_and_slope(raw):
        return jax.value_and_grad(lambda raw: unit.distribution(raw).nll(y).mean())(raw)

    near = 0.05 * RNG.normal(size=(64, unit.size))
    loss, slope = loss_and_slope(raw[None] + np.concatenate([np.zeros((1, unit.size)), near]))
    np.testing.assert_allclose(slope[0], 0, atol=1e-6)
    assert np.all(loss[1:] >= loss[0] - 1e-12)


def one_hot_or_same(name, y):
    return np.eye(4)[np.asarray(y)] if name == "multinoulli" else np.asarray(y, float)


@each
def test_samples_have_the_mean_variance_and_entropy_that_are_said(name):
    n, batch = 8000, 2
    unit, _ = CASES[name]
    raw = jnp.stack([fitted(name), fitted(name) + 0.3])

    @jax.jit
    def statistics(raw, key):
        d = unit.distribution(raw)
        y = d.sample(key, (n,))
        entropy = d.entropy() if hasattr(d, "entropy") else None
        return y, d.mean(), d.variance(), d.nll(y), entropy

    y, mean, variance, nll, entropy = statistics(raw, jax.random.key(1))
    assert y.shape[:2] == (n, batch) and nll.shape == (n, batch)
    y = one_hot_or_same(name, y)
    assert y.shape[1:] == mean.shape == variance.shape
    error = np.sqrt(variance / n)
    assert np.all(np.abs(y.mean(0) - mean) < 4 * error)
    square = (y - mean[None]) ** 2
    assert np.all(np.abs(square.mean(0) - variance) < 4 * square.std(0) / np.sqrt(n) + 1e-12)
    if entropy is not None:
        bound = 4 * np.asarray(nll).std(0) / np.sqrt(n) + 1e-12
        assert np.all(np.abs(nll.mean(0) - entropy) < bound)


@each
def test_extreme_raw_outputs_give_no_nan(name):
    unit, y = CASES[name]
    signs = np.array(np.meshgrid(*[[-1e4, 0.0, 1e4]] * min(unit.size, 5))).reshape(
        min(unit.size, 5), -1
    )
    raw = np.resize(signs.T, (3 ** min(unit.size, 5), unit.size))
    if unit.size > 5:  # all of them at once, and one by one
        rows = RNG.choice([-1e4, 0.0, 1e4], size=(100, unit.size))
        raw = np.concatenate([rows, 1e4 * np.eye(unit.size), -1e4 * np.eye(unit.size)])

    @jax.jit
    @jax.vmap
    def loss_and_slope(raw):
        return jax.value_and_grad(lambda raw: unit.distribution(raw).nll(y[0]))(raw)

    loss, slope = loss_and_slope(jnp.asarray(raw, jnp.float32))
    assert not np.isnan(loss).any() and not np.isnan(slope).any()
    if name != "poisson":  # whose rate of exp(1e4) no floating point holds
        assert np.isfinite(loss).all()


@each
def test_bfloat16_is_worked_out_in_float32(name):
    unit, y = CASES[name]
    raw = fitted(name).astype(jnp.bfloat16)

    def nll(raw):
        return unit.distribution(raw).nll(y[:3])

    nll = jax.jit(nll)
    assert nll(raw).dtype == jnp.float32
    np.testing.assert_array_equal(nll(raw), nll(raw.astype(jnp.float32)))


@each
def test_axes_in_front_are_targets_of_their_own(name):
    unit, y = CASES[name]
    batch = fitted(name)[None] + np.linspace(-0.5, 0.5, 3)[:, None]

    @jax.jit
    def both(raw):
        d = unit.distribution(raw)
        y_many = jnp.stack([jnp.asarray(y[:3]), jnp.asarray(y[3:6])])
        one_by_one = jax.vmap(jax.vmap(lambda r, y: unit.distribution(r).nll(y)), (None, 0))
        mode = jax.vmap(lambda r: unit.distribution(r).mode())(raw)
        return d.nll(y_many), one_by_one(raw, y_many), d.mode(), mode

    ours, single, mode, modes = both(batch)
    assert ours.shape == (2, 3)
    np.testing.assert_allclose(ours, single, rtol=1e-12)
    np.testing.assert_array_equal(mode, modes)


@each
def test_other_shapes_are_refused(name):
    unit, y = CASES[name]
    with pytest.raises(ValueError, match=rf"must have a last axis of {unit.size}, got \(3, 99\)"):
        unit.distribution(np.zeros((3, 99)))
    distribution = unit.distribution(np.zeros((3, unit.size)))
    with pytest.raises(ValueError, match=r"nll\(y\) must .*ends with"):
        distribution.nll(y[:4])
    with pytest.raises(ValueError, match=r"\.fit\(y\) must be .*shape \(n"):
        unit.fit(y[None])
    with pytest.raises(ValueError, match=r"\.fit\(y\) must be .*shape \(n"):
        unit.fit(y[:0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: outputs.linear_gaussian(0), r"linear_gaussian\(dimensions\) must be >= 1, got 0"),
        (lambda: outputs.laplace(1, floor=-1), r"laplace\(floor=...\) must be >= 0, got -1"),
        (lambda: outputs.heteroscedastic(1, by="scale"), r"heteroscedastic\(by=...\) must be"),
        (lambda: outputs.full_covariance(1, by="scale"), r"full_covariance\(by=...\) must be"),
        (lambda: outputs.mixture(1, 0), r"mixture\(components\) must be >= 1, got 0"),
        (lambda: outputs.multinoulli(0), r"multinoulli\(classes\) must be >= 1, got 0"),
        (lambda: outputs.fit_mixture(np.zeros(3), 2), r"fit_mixture\(y\) must be of shape"),
        (lambda: outputs.fit_mixture(np.zeros((3, 1)), 2, starts=0), r"must be >= 1 and >= 0"),
    ],
)
def test_options_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
