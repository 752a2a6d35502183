import numpy as np
import pytest

from fdl.data import heteroscedastic_sine, inverse_sine, sine, spirals, two_moons

MAKERS = [spirals, two_moons, sine, heteroscedastic_sine, inverse_sine]


@pytest.mark.parametrize("make", MAKERS)
def test_generated_sets_depend_on_the_seed_alone(make):
    first, second, other = make(50, seed=3), make(50, seed=3), make(50, seed=4)
    np.testing.assert_array_equal(first["x"], second["x"])
    np.testing.assert_array_equal(first["y"], second["y"])
    assert not np.array_equal(first["x"], other["x"])


def test_two_moons_without_noise_are_scikit_learns():
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.make_moons(51, shuffle=False)
    ours = two_moons(51, noise=0.0)
    np.testing.assert_allclose(ours["x"], x, atol=1e-6)
    np.testing.assert_array_equal(ours["y"], y)


def test_spirals_without_noise_lie_on_their_arms():
    arrays = spirals(300, classes=3, turns=2.0, noise=0.0)
    radius = np.hypot(*arrays["x"].T)
    angle = np.arctan2(arrays["x"][:, 1], arrays["x"][:, 0])
    off = angle - 2 * np.pi * (2.0 * radius + arrays["y"] / 3)
    np.testing.assert_allclose(np.cos(off), 1, atol=1e-5)
    assert np.bincount(arrays["y"]).tolist() == [100, 100, 100]
    assert np.isclose((radius**2).mean(), 0.5, atol=0.06)  # uniform over the disc


def test_sine_noise_has_the_given_deviation():
    arrays = sine(5000, noise=0.2, seed=1)
    residual = arrays["y"] - np.sin(np.pi * arrays["x"])
    assert residual.std() == pytest.approx(0.2, rel=0.05)
    assert abs(residual.mean()) < 0.01


def test_noise_of_the_heteroscedastic_sine_grows_with_x():
    arrays = heteroscedastic_sine(20_000, noise=0.5)
    x = arrays["x"][:, 0].astype(float)
    white = (arrays["y"][:, 0] - 2 * np.sin(2 * np.pi * x)) / (0.5 * (x + 0.5))
    for part in (white[x < 0.2], white[(0.4 < x) & (x < 0.6)], white[x > 0.8]):
        assert abs(part.mean()) < 4 / np.sqrt(len(part))
        assert abs(part.std() - 1) < 4 / np.sqrt(2 * len(part))
    # the entropy of y given x with noise 1, as the docstring says it
    grid = np.linspace(0.5, 1.5, 100_001)
    best = 0.5 * np.log(2 * np.pi * np.e) + np.trapezoid(np.log(grid), grid)
    assert best == pytest.approx(1.3737, abs=5e-5)


def test_inverse_sine_has_three_answers_in_the_middle():
    arrays = inverse_sine(20_000, noise=0.0)
    x, y = arrays["x"][:, 0], arrays["y"][:, 0]
    near = np.sort(y[np.abs(x - 0.5) < 0.005])
    roots = [0.5 - 0.2903, 0.5, 0.5 + 0.2903]  # of y + 0.3 sin(2 pi y) = 1/2
    distance = np.abs(near[:, None] - roots).min(axis=1)
    assert distance.max() < 0.03
    assert len({int(np.argmin(np.abs(roots - v))) for v in near}) == 3


@pytest.mark.parametrize("make", MAKERS)
def test_generated_sets_refuse_bad_sizes_and_noise(make):
    with pytest.raises(ValueError, match=rf"{make.__name__}\(n\) must be >= \d, got 0"):
        make(0)
    with pytest.raises(ValueError, match=r"noise=...\) must be >= 0, got -1"):
        make(9, noise=-1)
