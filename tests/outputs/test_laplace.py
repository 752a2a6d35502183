"""Laplace units: SciPy's density and the statistics they predict."""

import numpy as np
import pytest
from scipy import stats

from fdl import outputs

Y = np.array([[-3.0], [0.0], [0.5], [2.0], [40.0]])


def test_the_best_constant_is_the_median_and_the_mean_distance_from_it():
    unit = outputs.laplace(1)
    plain = unit.distribution(unit.fit(Y))
    loc, scale = stats.laplace.fit(Y)  # SciPy's own maximum likelihood
    assert float(plain.loc[0]) == pytest.approx(loc) == pytest.approx(0.5)
    assert float(plain.scale[0]) == pytest.approx(scale)
    np.testing.assert_allclose(-plain.nll(Y), stats.laplace.logpdf(Y, loc, scale)[:, 0], rtol=1e-9)


def test_the_density_integrates_to_1():
    grid = np.linspace(-80, 80, 160_001)[:, None]
    density = np.exp(-outputs.laplace(1).distribution(np.array([0.0, 0.3])).nll(grid))
    assert np.trapezoid(density, grid[:, 0]) == pytest.approx(1, rel=1e-6)
