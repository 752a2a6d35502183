import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from fdl.data import affine, random_affine

FIXTURE = Path(__file__).parents[1] / "fixtures" / "augment"
WARPS = [
    name.removesuffix(":forward_rowcol")
    for name in json.loads((FIXTURE / "config.json").read_text())["arrays"]
    if name.endswith(":forward_rowcol")
]


affine_jit = jax.jit(affine, static_argnames="border")


@pytest.fixture(scope="module")
def fixture():
    with np.load(FIXTURE / "data.npz") as arrays:
        return dict(arrays)


def warp(fixture, name, dtype, border):
    forward = fixture[f"{name}:forward_rowcol"]
    image = jnp.asarray(fixture["image"], dtype)
    return affine_jit(image, forward[:, :2], forward[:, 2], border=border)


@pytest.mark.parametrize("border", ["constant", "grid-constant"])
@pytest.mark.parametrize("name", WARPS)
def test_affine_agrees_with_scipy(fixture, name, border):
    expected = fixture[name if border == "constant" else f"{name}:grid_constant"]
    got = warp(fixture, name, jnp.float64, border)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 4e-3)])
def test_affine_keeps_the_dtype_of_the_image(fixture, dtype, tolerance):
    for name in WARPS:
        got = warp(fixture, name, dtype, "grid-constant")
        assert got.dtype == dtype
        scale = np.abs(fixture["image"]).max()
        np.testing.assert_allclose(
            got.astype(jnp.float64), fixture[f"{name}:grid_constant"], atol=2 * tolerance * scale
        )


@pytest.mark.parametrize("border", ["constant", "grid-constant"])
def test_affine_by_the_identity_changes_nothing(fixture, border):
    got = affine_jit(fixture["image"], jnp.eye(2), border=border)
    np.testing.assert_array_equal(got, fixture["image"])


def test_affine_by_whole_pixels_moves_them_and_fills_with_zeros():
    image = jnp.arange(1.0, 13.0).reshape(3, 4)
    got = affine_jit(image, jnp.eye(2), jnp.array([1.0, -2.0]))
    np.testing.assert_array_equal(got, [[0, 0, 0, 0], [3, 4, 0, 0], [7, 8, 0, 0]])
    assert not affine_jit(image, jnp.eye(2), jnp.array([1e12, -1e30])).any()


def test_affine_quarter_turns_are_those_of_numpy():
    image = jnp.arange(25.0).reshape(5, 5)
    turn = jnp.array(
        [[0.0, -1.0], [1.0, 0.0]]
    )  # (row, column) = (1, 0), down, goes to (0, 1), right
    np.testing.assert_allclose(affine_jit(image, turn), np.rot90(image), atol=1e-12)


def test_affine_treats_channels_alike(fixture):
    image = jnp.asarray(fixture["image"], jnp.float64)
    matrix, shift = jnp.array([[0.9, 0.2], [-0.1, 1.1]]), jnp.array([0.3, -0.7])
    got = affine_jit(jnp.stack([image, 2 * image], axis=-1), matrix, shift)
    one = affine_jit(image, matrix, shift)
    np.testing.assert_allclose(got, np.stack([one, 2 * one], axis=-1), rtol=1e-12)


def test_affine_has_the_gradients_of_its_values(fixture):
    image = jnp.asarray(fixture["image"][:6, :6], jnp.float64)
    arguments = (image, jnp.array([[0.9, 0.21], [-0.13, 1.07]]), jnp.array([0.31, -0.17]))
    check_grads(
        jax.jit(affine), arguments, order=1, modes=["fwd", "rev"], eps=1e-6, atol=1e-6, rtol=1e-6
    )


def test_affine_shift_gradient_at_rest_is_a_difference_of_neighbours():
    image = jnp.arange(9.0).reshape(3, 3) ** 2
    moved = jax.jacfwd(lambda t: affine_jit(image, jnp.eye(2), t))(jnp.zeros(2))
    np.testing.assert_allclose(moved[1, 1], image[1, 1] - jnp.array([image[2, 1], image[1, 2]]))


def test_random_affine_under_vmap_is_the_one_image_function(fixture):
    images = jnp.stack([jnp.asarray(fixture["image"], jnp.float64)] * 3)
    keys = jax.random.split(jax.random.key(1), 3)
    change = partial(random_affine, rotate=15.0, scale=0.1, translate=1.5, shear=0.2)
    batched = jax.jit(jax.vmap(change))(keys, images)
    for key, image, got in zip(keys, images, batched, strict=True):
        np.testing.assert_allclose(got, jax.jit(change)(key, image), rtol=1e-9, atol=1e-12)
    assert np.abs(batched[0] - batched[1]).max() > 0.01


