"""Mirrors, crops and holes: against slices of NumPy, and in their frequencies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl.data import cutout, random_crop, random_flip

KEYS = jax.random.split(jax.random.key(0), 500)
IMAGE = np.arange(1.0, 21.0).reshape(4, 5)


def many(change, image=IMAGE):
    return np.asarray(jax.jit(jax.vmap(lambda k: change(k, image)))(KEYS))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_flip_is_that_of_numpy_and_as_frequent_as_asked(axis):
    found = many(lambda k, i: random_flip(k, i, axis=axis, probability=0.3))
    mirrored = (found == np.flip(IMAGE, axis)).all((1, 2))
    assert ((found == IMAGE).all((1, 2)) ^ mirrored).all()
    assert abs(mirrored.mean() - 0.3) < 4 * np.sqrt(0.21 / 500)


def test_a_crop_is_a_slice_of_the_padded_image_and_all_are_equally_likely():
    found = many(lambda k, i: random_crop(k, i, padding=1))
    padded = np.pad(IMAGE, 1)
    slices = [padded[r : r + 4, c : c + 5] for r in range(3) for c in range(3)]
    which = np.array([[(f == s).all() for s in slices] for f in found])
    assert (which.sum(1) == 1).all()
    assert np.abs(which.mean(0) - 1 / 9).max() < 4 * np.sqrt(8 / 81 / 500)


def test_a_hole_is_a_square_that_may_stick_out():
    found = many(lambda k, i: cutout(k, i, size=3, fill=-1.0))
    gone = found == -1
    assert (np.where(gone, IMAGE, found) == IMAGE).all()
    rows, columns = gone.any(2).sum(1), gone.any(1).sum(1)
    assert (gone.sum((1, 2)) == rows * columns).all()  # a rectangle
    assert set(rows) == {2, 3} and set(columns) == {2, 3}
    # a pixel of the middle is blank with probability 9 / 20, a corner with 4 / 20
    assert abs(gone[:, 1, 2].mean() - 9 / 20) < 4 * np.sqrt(0.25 / 500)
    assert abs(gone[:, 0, 0].mean() - 4 / 20) < 4 * np.sqrt(0.16 / 500)


@pytest.mark.slow
def test_channels_are_treated_alike():
    image = np.stack([IMAGE, 2 * IMAGE], -1)
    for change in (
        lambda k, i: random_flip(k, i),
        lambda k, i: random_crop(k, i, padding=2),
        lambda k, i: cutout(k, i, size=2),
    ):
        found = many(change, image)
        np.testing.assert_array_equal(found[..., 1], 2 * found[..., 0])
        np.testing.assert_array_equal(found[..., 0], many(change))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k: random_flip(k, jnp.ones(3)), r"random_flip\(image\) must be .* got \(3,\)"),
        (lambda k: random_flip(k, IMAGE, axis=2), r"axis=...\) must be 0 or 1, got 2"),
        (lambda k: random_flip(k, IMAGE, probability=2), r"must lie in \[0, 1\], got 2"),
        (lambda k: random_crop(k, IMAGE, padding=-1), r"random_crop\(padding=...\) must be >= 0"),
        (lambda k: cutout(k, IMAGE, size=-1), r"cutout\(size=...\) must be >= 0, got -1"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(KEYS[0])
