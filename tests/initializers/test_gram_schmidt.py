"""Orthogonal weights against QR, and what they do to a deep linear network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import initializers
from fdl.initializers import gram_schmidt, orthonormalise

EPS = {"float64": 1e-14, "float32": 2e-6}


@pytest.mark.parametrize("dtype", EPS)
def test_gram_schmidt_is_the_qr_factor_with_a_positive_diagonal(dtype):
    a = np.random.default_rng(0).normal(size=(30, 20)).astype(dtype)
    q, r = np.linalg.qr(a.astype(float))
    found = jax.jit(orthonormalise)(a)
    np.testing.assert_allclose(found, q * np.sign(np.diag(r)), atol=20 * EPS[dtype])


def test_columns_close_to_dependent_become_orthogonal_to_rounding():
    """Without the second pass the columns of this matrix keep angles of 1e-4."""
    a = np.vander(np.linspace(0, 1, 40), 12, increasing=True)
    assert np.linalg.cond(a) > 1e7
    q = np.asarray(jax.jit(orthonormalise)(a))
    np.testing.assert_allclose(q.T @ q, np.eye(12), atol=1e-14)
    np.testing.assert_allclose(q @ (q.T @ a), a, atol=1e-12)  # and span the same space


@pytest.mark.parametrize("shape", [(20, 20), (30, 20), (20, 30), (3, 3, 4, 8)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, jnp.bfloat16])
def test_the_smaller_side_is_orthonormal_times_the_scale(shape, dtype):
    w = gram_schmidt(1.5)(jax.random.key(1), shape, dtype)
    assert w.shape == shape and w.dtype == dtype
    w = np.asarray(w, float).reshape(-1, shape[-1])
    gram = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    tolerance = {2: 2e-2, 4: 1e-5, 8: 1e-13}[jnp.dtype(dtype).itemsize]
    np.testing.assert_allclose(gram, 2.25 * np.eye(len(gram)), atol=tolerance)


def test_it_is_uniform_among_orthogonal_matrices_as_that_by_qr():
    """The trace of a uniform orthogonal matrix has mean 0 and variance 1 (Diaconis)."""
    keys = jax.random.split(jax.random.key(2), 2000)
    traces = jax.jit(jax.vmap(lambda k: jnp.trace(gram_schmidt()(k, (6, 6), np.float64))))(keys)
    assert abs(traces.mean()) < 3.5 / np.sqrt(2000)
    assert traces.var() == pytest.approx(1, abs=3.5 * np.sqrt(2 / 2000))


@pytest.mark.parametrize("name", ["gram_schmidt", "orthogonal"])
def test_a_deep_linear_net_keeps_all_lengths(name):
    """All singular values of the end-to-end map are 1; of a Gaussian one they spread endlessly."""
    keys = jax.random.split(jax.random.key(3), 50)
    init = getattr(initializers, name)()
    maps = jax.jit(jax.vmap(lambda k: init(k, (30, 30), np.float64)))(keys)
    np.testing.assert_allclose(np.linalg.svd(np.linalg.multi_dot(maps))[1], 1, rtol=1e-12)
    gaussian = jax.vmap(lambda k: initializers.lecun_normal()(k, (30, 30), np.float64))(keys)
    spread = np.linalg.svd(np.linalg.multi_dot(gaussian))[1]
    assert spread[0] / spread[-1] > 1e6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gram_schmidt()(jax.random.key(0), (4,)), r"two axes or more, got \(4,\)"),
        (lambda: orthonormalise(jnp.ones((2, 3))), r"rows >= columns, got \(2, 3\)"),
    ],
)
def test_shapes_that_cannot_be_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
