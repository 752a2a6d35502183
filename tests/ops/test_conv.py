"""Convolution against PyTorch, against loops, as a matrix; its forms against one another."""

import itertools
import json
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from safetensors.numpy import load_file

from fdl import ops
from fdl.ops.conv_forms import FIRST_LAYER, FORMS, choose, fits
from fdl.ops.windows import Windows

FOLDER = Path(__file__).parents[1] / "fixtures" / "conv_shapes"
CONFIG = json.loads((FOLDER / "config.json").read_text())
DATA = np.load(FOLDER / "data.npz")
WEIGHTS = load_file(FOLDER / "weights.safetensors")
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}
CONVOLUTIONS = sorted(n.removeprefix("y:") for n in DATA if n.startswith("y:"))
OPTIONS = {"s": "strides", "p": "padding", "d": "dilation", "op": "output_padding"}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def nhwc(x):
    return np.moveaxis(x, 1, -1)


def options_of(name, weight, x, y):
    """`k3s2p1` tells all; `depthwise5` and `group2` have stride 1 and pad both sides alike."""
    if named := re.fullmatch(r"(?:t_)?k\d+((?:(?:s|p|d|op)\d+)*)", name):
        found = re.findall(r"(op|s|p|d)(\d+)", named.group(1))
        return {OPTIONS[letter]: int(number) for letter, number in found}
    window = weight.shape[2:]
    pads = [(o - n + k - 1) // 2 for o, n, k in zip(y.shape[2:], x.shape[2:], window, strict=True)]
    return {"padding": pads, "groups": x.shape[1] // weight.shape[1]}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_are_those_of_pytorch(name, dtype):
    x, y, weight = DATA["x"], DATA[f"y:{name}"], WEIGHTS[f"{name}.weight"]
    options = options_of(name, weight, x, y)
    if name.startswith("t_"):
        function, kernel = ops.conv_transpose, weight.transpose(2, 3, 0, 1)
    else:
        function, kernel = ops.conv, weight.transpose(2, 3, 1, 0)
    with jax.default_matmul_precision("highest"):
        found = function(jnp.asarray(nhwc(x), dtype), jnp.asarray(kernel, dtype), **options)
    expected = nhwc(y) - WEIGHTS[f"{name}.bias"].astype(float)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, **TOLERANCE[dtype])


def by_loops(x, kernel, strides, pads, dilation, groups):
    """The sum as it is written, position by position."""
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    window, (inputs, outputs) = kernel.shape[:-2], kernel.shape[-2:]
    axes = zip(x.shape[1:-1], window, strides, dilation, strict=True)
    sizes = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in axes]
    y = np.zeros((len(x), *sizes, outputs))
    for i, j in itertools.product(np.ndindex(*sizes), np.ndindex(*window)):
        at = tuple(a * s + b * d for a, s, b, d in zip(i, strides, j, dilation, strict=True))
        for g in range(groups):
            ours = slice(g * outputs // groups, (g + 1) * outputs // groups)
            theirs = slice(g * inputs, (g + 1) * inputs)
            y[:, *i, ours] += x[:, *at, theirs] @ kernel[*j][:, ours]
    return y


@pytest.mark.parametrize(
    ("shape", "kernel", "strides", "pads", "dilation", "groups"),
    [
        ((2, 9, 4), (3, 2, 6), (2,), ((2, 1),), (2,), 2),
        ((2, 7, 6, 3), (3, 2, 3, 5), (2, 1), ((1, 0), (0, 2)), (1, 2), 1),
        ((1, 5, 4, 6, 2), (2, 3, 2, 1, 4), (1, 2, 3), ((1, 1), (0, 0), (2, 1)), (1, 1, 2), 2),
    ],
)
def test_a_convolution_is_the_sum_in_any_number_of_axes(
    shape, kernel, strides, pads, dilation, groups
):
    x, k = normal(*shape), normal(*kernel, seed=1)
    found = ops.conv(x, k, strides=strides, padding=pads, dilation=dilation, groups=groups)
    expected = by_loops(x, k, strides, pads, dilation, groups)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("size", "strides"), [(8, 2), (7, 2), (9, 3), (6, 1)])
