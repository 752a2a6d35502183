"""Tangents: NumPy's gradient, real warps made small, SciPy's smoothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from fdl import data, ops

TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}
IMAGES = np.random.default_rng(0).uniform(size=(3, 7, 9))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_tangents_are_those_of_the_fixture(dtype, fixture_dir):
    arrays = np.load(fixture_dir("tangent") / "data.npz")
    found = jax.jit(ops.tangents)(jnp.asarray(arrays["images"], dtype))
    assert found.dtype == dtype
    flat = found.reshape(arrays["tangents"].shape)
    np.testing.assert_allclose(flat, arrays["tangents"], **TOLERANCE[dtype])


# I(p - s A (p - c) - s t) for small s: A over (row, column), t in pixels
WARPS = {
    "translate_x": (np.zeros((2, 2)), [0, -1]),
    "translate_y": (np.zeros((2, 2)), [-1, 0]),
    "rotate": ([[0, 1], [-1, 0]], [0, 0]),
    "scale": ([[-1, 0], [0, -1]], [0, 0]),
    "axis": ([[1, 0], [0, -1]], [0, 0]),
    "diagonal": ([[0, -1], [-1, 0]], [0, 0]),
}


@pytest.mark.parametrize("change", WARPS)
def test_a_tangent_is_the_derivative_of_a_warp(change):
    generator, shift = (np.asarray(a, float) for a in WARPS[change])
    step = 1e-6

    def warped(image, s):
        return data.affine(image, np.eye(2) + s * generator, s * shift)

    both = jax.jit(jax.vmap(warped, (0, None)))
    slope = (both(IMAGES, step) - both(IMAGES, -step)) / (2 * step)
    found = ops.tangents(IMAGES, changes=[change])[:, 0]
    inside = np.s_[:, 1:-1, 1:-1]  # at the border a warp sees the zeros outside
    np.testing.assert_allclose(found[inside], slope[inside], atol=1e-4)


def test_thickness_widens_a_stroke():
    stroke = np.zeros((5, 9)) + np.exp(-((np.arange(9.0) - 4) ** 2))
    (tangent,) = ops.tangents(stroke, changes=["thickness"])
    thicker = stroke + 0.3 * np.asarray(tangent)

    def width(image):
        weight = image[2] / image[2].sum()
        return (weight * (np.arange(9) - 4.0) ** 2).sum()

    assert width(thicker) > 1.1 * width(stroke)
    np.testing.assert_allclose(thicker, thicker[:, ::-1], atol=1e-12)


def test_unit_tangents_keep_their_direction_and_a_blank_image_has_none():
    images = np.concatenate([IMAGES, np.zeros((1, 7, 9))])
    raw, unit = (ops.tangents(images, unit=u).reshape(4, 4, -1) for u in (False, True))
    norms = np.linalg.norm(raw[:3], axis=-1, keepdims=True)
    np.testing.assert_allclose(unit[:3], raw[:3] / norms, rtol=1e-12)
    np.testing.assert_array_equal(unit[3], 0)


@pytest.mark.parametrize("sigma", [0.5, 1.3])
def test_smoothing_is_that_of_scipy(sigma):
    expected = [gaussian_filter(image, sigma, mode="constant") for image in IMAGES]
    np.testing.assert_allclose(ops.gaussian_smooth(IMAGES, sigma), expected, rtol=1e-12)
    smooth = ops.tangents(np.array(expected))
    np.testing.assert_allclose(ops.tangents(IMAGES, sigma=sigma), smooth, rtol=1e-9, atol=1e-12)


def test_no_smoothing_changes_nothing():
    np.testing.assert_array_equal(ops.gaussian_smooth(IMAGES, 0.0), IMAGES)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.tangents(IMAGES, changes=[]), r"tangents\(changes=...\) must be some of"),
        (lambda: ops.tangents(IMAGES, changes=["shear"]), r"thickness, got \['shear'\]"),
        (lambda: ops.tangents(IMAGES[:, :1]), "2 pixels or more"),
        (lambda: ops.tangents(np.ones((3, 3), int)), r"floating, \(..., H, W\), got int"),
        (lambda: ops.gaussian_smooth(IMAGES, -1.0), r"sigma=...\) must be >= 0, got -1.0"),
        (lambda: ops.gaussian_smooth(np.ones(3), 1.0), "got float64"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
