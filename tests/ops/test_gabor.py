"""Gabor functions against scikit-image's, and their invariances."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import initializers, ops

FOLDER = Path(__file__).parents[1] / "fixtures" / "gabor"
CONFIG = json.loads((FOLDER / "config.json").read_text())
DATA = np.load(FOLDER / "data.npz")
SIGMA_X, SIGMA_Y, OFFSET = 3.0, 2.0, 0.3  # said in the fixture's "about", not in its config
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("part", ["real", "imag"])
@pytest.mark.parametrize("index", range(len(CONFIG["config"]["params"])))
def test_kernels_are_those_of_scikit_image(index, part, dtype):
    assert "sigma_x=3, sigma_y=2, offset=.3" in CONFIG["about"]
    frequency, theta = CONFIG["config"]["params"][index]
    expected = DATA[f"k{index}_{part}"]
    height, width = expected.shape
    y, x = np.mgrid[:height, :width].astype(dtype)
    found = ops.gabor(
        x - (width - 1) / 2,
        y - (height - 1) / 2,
        frequency=2 * np.pi * frequency,
        orientation=theta,
        phase=OFFSET - (np.pi / 2 if part == "imag" else 0),
        beta_x=1 / (2 * SIGMA_X**2),
        beta_y=1 / (2 * SIGMA_Y**2),
        amplitude=1 / (2 * np.pi * SIGMA_X * SIGMA_Y),
    )
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, **TOLERANCE[dtype])


def test_turning_the_plane_turns_the_function():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 50))
    options = {"frequency": 2.0, "phase": 0.4, "beta_x": 0.3, "beta_y": 0.7}
    turn = 0.9
    plain = ops.gabor(x, y, orientation=0.2, **options)
    turned_x, turned_y = np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y
    moved = ops.gabor(turned_x + 2, turned_y - 1, orientation=0.2 + turn, x0=2, y0=-1, **options)
    np.testing.assert_allclose(moved, plain, rtol=1e-12)


def test_a_quadrature_pair_does_not_see_the_phase_of_a_grating():
    """The sum of squares of two responses is that of a complex cell."""
    y, x = np.mgrid[-16:17, -16:17].astype(float)
    options = {"frequency": 1.2, "orientation": 0.6, "beta_x": 0.02, "beta_y": 0.02}
    pair = [ops.gabor(x, y, phase=p, **options) for p in (0.0, np.pi / 2)]
    phases = np.linspace(0, 2 * np.pi, 12)
    waves = [np.cos(1.2 * (x * np.cos(0.6) + y * np.sin(0.6)) + p) for p in phases]
    simple = np.array([[(cell * wave).sum() for cell in pair] for wave in waves])
    energy = (simple**2).sum(1)
    assert np.ptp(energy) / energy.mean() < 0.01
    assert np.ptp(simple[:, 0]) > 1.5 * np.abs(simple[:, 0]).max()  # one alone does


def test_a_bank_covers_all_orientations_without_a_mean():
    bank = np.asarray(initializers.gabor()(jax.random.key(0), (11, 11, 2, 32), np.float64))
    np.testing.assert_allclose(bank.sum((0, 1)), 0, atol=1e-12)
    np.testing.assert_allclose((bank**2).sum((0, 1, 2)), 2, rtol=1e-12)
    np.testing.assert_array_equal(bank[:, :, 0], bank[:, :, 1])
    # the strongest wave of each filter, in a Fourier transform of 64 x 64
    power = np.abs(np.fft.fft2(bank[:, :, 0], (64, 64), axes=(0, 1))) ** 2
    rows, columns = np.unravel_index(power.reshape(64 * 64, 32).argmax(0), (64, 64))
    fy, fx = np.fft.fftfreq(64)[rows], np.fft.fftfreq(64)[columns]
    angles = np.sort(np.arctan2(fy, fx) % np.pi)
    assert np.diff(np.append(angles, angles[0] + np.pi)).max() < 3 * np.pi / 32
    wavelengths = 1 / np.hypot(fx, fy)
    assert wavelengths.min() < 3.5 and wavelengths.max() > 7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: initializers.gabor(0.0), r"gabor\(scale=...\) must be > 0, got 0.0"),
        (lambda: initializers.gabor(bandwidth=-1), r"bandwidth=...\) must be > 0, got -1"),
        (lambda: initializers.gabor()(jax.random.key(0), (2, 5, 1, 4)), "3x3 at least, got"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_gradients_reach_every_parameter():
    x, y = np.mgrid[-3:4, -3:4].astype(float)
    names = ("frequency", "orientation", "phase", "beta_x", "beta_y", "amplitude", "x0", "y0")
    values = jnp.array([1.0, 0.3, 0.2, 0.1, 0.2, 1.5, 0.4, -0.3])

    def total(v):
        return jnp.sin(ops.gabor(x, y, **dict(zip(names, v, strict=True)))).sum()

    numeric = [(total(values.at[i].add(1e-6)) - total(values.at[i].add(-1e-6))) / 2e-6
               for i in range(len(names))]  # fmt: skip
    np.testing.assert_allclose(jax.jit(jax.grad(total))(values), numeric, rtol=1e-6)
    assert np.abs(numeric).min() > 1e-3
