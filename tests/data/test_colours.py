"""Light and colours: what each change must leave as it was, and how far it goes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl.data import random_brightness, random_colour, random_contrast

KEYS = jax.random.split(jax.random.key(0), 400)
IMAGE = jax.random.uniform(jax.random.key(1), (4, 5, 3))


def many(change, image=IMAGE):
    return np.asarray(jax.jit(jax.vmap(lambda k: change(k, image)))(KEYS))


def test_brightness_moves_all_pixels_alike_and_evenly_often():
    moved = many(lambda k, i: random_brightness(k, i, amount=0.5)) - np.asarray(IMAGE)
    np.testing.assert_allclose(moved, moved[:, :1, :1, :1] + 0 * moved, atol=1e-12)
    each = moved[:, 0, 0, 0]
    assert np.abs(each).max() <= 0.5 and abs(each.mean()) < 4 * 0.5 / np.sqrt(3 * 400)
    np.testing.assert_allclose((each**2).mean(), 0.25 / 3, rtol=0.2)


def test_contrast_keeps_the_mean_and_multiplies_the_spread():
    found = many(lambda k, i: random_contrast(k, i, amount=1.0))
    np.testing.assert_allclose(found.mean((1, 2)), IMAGE.mean((0, 1))[None] + 0 * found[:, 0, 0])
    factor = found.std((1, 2)) / np.asarray(IMAGE).std((0, 1))
    np.testing.assert_allclose(factor, factor[:, :1] + 0 * factor)  # that of all channels
    log = np.log2(factor[:, 0])
    assert np.abs(log).max() <= 1 and abs(log.mean()) < 4 / np.sqrt(3 * 400)
    np.testing.assert_allclose((log**2).mean(), 1 / 3, rtol=0.2)


def test_grey_has_no_saturation_to_change_and_black_stays_black():
    grey = jnp.stack([IMAGE[..., 0]] * 3, -1)
    found = many(lambda k, i: random_colour(k, i, amount=0.5), grey)
    ratio = found / np.asarray(grey)
    np.testing.assert_allclose(ratio, ratio[:, :1, :1] + 0 * ratio)  # a factor for each channel
    assert np.abs(np.log(ratio)).max() <= np.log(1.5)
    assert np.ptp(ratio[:, 0, 0], axis=1).mean() > 0.1
    assert not many(lambda k, i: random_colour(k, i, amount=0.5), 0 * grey).any()


def test_without_light_on_the_channels_saturation_keeps_the_grey():
    luma = np.array([0.299, 0.587, 0.114])  # sums to 1
    found = many(lambda k, i: random_colour(k, i, amount=0.5))
    # divide the factors of the channels out: those of grey pixels, with the same keys
    ones = many(lambda k, i: random_colour(k, i, amount=0.5), jnp.ones_like(IMAGE))
    plain = found / ones
    np.testing.assert_allclose(plain @ luma, np.asarray(IMAGE) @ luma + 0 * plain[..., 0])
    off, before = plain - (plain @ luma)[..., None], np.asarray(IMAGE)
    before = before - (before @ luma)[..., None]
    factor = (off * before).sum((1, 2, 3)) / (before**2).sum()
    np.testing.assert_allclose(off, factor[:, None, None, None] * before, atol=1e-12)
    assert factor.min() < 0.75 and factor.max() > 1.35


@pytest.mark.parametrize("change", [random_brightness, random_contrast, random_colour])
def test_a_range_clips_no_amount_changes_nothing_and_dtypes_stay(change):
    found = many(lambda k, i: change(k, i, amount=2.0, data_range=(0.2, 0.7)))
    assert found.min() == 0.2 and found.max() == 0.7
    same = change(KEYS[0], IMAGE, amount=0.0)
    np.testing.assert_allclose(same, IMAGE, atol=1e-14)
    assert change(KEYS[0], IMAGE.astype(jnp.bfloat16), amount=0.1).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match=r"amount=...\) must be >= 0, got -1"):
        change(KEYS[0], IMAGE, amount=-1)
    with pytest.raises(ValueError, match="must be floating point, got uint8"):
        change(KEYS[0], jnp.ones((4, 4, 3), jnp.uint8), amount=0.1)


def test_colours_need_three_channels():
    with pytest.raises(ValueError, match=r"must be \(H, W, 3\), got \(4, 5\)"):
        random_colour(KEYS[0], IMAGE[..., 0], amount=0.1)
