"""Mixtures: closed forms, areas that are counted, and the same mixture on any number of devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fdl import losses
from fdl.data import cutmix, mixup

KEYS = jax.random.split(jax.random.key(0), 400)
NEIGHBOUR = np.arange(400) ^ 1


def examples(*shape):
    x = jax.random.normal(jax.random.key(1), (400, *shape))
    return x, jax.nn.one_hot(jnp.arange(400) * 7 % 10, 10, dtype=x.dtype)


@functools.cache
def mixup_jit(alpha):
    return jax.jit(lambda k, x, y: mixup(k, x, y, alpha=alpha))


@pytest.mark.parametrize("alpha", [0.4, pytest.param(1.0, marks=pytest.mark.slow)])
def test_mixup_is_a_weighted_mean_with_the_neighbour_by_a_beta_variable(alpha):
    x, y = examples(3)
    mixed, target = mixup_jit(alpha)(KEYS, x, y)
    share = np.asarray((target * y).sum(1))  # 1 where both are of one class: here none are
    np.testing.assert_allclose(target, share[:, None] * y + (1 - share)[:, None] * y[NEIGHBOUR])
    np.testing.assert_allclose(
        mixed, share[:, None] * x + (1 - share)[:, None] * x[NEIGHBOUR], rtol=1e-6, atol=1e-9
    )
    assert stats.kstest(share, stats.beta(alpha, alpha).cdf).pvalue > 0.01


@pytest.mark.slow
def test_the_cross_entropy_of_a_mixture_is_the_mixture_of_the_cross_entropies():
    x, y = examples(10)
    logits, target = mixup_jit(0.4)(KEYS, x, y)
    share = (target * y).sum(1)
    each = losses.softmax_cross_entropy(logits, y)
    other = losses.softmax_cross_entropy(logits, y[NEIGHBOUR])
    np.testing.assert_allclose(
        losses.softmax_cross_entropy(logits, target), share * each + (1 - share) * other, rtol=1e-6
    )


def test_cutmix_pastes_a_rectangle_and_labels_by_its_area():
    y = jnp.eye(2)[jnp.arange(400) % 2]
    x = jnp.broadcast_to(y[:, 1][:, None, None], (400, 9, 12))  # images of zeros and of ones
    mixed, target = (np.asarray(a) for a in jax.jit(cutmix)(KEYS, x, y))
    np.testing.assert_allclose(mixed.mean((1, 2)), target[:, 1], rtol=1e-6, atol=1e-7)
    foreign = mixed != np.asarray(x)
    rows, columns = foreign.any(2).sum(1), foreign.any(1).sum(1)
    np.testing.assert_array_equal(foreign.sum((1, 2)), rows * columns)
    whole = ~foreign[:, [0, -1]].any((1, 2)) & ~foreign[:, :, [0, -1]].any((1, 2)) & (rows > 2)
    assert whole.sum() > 20  # rectangles that nothing cuts off have the shape of the image
    assert np.abs(rows[whole] / 9 - columns[whole] / 12).max() <= 1.5 / 9
    # l is uniform and each half axis is cut off at the border
    assert 0.2 < foreign.mean() < 0.4 and foreign.mean((1, 2)).max() > 0.8


@pytest.mark.slow
def test_cutmix_takes_the_same_rectangle_of_all_channels():
    x, y = examples(6, 6)
    one, target = jax.jit(cutmix)(KEYS, x, y)
    two, again = jax.jit(cutmix)(KEYS, jnp.stack([x, -x], -1), y)
    np.testing.assert_array_equal(two, np.stack([one, -one], -1))
    np.testing.assert_array_equal(target, again)


@pytest.mark.slow
@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_the_mixture_does_not_depend_on_the_devices(mix):
    x, y = examples(4, 4)
    run = jax.jit(lambda k, x, y: mix(k, x, y, alpha=0.5))
    whole = run(KEYS[:16], x[:16], y[:16])
    for devices in (2, 4):
        split = [a[:16].reshape(devices, -1, *a.shape[1:]) for a in (KEYS, x, y)]
        parts = jax.jit(jax.vmap(lambda k, x, y: mix(k, x, y, alpha=0.5), axis_name="data"))(*split)
        for a, b in zip(whole, parts, strict=True):
            np.testing.assert_allclose(b.reshape(a.shape), a, rtol=1e-6, atol=1e-9)
    other = run(KEYS[16:32], x[:16], y[:16])
    assert np.abs(other[0] - whole[0]).max() > 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: mixup(KEYS[:2], x[:2], y[:2], alpha=0), r"mixup\(alpha=...\) must be > 0"),
        (lambda x, y: mixup(KEYS[:3], x[:3], y[:3], alpha=1), "even number .* got 3"),
        (lambda x, y: mixup(KEYS[:4], x[:2], y[:2], alpha=1), r"got \(4,\) and \(2,\)"),
        (lambda x, y: mixup(KEYS[:2], x[:2], jnp.arange(2), alpha=1), r"mixup\(y\) .* got int"),
        (lambda x, y: cutmix(KEYS[:2], x[:2], y[:2]), r"cutmix\(x\) must be .* got \(2, 3\)"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(*examples(3))
