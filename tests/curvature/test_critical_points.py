"""Kinds of critical points of functions whose Hessians are known; conditions of matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl.curvature import Kind, classify_critical_point, condition_number, is_positive_definite

POINTS = {
    "bowl": (lambda x: x[0] ** 2 + 3 * x[1] ** 2, Kind.MINIMUM, 0, [2.0, 6.0]),
    "hill": (lambda x: -jnp.cosh(x[0]) - 2 * x[1] ** 2, Kind.MAXIMUM, 2, [-4.0, -1.0]),
    "saddle": (lambda x: x[0] * x[1], Kind.SADDLE, 1, [-1.0, 1.0]),
    "trough": (lambda x: x[0] ** 2 + x[1] ** 4, Kind.DEGENERATE, 0, [0.0, 2.0]),
    "ridge": (lambda x: -(x[0] ** 2) + x[1] ** 4, Kind.DEGENERATE, 1, [-2.0, 0.0]),
    "monkey": (lambda x: x[0] ** 3 - 3 * x[0] * x[1] ** 2, Kind.DEGENERATE, 0, [0.0, 0.0]),
    "slope": (lambda x: x[0] + x[1] ** 2, Kind.NOT_CRITICAL, 0, [0.0, 2.0]),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, "float64") for name in POINTS), ("saddle", "float32"), ("trough", "float32")],
)
def test_kinds(name, dtype):
    fun, kind, downhill, values = POINTS[name]
    point = jax.jit(lambda x: classify_critical_point(fun, x))(jnp.zeros(2, dtype))
    assert Kind(int(point.kind)) == kind and point.downhill == downhill
    np.testing.assert_allclose(point.eigenvalues, values, atol=1e-6)
    np.testing.assert_allclose(point.grad_norm, float(kind == Kind.NOT_CRITICAL), atol=1e-6)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_kind_does_not_depend_on_units_or_axes(scale):
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    h = jnp.asarray(q * np.array([-1.0, 0.0, 2.0, 3.0]) @ q.T) * scale
    fun = lambda p: 0.5 * p["x"] @ h @ p["x"]  # noqa: E731
    point = classify_critical_point(fun, {"x": jnp.zeros(4)})
    assert Kind(int(point.kind)) == Kind.SADDLE and point.downhill == 1
    # a curvature below the tolerance counts as none
    point = classify_critical_point(fun, {"x": jnp.zeros(4)}, eig_rtol=0.5)
    assert Kind(int(point.kind)) == Kind.DEGENERATE and point.downhill == 0


def test_what_is_not_a_number_is_not_critical():
    point = classify_critical_point(lambda x: jnp.nan * x[0], jnp.ones(1))
    assert Kind(int(point.kind)) == Kind.NOT_CRITICAL


def test_tolerance_of_the_gradient():
    fun = lambda x: (x[0] - 1e-3) ** 2  # noqa: E731
    assert classify_critical_point(fun, jnp.zeros(1)).kind == Kind.NOT_CRITICAL
    assert classify_critical_point(fun, jnp.zeros(1), grad_tol=1e-2).kind == Kind.MINIMUM


def test_definiteness_and_condition():
    rng = np.random.default_rng(0)
    cases = {(1, 2, 3, 8): True, (-1e-3, 1, 2, 8): False, (0, 1, 2, 4): False, (-8, -4): False}
    for values, definite in cases.items():
        q, _ = np.linalg.qr(rng.normal(size=(len(values), len(values))))
        a = jnp.asarray(q * np.array(values, float) @ q.T)
        assert bool(is_positive_definite(a)) is definite, values
        if 0 not in values:
            sizes = np.abs(np.array(values))
            np.testing.assert_allclose(condition_number(a), sizes.max() / sizes.min(), rtol=1e-10)
    assert condition_number(jnp.diag(jnp.array([0.0, 1.0]))) == np.inf
    np.testing.assert_allclose(condition_number(jnp.diag(jnp.array([4, 2]))), 2)
    assert not is_positive_definite(jnp.full((2, 2), jnp.nan))
    assert not is_positive_definite(jnp.diag(jnp.array([1.0, 0.1])), rtol=0.5)
    hilbert = 1 / (np.arange(6)[:, None] + np.arange(6)[None] + 1.0)
    found = condition_number(jnp.asarray(hilbert))
    np.testing.assert_allclose(found, np.linalg.cond(hilbert), rtol=1e-6)


@pytest.mark.parametrize("check", [is_positive_definite, condition_number])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (0, 0)])
def test_bad_shapes_are_named(check, shape):
    with pytest.raises(ValueError, match=r"\(matrix=...\) must be of shape \(n, n\), got"):
        check(jnp.ones(shape))
