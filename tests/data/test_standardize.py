import numpy as np
import pytest

from fdl.data import fit_standard


def test_standard_gives_mean_zero_and_deviation_one():
    x = np.random.default_rng(0).normal(5, 3, (200, 4))
    z = fit_standard(x).apply(x)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(0), 1, atol=1e-6)
    assert z.dtype == np.float32


def test_standard_is_learned_from_the_training_part_alone():
    learned = fit_standard(np.array([[0.0], [2.0]]))
    np.testing.assert_array_equal(learned.apply(np.array([[5.0]])), [[4.0]])


@pytest.mark.parametrize("n", [3, 999])  # the mean of three 0.1 is not 0.1
@pytest.mark.parametrize("value", [0.1, 1e9, -1e-30, 0.0])
def test_standard_turns_a_constant_feature_into_zeros(value, n):
    x = np.full((n, 1), value)
    np.testing.assert_allclose(fit_standard(x).apply(x), 0, atol=1e-6)


def test_standard_keeps_a_small_spread_around_a_large_mean():
    x = np.array([[1e12], [1e12 + 4]])
    np.testing.assert_array_equal(fit_standard(x).apply(x), [[-1], [1]])


def test_standard_does_not_depend_on_shift_and_scale_of_the_data():
    x = np.random.default_rng(1).normal(size=(50, 3))
    z = fit_standard(x).apply(x)
    for moved in (1000 * x - 7, 1e-12 * x):
        np.testing.assert_allclose(fit_standard(moved).apply(moved), z, atol=1e-6)


def test_standard_averages_over_pixels_when_asked():
    x = np.random.default_rng(2).normal(3, 2, (10, 4, 4, 3)).astype(np.float32)
    learned = fit_standard(x, axis=(0, 1, 2))
    assert learned.mean.shape == (1, 1, 3)
    np.testing.assert_allclose(learned.apply(x).mean((0, 1, 2)), 0, atol=1e-6)


def test_standard_inverts_to_the_units_of_the_data():
    x = np.random.default_rng(3).normal(7, 2, (9, 2))
    learned = fit_standard(x)
    np.testing.assert_allclose(learned.invert(learned.apply(x)), x, atol=1e-5)


def test_standard_refuses_nothing_to_learn_from():
    with pytest.raises(ValueError, match="at least one example, got 0"):
        fit_standard(np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"axis=...\) must hold axis 0"):
        fit_standard(np.zeros((4, 3)), axis=1)
