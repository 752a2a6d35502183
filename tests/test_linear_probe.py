import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl.linear_probe import fit_linear_probe

RNG = np.random.default_rng(0)


def problem(n=60, d=4, classes=3):
    x = RNG.normal(size=(n, d))
    return x, (x @ RNG.normal(size=(d, classes)) + RNG.gumbel(size=(n, classes))).argmax(-1)


def shares(logits):
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


@pytest.mark.parametrize(("kind", "gtol", "off"), [(np.float32, 1e-5, 3e-5), (None, 1e-9, 1e-8)])
def test_the_gradient_by_hand_is_zero_at_the_end(kind, gtol, off):
    with jax.enable_x64(kind is None):
        x, y = problem()
        x = x.astype(kind or np.float64)
        probe = jax.jit(lambda x, y: fit_linear_probe(x, y, 0.01, classes=3, gtol=gtol))(x, y)
        assert probe.kernel.dtype == x.dtype
        wrong = shares(np.asarray(probe(x), np.float64)) - np.eye(3)[y]
        assert np.abs(x.T @ wrong / len(x) + 0.01 * np.asarray(probe.kernel)).max() < off
        assert np.abs(wrong.mean(0)).max() < off


def test_features_that_say_nothing_leave_the_frequencies_of_the_classes():
    y = np.array([0, 0, 0, 1, 2, 2])
    probe = fit_linear_probe(jnp.zeros((6, 2)), y, 0.1, classes=3, gtol=1e-6)
    np.testing.assert_allclose(shares(np.asarray(probe.bias)[None])[0], [1 / 2, 1 / 6, 1 / 3], 1e-4)
    assert not probe.kernel.any()


def test_strong_weight_decay_leaves_the_correlation_with_the_classes_over_its_strength():
    x, y = problem()
    x -= x.mean(0)
    kernel = fit_linear_probe(jnp.asarray(x), y, 1e3, classes=3, gtol=1e-7).kernel
    of_labels = np.eye(3)[y] - np.eye(3)[y].mean(0)
    np.testing.assert_allclose(kernel, x.T @ of_labels / len(x) / 1e3, rtol=2e-3, atol=1e-7)


def test_renamed_classes_and_turned_features_give_the_same_answers():
    x, y = problem()
    turn = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    order = np.array([2, 0, 1])
    first = fit_linear_probe(jnp.asarray(x), y, 0.1, classes=3)
    other = fit_linear_probe(jnp.asarray(x @ turn), order[y], 0.1, classes=3)
    np.testing.assert_allclose(other(x @ turn)[:, order], first(x), atol=2e-3)


def test_it_can_be_mapped_over_the_strength_of_weight_decay():
    x, y = problem()
    strengths = jnp.array([0.01, 1.0])
    fit = jax.jit(lambda l2: fit_linear_probe(jnp.asarray(x), y, l2, classes=3).kernel)
    for several, l2 in zip(jax.vmap(fit)(strengths), strengths, strict=True):
        np.testing.assert_allclose(several, fit(l2), atol=1e-3)


@pytest.mark.parametrize(
    ("x", "y", "classes", "message"),
    [
        (np.ones(3), np.zeros(3, int), 2, r"must be \(n >= 1, d\) and \(n,\), got \(3,\)"),
        (np.ones((3, 1)), np.zeros(2, int), 2, r"got \(3, 1\) and \(2,\)"),
        (np.ones((0, 1)), np.zeros(0, int), 2, r"got \(0, 1\)"),
        (np.ones((3, 1)), np.zeros(3, int), 1, "classes=...\\) must be >= 2, got 1"),
    ],
)
def test_bad_input_is_named(x, y, classes, message):
    with pytest.raises(ValueError, match=message):
        fit_linear_probe(x, y, 0.1, classes=classes)
