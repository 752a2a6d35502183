"""Pooling against PyTorch and against loops; where gradients go."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import ops

FOLDER = Path(__file__).parents[1] / "fixtures" / "conv_shapes"
DATA = np.load(FOLDER / "data.npz")
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}
POOLS = sorted(n for n in DATA if "pool" in n)


def nhwc(x):
    return np.moveaxis(x, 1, -1)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", POOLS)
def test_pools_are_those_of_pytorch(name, dtype):
    numbers = {letter: int(n) for letter, n in re.findall(r"([ksp])(\d+)", name.split("_")[1])}
    options = {"strides": numbers.get("s"), "padding": numbers.get("p", 0)}
    options["ceil_mode"] = "ceil" in name
    function = ops.max_pool
    if name.startswith("avg"):
        function = ops.avg_pool
        options["count_include_pad"] = "excpad" not in name
    found = function(jnp.asarray(nhwc(DATA["x"]), dtype), numbers["k"], **options)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, nhwc(DATA[name]), **TOLERANCE[dtype])


def by_loops(x, window, strides, pads, ceil_mode, reduce):
    """Reduce, for each window, what of it lies in the array."""
    counts = []
    for n, k, s, (low, high) in zip(x.shape[1:-1], window, strides, pads, strict=True):
        room = n + low + high - k
        count = (-(-room // s) if ceil_mode else room // s) + 1
        counts.append(count - (ceil_mode and (count - 1) * s >= n + low))
    y = np.zeros((len(x), *counts, x.shape[-1]))
    for i in np.ndindex(*counts):
        starts = [a * s - low for a, s, (low, _) in zip(i, strides, pads, strict=True)]
        inside = tuple(slice(max(a, 0), a + k) for a, k in zip(starts, window, strict=True))
        part = x[:, *inside]
        y[:, *i] = reduce(part.reshape(len(x), -1, x.shape[-1]))
    return y


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(
    ("shape", "window", "strides", "pads"),
    [
        ((2, 11, 3), (3,), (2,), ((1, 1),)),
        ((2, 6, 3), (2,), (3,), ((0, 1),)),  # a last window would begin right behind the array
        ((2, 7, 9, 3), (2, 4), (3, 3), ((0, 1), (2, 1))),
        ((1, 5, 6, 7, 2), (2, 3, 2), (2, 3, 2), ((0, 0),) * 3),
    ],
)
def test_pools_reduce_what_lies_in_the_window(shape, window, strides, pads, ceil_mode):
    x = np.random.default_rng(0).normal(size=shape)
    options = {"strides": strides, "padding": pads, "ceil_mode": ceil_mode}
    largest = by_loops(x, window, strides, pads, ceil_mode, lambda part: part.max(1))
    mean = by_loops(x, window, strides, pads, ceil_mode, lambda part: part.mean(1))
    np.testing.assert_allclose(ops.max_pool(x, window, **options), largest, rtol=1e-12)
    found = ops.avg_pool(x, window, **options, count_include_pad=False)
    np.testing.assert_allclose(found, mean, rtol=1e-12)


@pytest.mark.parametrize("shape", [(2, 9, 3), (2, 7, 6, 3), (1, 4, 5, 6, 2)])
def test_both_forms_of_the_max_pool_have_the_same_derivatives(shape):
    x = np.random.default_rng(0).integers(0, 3, shape).astype(float)  # with many equal values
    weights = np.random.default_rng(1).normal(size=shape)

    def derivatives(form):
        def loss(x):
            return (jnp.sin(ops.max_pool(x, 2, implementation=form) + 1) ** 2).sum()

        return jax.jit(lambda x: jax.jvp(jax.value_and_grad(loss), (x,), (weights,)))(x)

    expected = jax.tree.leaves(derivatives("lax"))
    for form in ("auto", "reshape"):
        for a, b in zip(jax.tree.leaves(derivatives(form)), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", ["lax", "reshape"])
def test_of_equal_values_the_first_has_the_gradient(form):
    x = jnp.zeros((1, 2, 4, 1)).at[0, 1, 2, 0].set(1.0)
    gradient = jax.grad(lambda x: ops.max_pool(x, 2, implementation=form).sum())(x)
    assert gradient[0, ..., 0].tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize("place", range(4))
def test_what_is_no_number_is_not_lost(place):
    x = jnp.arange(4.0).at[place].set(jnp.nan).reshape(1, 2, 2, 1)
    assert jnp.isnan(ops.max_pool(x, 2)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.max_pool(jnp.ones((3, 4)), 2), r"max_pool\(x\) must be \(batch"),
        (lambda: ops.avg_pool(jnp.ones((1, 4, 4, 1)), 5), r"over \(5, 5\) does not fit"),
        (lambda: ops.max_pool(jnp.ones((1, 4, 1)), (2, 2)), r"window\) must be one number >= 1"),
        (
            lambda: ops.max_pool(jnp.ones((1, 4, 1)), 2, strides=1, implementation="reshape"),
            "overlap nor are padded, \"reshape\", got 'reshape'",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
