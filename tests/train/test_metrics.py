"""Means of means are not means; totals and counts add up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl.train import metrics as metric
from fdl.train.metrics import Ratio


def values_and_weights() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal(24), np.where(np.arange(24) < 7, 0, rng.uniform(0, 2, 24))


def test_mean_is_numpys_weighted_average() -> None:
    v, w = values_and_weights()
    np.testing.assert_allclose(metric.mean(v).value, v.mean(), rtol=1e-13)
    np.testing.assert_allclose(metric.mean(v, w).value, np.average(v, weights=w), rtol=1e-13)
    grid = v.reshape(4, 6)
    rows = metric.mean(grid, w[:4, None] + 1)
    np.testing.assert_allclose(
        rows.value, np.average(grid, weights=np.tile(w[:4, None] + 1, 6)), rtol=1e-13
    )


def test_mean_ignores_what_is_masked_even_if_not_finite() -> None:
    v = jnp.array([1.0, jnp.nan, jnp.inf, 3.0])
    mask = jnp.array([True, False, False, True])
    assert metric.mean(v, mask) == (4.0, 2.0)
    grad = jax.grad(lambda v: metric.mean(v, mask).value)(v)
    np.testing.assert_array_equal(grad, [0.5, 0, 0, 0.5])
    assert not jnp.isfinite(metric.mean(v).value)


def test_mean_of_nothing_is_zero() -> None:
    nothing = metric.mean(jnp.ones(3), jnp.zeros(3))
    assert nothing.value == 0 and metric.floats({"a": nothing}) == {"a": 0.0}


@pytest.mark.parametrize(
    ("given", "found"),
    [(jnp.bfloat16, "float32"), (jnp.float32, "float32"), (bool, "float32"), (float, "float64")],
)
def test_mean_counts_in_at_least_32_bits(given: type, found: str) -> None:
    ratio = metric.mean(jnp.ones(300, given), jnp.ones(300, bool))
    assert ratio == (300, 300) and {a.dtype.name for a in ratio} == {found}


def test_devices_with_unequal_weights_give_the_mean_of_all() -> None:
    v, w = values_and_weights()

    def on_one(v: jax.Array, w: jax.Array) -> dict:
        return metric.over_devices({"ratio": metric.mean(v, w), "plain": v.mean()})

    found = jax.vmap(on_one, axis_name="data")(v.reshape(4, 6), w.reshape(4, 6))
    np.testing.assert_allclose(found["ratio"].value, [np.average(v, weights=w)] * 4, rtol=1e-13)
    np.testing.assert_allclose(found["ratio"].count, [w.sum()] * 4, rtol=1e-13)
    np.testing.assert_allclose(found["plain"], [v.mean()] * 4, rtol=1e-13)
    mean_of_means = np.nanmean(
        [
            np.average(a, weights=b + 1e-9)
            for a, b in zip(v.reshape(4, 6), w.reshape(4, 6), strict=True)
        ]
    )
    assert abs(mean_of_means - np.average(v, weights=w)) > 1e-3  # the case can tell them apart


def test_parts_and_batches_add_up_to_the_whole() -> None:
    v, w = values_and_weights()
    parts = [
        {"m": metric.mean(a, b)} for a, b in zip(v.reshape(4, 6), w.reshape(4, 6), strict=True)
    ]
    total = None
    for part in parts:
        total = metric.add(total, part)
    np.testing.assert_allclose(total["m"].value, np.average(v, weights=w), rtol=1e-13)
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *[p | {"plain": p["m"].total} for p in parts])
    over = metric.over_steps(stacked)
    np.testing.assert_allclose(over["m"].value, np.average(v, weights=w), rtol=1e-13)
    np.testing.assert_allclose(over["m"].count, w.sum(), rtol=1e-13)
    np.testing.assert_allclose(over["plain"], (v * w).reshape(4, 6).sum(1).mean(), rtol=1e-13)


def test_bare_numbers_are_not_added() -> None:
    """A sum of losses would be reported as a loss."""
    with pytest.raises(ValueError, match="add: the metric loss must be a Ratio, got float"):
        metric.add(None, {"right": Ratio(1.0, 2.0), "loss": 0.5})


def test_floats_are_plain() -> None:
    found = metric.floats({"a": jnp.float32(0.5), "b": Ratio(np.float32(1), np.int32(3)), "c": 2})
    assert found == {"a": 0.5, "b": 1 / 3, "c": 2.0}
    assert all(type(v) is float for v in found.values())
