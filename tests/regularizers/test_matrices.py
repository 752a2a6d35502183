"""Penalties on matrices against their closed forms: SVD, NumPy's norms, orthogonal matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import regularizers

RNG = np.random.default_rng(0)
KERNEL = RNG.standard_normal((5, 3))
CONVOLUTION = RNG.standard_normal((3, 3, 2, 4))
PARAMS = {"a": {"kernel": KERNEL, "bias": np.ones(3)}, "b": {"kernel": CONVOLUTION}}
MATRICES = [KERNEL, CONVOLUTION.reshape(18, 4)]


def test_group_lasso_sums_the_norms_of_units_or_of_inputs():
    columns = sum(np.linalg.norm(m, axis=0).sum() for m in MATRICES)
    assert float(regularizers.group_lasso(PARAMS, 0.3)) == pytest.approx(0.3 * columns, rel=1e-12)
    channels = np.sqrt((CONVOLUTION**2).sum((0, 1, 3))).sum()
    rows = np.linalg.norm(KERNEL, axis=1).sum() + channels
    found = regularizers.group_lasso(PARAMS, 0.3, groups="rows")
    assert float(found) == pytest.approx(0.3 * rows, rel=1e-12)


def test_the_gradient_of_group_lasso_is_a_unit_vector_for_each_unit_and_zero_at_zero():
    w = KERNEL.copy()
    w[:, 1] = 0
    gradient = jax.grad(regularizers.group_lasso)({"kernel": w}, 2.0)["kernel"]
    expected = 2 * w / np.maximum(np.linalg.norm(w, axis=0), 1e-300)
    np.testing.assert_allclose(gradient, expected, rtol=1e-12)


def test_orthogonality_is_a_function_of_the_singular_values():
    for m, w in zip(MATRICES, (KERNEL, CONVOLUTION), strict=True):
        s = np.linalg.svd(m, compute_uv=False)
        found = regularizers.orthogonality({"kernel": w}, 0.7)
        assert float(found) == pytest.approx(0.7 * ((s**2 - 1) ** 2).sum(), rel=1e-12)


def test_orthogonality_of_a_wide_matrix_has_the_value_and_gradient_of_its_formula():
    wide = KERNEL.T

    def formula(w):
        return jnp.square(w.T @ w - jnp.eye(5)).sum()

    value, gradient = jax.value_and_grad(lambda w: regularizers.orthogonality({"kernel": w}, 1.0))(
        wide
    )
    assert float(value) == pytest.approx(float(formula(wide)), rel=1e-12)
    np.testing.assert_allclose(gradient, jax.grad(formula)(wide), rtol=1e-11)


def test_orthogonality_is_nothing_for_orthonormal_columns_only():
    q, _ = np.linalg.qr(RNG.standard_normal((6, 4)))
    assert float(regularizers.orthogonality({"kernel": q}, 1.0)) < 1e-28
    assert float(regularizers.orthogonality({"kernel": q.T}, 1.0)) == pytest.approx(2, rel=1e-12)
    assert float(regularizers.orthogonality({"kernel": 1.1 * q}, 1.0)) > 0.1


def test_spectral_norm_and_its_gradient_are_those_of_the_decomposition():
    u, s, v = np.linalg.svd(KERNEL)
    norm = jax.value_and_grad(lambda w: regularizers.spectral_norm(w, iterations=200))
    value, gradient = norm(KERNEL)
    assert float(value) == pytest.approx(s[0], rel=1e-12)
    np.testing.assert_allclose(gradient, np.outer(u[:, 0], v[0]), atol=1e-9)
    both = regularizers.spectral(PARAMS, 0.5, iterations=200)
    squares = sum(np.linalg.norm(m, 2) ** 2 for m in MATRICES)
    assert float(both) == pytest.approx(0.25 * squares, rel=1e-10)


def test_spectral_norm_is_approached_from_below_and_at_its_rate():
    s = np.array([2.0, 1.8, 0.5])
    q, _ = np.linalg.qr(RNG.standard_normal((3, 3)))
    errors = [
        2.0 - float(regularizers.spectral_norm(jnp.asarray(q * s), iterations=k)) for k in (10, 20)
    ]
    assert errors[0] > errors[1] > 0
    assert errors[1] / errors[0] == pytest.approx((1.8 / 2) ** 40, rel=0.2)


def test_spectral_norm_of_zeros_and_of_extreme_sizes():
    gradient = jax.grad(regularizers.spectral_norm)(np.zeros((3, 2)))
    assert np.isfinite(gradient).all()
    assert float(regularizers.spectral_norm(np.zeros((3, 2)))) == 0
    for size in (1e-30, 1e30):
        w = jnp.asarray(size * KERNEL, jnp.float32)
        found = float(regularizers.spectral_norm(w, iterations=100))
        assert found == pytest.approx(size * np.linalg.norm(KERNEL, 2), rel=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: regularizers.group_lasso(PARAMS, -1.0), r"group_lasso\(strength=...\).*got -1.0"),
        (lambda: regularizers.group_lasso(PARAMS, 1.0, groups="leaves"), "got 'leaves'"),
        (lambda: regularizers.orthogonality(PARAMS, -1.0), r"orthogonality\(strength=...\)"),
        (lambda: regularizers.spectral(PARAMS, 1.0, iterations=0), "got .* and 0"),
        (
            lambda: regularizers.spectral(PARAMS, 1.0, select=regularizers.everything),
            r"spectral\(select=...\) must choose matrices, got shape \(3,\)",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