def test_random_affine_of_no_range_changes_nothing(fixture):
    got = jax.jit(random_affine)(jax.random.key(0), fixture["image"])
    np.testing.assert_array_equal(got, fixture["image"])


def blob(height=31, width=31, spread=(3.0, 2.0)):
    row, column = np.mgrid[:height, :width] - np.array([height - 1, width - 1])[:, None, None] / 2
    return jnp.asarray(np.exp(-(row**2) / (2 * spread[0] ** 2) - column**2 / (2 * spread[1] ** 2)))


def moments(image):
    """Centre of mass and covariance over (row, column), by definition."""
    row, column = jnp.mgrid[: image.shape[0], : image.shape[1]]
    places = jnp.stack([row.ravel(), column.ravel()]).astype(float)
    mass = image.ravel() / image.sum()
    centre = places @ mass
    off = places - centre[:, None]
    return centre, (off * mass[None, :]) @ off.T


def draw(number=400, **ranges):
    keys = jax.random.split(jax.random.key(7), number)
    return jax.jit(jax.vmap(lambda k: moments(random_affine(k, blob(), **ranges))))(keys)


def test_random_affine_shifts_are_uniform_in_pixels():
    centre, _ = draw(translate=3.0)
    off = np.asarray(centre) - 15
    assert np.abs(off).max() <= 3.01
    np.testing.assert_allclose(off.mean(0), 0, atol=4 * 3 / np.sqrt(3 * 400))
    np.testing.assert_allclose((off**2).mean(0), 3, rtol=0.2)  # t^2 / 3
    assert abs(np.corrcoef(off.T)[0, 1]) < 0.2


def test_random_affine_angles_are_uniform_in_degrees():
    _, covariance = draw(rotate=20.0)
    # The long axis of the blob points down (row); turned by a it is (cos a, sin a).
    _, axes = np.linalg.eigh(np.asarray(covariance))
    long = axes[:, :, 1] * np.sign(axes[:, :1, 1])
    angle = np.degrees(np.arctan2(long[:, 1], long[:, 0]))
    assert np.abs(angle).max() < 20.1
    np.testing.assert_allclose((angle**2).mean(), 20**2 / 3, rtol=0.2)
    assert abs(angle.mean()) < 4 * 20 / np.sqrt(3 * 400)


def test_random_affine_scales_grow_and_shrink_alike():
    _, covariance = draw(scale=0.25)
    before = np.linalg.det(np.asarray(moments(blob())[1]))
    log_scale = np.log(np.linalg.det(np.asarray(covariance)) / before) / 4
    assert np.abs(log_scale).max() < np.log(1.25) + 0.02
    np.testing.assert_allclose((log_scale**2).mean(), np.log(1.25) ** 2 / 3, rtol=0.25)


def test_random_affine_shear_moves_rows_across_and_leaves_heights():
    _, covariance = draw(shear=0.5)
    covariance = np.asarray(covariance)
    slope = covariance[:, 0, 1] / covariance[:, 0, 0]
    assert np.abs(slope).max() < 0.51
    np.testing.assert_allclose((slope**2).mean(), 0.25 / 3, rtol=0.2)
    np.testing.assert_allclose(covariance[:, 0, 0], 9, rtol=0.03)


@pytest.mark.parametrize("tilt", [{"shear": 0.3}, {"rotate": 15.0}])
def test_random_affine_draws_its_numbers_independently(tilt):
    centre, covariance = draw(scale=0.2, translate=2.0, **tilt)
    slope = covariance[:, 0, 1] / covariance[:, 0, 0]
    size = np.log(np.linalg.det(np.asarray(covariance)))
    correlation = np.corrcoef(np.stack([slope, size, *np.asarray(centre).T]))
    assert np.abs(correlation - np.eye(4)).max() < 4 / np.sqrt(400)


def test_augmentation_refuses_bad_arguments():
    image = jnp.ones((4, 4))
    with pytest.raises(ValueError, match=r"must be floating, .* got int\d+\(4, 4\)"):
        affine(jnp.ones((4, 4), int), jnp.eye(2))
    with pytest.raises(ValueError, match=r"got float64\(4,\)"):
        affine(jnp.ones(4), jnp.eye(2))
    with pytest.raises(ValueError, match=r"must be \(2, 2\) and \(2,\), got \(3, 3\) and \(2,\)"):
        affine(image, jnp.eye(3))
    with pytest.raises(ValueError, match="'grid-constant' or 'constant', got 'wrap'"):
        affine(image, jnp.eye(2), border="wrap")
    with pytest.raises(ValueError, match=r"random_affine\(rotate=...\) must be >= 0, got -1"):
        random_affine(jax.random.key(0), image, rotate=-1)