def test_same_pads_the_odd_zero_behind(size, strides):
    x, k = normal(1, size, 2), normal(4, 2, 3, seed=1)
    missing = max((-(-size // strides) - 1) * strides + 4 - size, 0)
    pads = ((missing // 2, missing - missing // 2),)
    found = ops.conv(x, k, strides=strides, padding="SAME")
    assert found.shape[1] == -(-size // strides)
    np.testing.assert_allclose(found, by_loops(x, k, (strides,), pads, (1,), 1), rtol=1e-11)


def test_a_convolution_is_a_toeplitz_matrix():
    """DLB 9.1: in one axis a matrix with constant diagonals, made of shifted kernels."""
    x, k = normal(1, 10, 1), normal(4, 1, 1, seed=1)
    matrix = np.zeros((7, 10))
    for row in range(7):
        matrix[row, row : row + 4] = k[:, 0, 0]
    np.testing.assert_allclose(ops.conv(x, k)[0, :, 0], matrix @ x[0, :, 0], rtol=1e-11)
    assert (np.diff(np.diagonal(matrix, 2)) == 0).all()


@pytest.mark.parametrize(("channels", "groups"), [(3, 1), (4, 4), (8, 1)])
def test_moving_the_input_round_moves_the_output(channels, groups):
    """DLB 9.2: equivariance to translation, exact where the padding goes round."""
    x, k = normal(2, 6, 7, channels), normal(3, 4, channels // groups, 8, seed=1)
    conv = jax.jit(partial(ops.conv, padding="CIRCULAR", groups=groups))
    moved = conv(np.roll(x, (2, -3), (1, 2)), k)
    np.testing.assert_allclose(moved, np.roll(conv(x, k), (2, -3), (1, 2)), atol=1e-12)


@pytest.mark.parametrize(("strides", "padding", "dilation", "groups"), [(2, 1, 1, 1), (3, 2, 2, 2)])
def test_the_gradient_by_the_input_is_the_transposed_convolution(
    strides, padding, dilation, groups
):
    options = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    x, k = normal(2, 9, 8, 4), normal(3, 3, 4 // groups, 6, seed=1)
    y, pullback = jax.vjp(lambda x: ops.conv(x, k, **options), x)
    g = normal(*y.shape, seed=2)
    # the kernel as the transposed map reads it: in and out exchanged, group by group
    swapped = np.concatenate([np.swapaxes(part, -1, -2) for part in np.split(k, groups, -1)], -1)
    reach = padding * -2 + (3 - 1) * dilation + 1
    more = [
        n - ((m - 1) * strides + reach) for n, m in zip(x.shape[1:-1], y.shape[1:-1], strict=True)
    ]
    found = ops.conv_transpose(g, swapped, **options, output_padding=more)
    np.testing.assert_allclose(found, pullback(g)[0], rtol=1e-10, atol=1e-10)


# --- forms ---------------------------------------------------------------------------------------

CASES = {  # x, kernel, options; each form that can write it is compared
    "1x1": ((2, 5, 6, 8), (1, 1, 8, 3), {"strides": 2}),
    "1x1 padded": ((2, 5, 6, 8), (1, 1, 8, 3), {"padding": ((1, 0), (0, 2))}),
    "few channels": ((3, 8, 7, 2), (5, 3, 2, 4), {"padding": 2, "strides": (1, 2)}),
    "small image": ((2, 4, 3, 8), (3, 3, 8, 6), {"padding": 1}),
    "dilated": ((2, 9, 9, 8), (3, 3, 8, 4), {"padding": "SAME", "dilation": 2}),
    "depthwise": ((2, 6, 7, 4), (3, 5, 1, 4), {"padding": 1, "groups": 4}),
    "depthwise, two outputs each": (
        (2, 6, 7, 4), (3, 3, 1, 8), {"padding": 2, "groups": 4, "strides": 2, "dilation": 2}
    ),
    "depthwise, wide": ((2, 10, 8, 3), (9, 9, 1, 3), {"padding": 4, "groups": 3}),
    "depthwise, round": ((2, 10, 8, 3), (9, 9, 1, 3), {"padding": "CIRCULAR", "groups": 3}),
    "groups": ((2, 6, 5, 6), (3, 3, 2, 9), {"padding": 1, "groups": 3, "strides": 2}),
    "one axis": ((2, 40, 4), (65, 1, 4), {"padding": 32, "groups": 4}),
    "three axes": ((2, 4, 5, 4, 2), (3, 2, 3, 2, 3), {"padding": 1}),
}  # fmt: skip
QUICK = {"few channels", "depthwise, two outputs each", "groups"}
PAIRS = [
    pytest.param(name, form, marks=[] if form == "auto" and name in QUICK else pytest.mark.slow)
    for name, (x, kernel, options) in CASES.items()
    for form in ("auto", *FORMS)
    if form == "auto"
    or (form == "matmul" and options.get("groups", 1) == 1)
    or (form in ("shifts", "fft") and fits(form, x[-1], options.get("groups", 1)))
    if form != "shifts" or np.prod(kernel[:-2]) < 30  # so many take long to compile
]


def gradients(form, name, dtype):
    """Return a function with the value and the gradients, and where to call it."""
    x, k, options = CASES[name]
    x, k = jnp.asarray(normal(*x), dtype), jnp.asarray(normal(*k, seed=1), dtype)

    def loss(x, k):
        y = ops.conv(x, k, implementation=form, **options)
        return jnp.sin(y).sum(), y

    return jax.grad(loss, (0, 1), has_aux=True), (x, k)


def derivatives(form, name):
    """Value, gradients, and the derivative of the gradients along a direction."""
    gradient, (x, k) = gradients(form, name, "float64")
    along = jax.jit(lambda x, k: jax.jvp(gradient, (x, k), (jnp.cos(x), jnp.sin(k))))
    return jax.tree.leaves(along(x, k))


@pytest.fixture(scope="module")
def plain():
    found = {}
    return lambda name: (
        found[name] if name in found else found.setdefault(name, derivatives("lax", name))
    )


@pytest.mark.parametrize(("name", "form"), PAIRS)
def test_every_form_has_the_values_and_derivatives_of_the_plain_one(name, form, plain):
    for found, expected in zip(derivatives(form, name), plain(name), strict=True):
        size = float(abs(expected).max())
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11 * size)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", ["groups", pytest.param("depthwise, wide", marks=pytest.mark.slow)]
)
def test_forms_agree_in_lower_precision(name, dtype, plain):
    gradient, args = gradients("auto", name, dtype)
    tolerance = 1e-4 if dtype == "float32" else 5e-2  # XLA's own form: 4e-2
    found = jax.tree.leaves(jax.jit(gradient)(*args))
    for a, b in zip(found, plain(name)[: len(found)], strict=True):
        assert a.dtype == dtype
        size = float(abs(b).max())
        np.testing.assert_allclose(np.asarray(a, float), b, atol=tolerance * size)


def windows(size, window, strides=1):
    return Windows((size,) * 2, (window,) * 2, (strides,) * 2, (1, 1), ((0, 0),) * 2)


@pytest.mark.parametrize(
    ("shape", "inputs", "outputs", "groups", "form"),
    [
        (windows(32, 3), 64, 64, 1, "lax lax"),
        (windows(32, 1), 64, 64, 1, "matmul matmul"),
        (windows(32, 1, 2), 64, 128, 1, "matmul matmul"),
        (windows(28, 5), 1, 6, 1, f"{FIRST_LAYER} lax"),
        (windows(14, 5), 6, 16, 1, "matmul matmul"),
        (windows(32, 5), 6, 16, 1, "lax lax"),
        (windows(14, 3), 6, 16, 1, "lax lax"),
        (windows(14, 5), 16, 16, 1, "lax lax"),
        (windows(28, 9), 1, 6, 1, "lax lax"),
        (windows(28, 7, 2), 3, 64, 1, "lax lax"),
        (windows(6, 3), 64, 64, 1, "lax lax"),
        (windows(6, 3), 512, 512, 1, "matmul matmul"),
        (windows(32, 3), 64, 64, 64, "shifts shifts"),
        (windows(32, 7), 64, 64, 64, "shifts fft"),
        (windows(64, 9), 64, 64, 64, "fft fft"),
        (windows(64, 31), 64, 64, 64, "fft fft"),
        (windows(32, 3), 64, 64, 8, "blocks blocks"),
    ],
)
def test_the_rule_of_choice_is_that_of_the_measurements(shape, inputs, outputs, groups, form):
    assert " ".join(choose(shape, 128, inputs, outputs, groups)) == form


@pytest.mark.parametrize(("platform", "plain"), [("cpu", False), ("cuda", True), ("tpu", True)])
def test_the_choice_is_made_for_cpus_only(platform, plain):
    x, k = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 1, 4))
    traced = jax.jit(partial(ops.conv, groups=4)).trace(x, k)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.convolution" in text) == plain


def composed(x, kernels):
    """A form of each kind, and a pool, in one function."""
    a, b, c = kernels
    y = ops.conv(x, a, padding=1)  # matmul
    y = ops.conv(y, b, padding=1, groups=4)  # shifts
    y = ops.max_pool(ops.conv(y, c, groups=2), 2)  # blocks
    return jnp.sin(y).sum((1, 2, 3)).mean()


KERNELS = (normal(3, 3, 1, 4, seed=1), normal(3, 3, 1, 4, seed=2), normal(2, 2, 2, 6, seed=3))
BATCH = normal(4, 7, 7, 1)


@pytest.mark.slow
def test_gradients_are_the_same_under_vmap_pmap_and_shard_map():
    gradient = jax.grad(composed, 1)
    expected = jax.jit(gradient)(BATCH, KERNELS)
    parts = BATCH.reshape(2, 2, *BATCH.shape[1:])
    for found in (
        jax.vmap(gradient, (0, None))(parts, KERNELS),
        jax.pmap(gradient, in_axes=(0, None))(parts, KERNELS),
    ):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(np.asarray(a).mean(0), b, rtol=1e-10, atol=1e-12)
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    split, same = PartitionSpec("data"), PartitionSpec()

    def mean(x, kernels):
        return jax.lax.pmean(composed(x, kernels), "data")

    shared = jax.shard_map(mean, mesh=mesh, in_specs=(split, same), out_specs=same)
    for a, b in zip(jax.jit(jax.grad(shared, 1))(BATCH, KERNELS), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


X, K = jnp.ones((1, 5, 5, 4)), jnp.ones((3, 3, 4, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.conv(X[0, 0], K), r"conv\(x, kernel\) must be \(batch, \*spatial, in\)"),
        (lambda: ops.conv(X, K[0]), r"got \(1, 5, 5, 4\) and \(3, 4, 2\)"),
        (lambda: ops.conv(X, K, groups=2), r"conv\(groups=2\) needs a kernel of"),
        (lambda: ops.conv(X, K, strides=0), r"strides=...\) must be one number >= 1 or 2"),
        (lambda: ops.conv(X, K, strides=(1, 1, 1)), r"of them, got \(1, 1, 1\)"),
        (lambda: ops.conv(X, K, padding=-1), r"padding=...\) must be >= 0, one number or 2"),
        (lambda: ops.conv(X, K, padding="same"), "or \"CIRCULAR\", got 'same'"),
        (lambda: ops.conv(X, K, dilation=3), r"reaches over \(7, 7\) does not fit into \(5, 5\)"),
        (lambda: ops.conv(X, K, implementation="fft"), r"for 1 groups of 4 channels, got 'fft'"),
        (lambda: ops.conv(X, K, implementation="fast"), r"must be auto or one of lax"),
        (lambda: ops.conv_transpose(X, K, padding=4), r"padding=4\) leaves nothing of"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
