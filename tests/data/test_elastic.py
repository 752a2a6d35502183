"""Elastic deformation, seen by what it does to a ramp: the value is the place that is read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from fdl.data import random_elastic

KEYS = jax.random.split(jax.random.key(0), 300)
ROW, COLUMN = (jnp.asarray(a, float) for a in np.mgrid[:20, :24])


def shifts(amount, sigma):
    """Return u of many keys, (n, 2, H, W), from ramps, away from the border."""
    ramps = jnp.stack([ROW, COLUMN], -1)
    change = jax.jit(jax.vmap(lambda k: random_elastic(k, ramps, amount=amount, sigma=sigma)))
    return np.moveaxis(np.asarray(change(KEYS) - ramps[None]), -1, 1)[:, :, 3:-3, 3:-3]


def test_shifts_have_the_deviation_asked_for_and_no_mean():
    u = shifts(0.5, 2.0)
    np.testing.assert_allclose(u.std(0).mean(), 0.5, rtol=0.05)
    assert np.abs(u.mean(0)).max() < 5 * 0.5 / np.sqrt(300)
    assert abs(np.corrcoef(u[:, 0, 5, 5], u[:, 1, 5, 5])[0, 1]) < 4 / np.sqrt(300)


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_neighbours_move_alike_over_sigma(sigma):
    u = shifts(0.3, sigma)[:, 0]
    # two points of G_sigma * z at distance d correlate by exp(-d^2 / (4 sigma^2))
    for d in (1, 3):
        found = (u[:, :, d:] * u[:, :, :-d]).mean() / (u**2).mean()
        assert abs(found - np.exp(-(d**2) / (4 * sigma**2))) < 0.06


def test_pixels_are_read_where_scipy_reads_them():
    image = jax.random.uniform(jax.random.key(5), ROW.shape)
    stack = jnp.stack([ROW, COLUMN, image, jnp.ones_like(image)], -1)
    change = jax.jit(random_elastic, static_argnames="amount")
    moved = np.asarray(change(KEYS[0], stack, amount=0.7))
    places = np.moveaxis(moved[..., :2], -1, 0)
    expected = map_coordinates(np.asarray(image), places, order=1, mode="grid-constant")
    whole = moved[..., 3] > 1 - 1e-12  # where the ramps do not fade into the border
    assert whole.mean() > 0.7
    np.testing.assert_allclose(moved[..., 2][whole], expected[whole], atol=1e-9)


def test_no_amount_changes_nothing_and_nonsense_is_refused():
    image = jax.random.uniform(jax.random.key(5), (6, 7), jnp.bfloat16)
    still = jax.jit(lambda k, i: random_elastic(k, i, amount=0.0))(KEYS[0], image)
    assert still.dtype == jnp.bfloat16
    np.testing.assert_array_equal(still, image)
    with pytest.raises(ValueError, match=r"random_elastic\(amount=...\) must be >= 0, got -1"):
        random_elastic(KEYS[0], image, amount=-1)
    with pytest.raises(ValueError, match=r"random_elastic\(sigma=...\) must be > 0, got 0"):
        random_elastic(KEYS[0], image, amount=1.0, sigma=0)
    with pytest.raises(ValueError, match="must be floating point, got int64"):
        random_elastic(KEYS[0], jnp.ones((4, 4), int), amount=1.0)
