"""Normalisation layers against PyTorch's: ours, and those of Flax that need no replacement."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from fdl.models import BatchNorm

FOLDER = Path(__file__).parents[1] / "fixtures" / "norms"
CONFIG = json.loads((FOLDER / "config.json").read_text())
DATA = np.load(FOLDER / "data.npz")
WEIGHTS = load_file(FOLDER / "weights.safetensors")
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}
BATCH_NORMS = sorted(n.removesuffix(":eval") for n in DATA if n.startswith("bn") and "eval" in n)
OTHERS = sorted(
    n.removesuffix(":eval") for n in DATA if n.endswith(":eval") and not n.startswith("bn")
)
EPSILON = 1e-5  # PyTorch's default for all of them


def nhwc(x):
    return np.moveaxis(x, 1, -1) if x.ndim > 3 else x


def batch_norm(name, dtype):
    """PyTorch's momentum is one less Flax's: `bn_m05` has 0.5, the others the default 0.1."""
    digits = name.rpartition("_m")[2] if "_m" in name else "01"
    momentum = 1 - float(f"{digits[0]}.{digits[1:]}")
    features = DATA["x"].shape[1]
    affine = f"{name}.weight" in WEIGHTS
    norm = BatchNorm(
        features, affine=affine, momentum=momentum, epsilon=EPSILON, unbiased_running_var=True
    )
    parts = {"mean": "running_mean", "var": "running_var"}
    parts |= {"scale": "weight", "bias": "bias"} if affine else {}
    for ours, theirs in parts.items():
        variable = getattr(norm, ours)
        variable.set_value(jnp.asarray(WEIGHTS[f"{name}.{theirs}"], dtype))
    return norm


def backwards(module, x):
    out, pullback = jax.vjp(module, x)
    # PyTorch's loss is sum(y * cos(arange)) over its own order of axes
    shape = DATA["x"].shape
    weights = nhwc(np.cos(np.arange(DATA["x"].size)).reshape(shape)).astype(x.dtype)
    return out, pullback(jnp.asarray(weights))[0]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", BATCH_NORMS)
def test_batch_norm_is_that_of_pytorch(name, dtype):
    x = jnp.asarray(nhwc(DATA["x"]), dtype)
    norm = batch_norm(name, dtype)
    norm.eval()
    close = {**TOLERANCE[dtype]}
    np.testing.assert_allclose(norm(x), nhwc(DATA[f"{name}:eval"]), **close)
    norm.train()
    # the running averages are data on the side: a gradient may not change them
    gradient = backwards(lambda x: batch_norm(name, dtype)(x), x)[1]
    np.testing.assert_allclose(norm(x), nhwc(DATA[f"{name}:train"]), **close)
    np.testing.assert_allclose(gradient, nhwc(DATA[f"{name}:grad_x"]), **close)
    for after, batch in ((1, None), (2, 2 * x - 1)):
        if batch is not None:
            norm(batch)
        for ours, theirs in (("mean", "running_mean"), ("var", "running_var")):
            expected = DATA[f"{name}:after_{after}:{theirs}"]
            np.testing.assert_allclose(getattr(norm, ours)[...], expected, **close)


def flax_norm(name, dtype):
    """Flax's own, with PyTorch's epsilon and in its groups: `gn4` has four."""
    features, options = DATA["x"].shape[1], {"epsilon": EPSILON, "rngs": nnx.Rngs(0)}
    options |= {"param_dtype": dtype, "use_fast_variance": False}
    if name.startswith("gn"):
        norm = nnx.GroupNorm(features, num_groups=int(name[2:]), **options)
    elif name == "inorm":
        norm = nnx.InstanceNorm(features, **options)
    else:
        norm = nnx.LayerNorm(DATA["x"][0].size, **options)
    for ours, theirs in (("scale", "weight"), ("bias", "bias")):
        values = np.moveaxis(WEIGHTS[f"{name}.{theirs}"], 0, -1)
        getattr(norm, ours).set_value(jnp.asarray(values.ravel(), dtype))
    if name == "ln":  # over all axes of an example, which are one in Flax
        return lambda x: norm(x.reshape(len(x), -1)).reshape(x.shape)
    return norm


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", OTHERS)
def test_other_norms_of_flax_are_those_of_pytorch(name, dtype):
    out, gradient = backwards(flax_norm(name, dtype), jnp.asarray(nhwc(DATA["x"]), dtype))
    np.testing.assert_allclose(out, nhwc(DATA[f"{name}:train"]), **TOLERANCE[dtype])
    np.testing.assert_allclose(out, nhwc(DATA[f"{name}:eval"]), **TOLERANCE[dtype])
    np.testing.assert_allclose(gradient, nhwc(DATA[f"{name}:grad_x"]), **TOLERANCE[dtype])


def test_weight_norm_of_flax_is_that_of_pytorch():
    v, g = DATA["wn_v"], DATA["wn_g"]
    linear = nnx.Linear(*v.shape[::-1], param_dtype=np.float64, rngs=nnx.Rngs(0))
    linear.kernel.set_value(jnp.asarray(v.T, np.float64))
    linear.bias.set_value(jnp.asarray(DATA["wn_b"], np.float64))
    norm = nnx.WeightNorm(linear, epsilon=0.0, param_dtype=np.float64, rngs=nnx.Rngs(0))
    graph, state = nnx.split(norm)
    state = jax.tree.map_with_path(  # versions of Flax keep the scales in different containers
        lambda path, leaf: jnp.asarray(g[:, 0]) if "scales" in jax.tree_util.keystr(path) else leaf,
        state,
    )
    norm = nnx.merge(graph, state)
    np.testing.assert_allclose(norm(jnp.asarray(DATA["wn_x"], np.float64)), DATA["wn_y"], rtol=1e-9)


def test_every_array_of_the_fixture_is_held():
    stems = {name.split(":")[0] for name in CONFIG["arrays"]}
    weight_norm = {n for n in stems if n.startswith("wn_")}
    assert stems == {*BATCH_NORMS, *OTHERS, "x", *weight_norm}
