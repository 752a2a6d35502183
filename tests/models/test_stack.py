"""Layers trained one by one become a network that computes what the stack of them did."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fdl import models, ops
from fdl.pure import pure

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.uniform(size=(5, 6)))


def moved(module):
    """A model whose parameters are all random: no bias is 0, no gain 1."""
    apply, params, extra = pure(module)
    return apply, jax.tree.map(lambda p: jnp.asarray(RNG.normal(size=p.shape)), params), extra


def network(hidden=(4, 3), unit=ops.sigmoid):
    config = models.MLPConfig(6, hidden, 2, unit=models.dense(unit))
    return moved(models.MLP(config, rngs=nnx.Rngs(0)))


def trained(kind, below, units):
    if kind == "autoencoder":
        return moved(
            models.Autoencoder(models.AutoencoderConfig(below, (units,)), rngs=nnx.Rngs(0))
        )
    if kind == "rbm":
        return moved(models.RBM(models.RBMConfig(below, units), rngs=nnx.Rngs(0)))
    return moved(models.PSD(models.PSDConfig(below, units), rngs=nnx.Rngs(0)))


def layer(kind, params, unit=ops.sigmoid):
    if kind == "autoencoder":
        return models.StackedLayer(**params["encoder"][0])
    if kind == "rbm":
        return models.StackedLayer(params["kernel"], params["hidden_bias"])
    e = params["encoder"]
    if unit is ops.tanh:
        return models.StackedLayer(e["kernel"], e["bias"], scale=e["gain"])
    return models.tanh_as_sigmoid(e["kernel"], e["bias"], e["gain"])


def test_a_network_keeps_its_types():
    net = models.MLP(models.MLPConfig(6, (4,), 2, unit=models.dense(ops.sigmoid)), rngs=nnx.Rngs(0))
    params = pure(net).params
    layers = [models.tanh_as_sigmoid(np.ones((6, 4)), np.ones(4), np.ones(4))]
    new = models.stack_layers(params, layers)
    assert jax.tree.map(lambda a: a.dtype, new) == jax.tree.map(lambda a: a.dtype, params)


@pytest.mark.parametrize(
    ("kind", "unit"),
    [
        ("autoencoder", ops.sigmoid),
        ("rbm", ops.sigmoid),
        ("psd", ops.sigmoid),
        ("psd", ops.tanh),
    ],
)
@pytest.mark.parametrize("trained_layers", [1, 2])
def test_the_network_begins_as_its_trained_layers(kind, unit, trained_layers):
    apply, params, extra = network(unit=unit)
    stack = [trained(kind, *sizes) for sizes in ((6, 4), (4, 3))[:trained_layers]]
    codes = X
    for encode, p, e in stack:
        codes = encode(p, e, codes, method="encode")[0]
    if trained_layers == 1:  # what is above is the network's own
        above = params["hidden"][1]["affine"]
        codes = unit(codes @ above["kernel"] + above["bias"][None])
    expected = codes @ params["output"]["kernel"] + params["output"]["bias"][None]
    new = models.stack_layers(params, [layer(kind, p, unit) for _, p, _ in stack])
    np.testing.assert_allclose(apply(new, extra, X)[0], expected, rtol=1e-9)


def test_layers_of_an_rbm_are_copied_as_they_are_and_nothing_else_is_changed():
    _, params, _ = network()
    rbm = trained("rbm", 6, 4)[1]
    new = models.stack_layers(params, [layer("rbm", rbm)])
    np.testing.assert_array_equal(new["hidden"][0]["affine"]["kernel"], rbm["kernel"])
    np.testing.assert_array_equal(new["hidden"][0]["affine"]["bias"], rbm["hidden_bias"])
    for part in (lambda p: p["hidden"][1], lambda p: p["output"]):
        jax.tree.map(np.testing.assert_array_equal, part(new), part(params))
    jax.tree.map(np.testing.assert_array_equal, models.stack_layers(params, []), params)
    assert jax.tree.structure(new) == jax.tree.structure(params)


def test_what_does_not_fit_is_refused():
    _, params, _ = network()
    fits = models.StackedLayer(jnp.ones((6, 4)), jnp.ones(4))
    with pytest.raises(ValueError, match=r"must be <= 2, the hidden layers, got 3"):
        models.stack_layers(params, [fits] * 3)
    with pytest.raises(ValueError, match=r"kernel of layer 0 must be of shape \(6, 4\), got"):
        models.stack_layers(params, [models.StackedLayer(jnp.ones((6, 5)), jnp.ones(5))])
    with pytest.raises(ValueError, match=r"bias of layer 0 must be of shape \(4,\), got"):
        models.stack_layers(params, [models.StackedLayer(jnp.ones((6, 4)), jnp.ones(1))])


def test_raw_input_reaches_every_hidden_layer():
    config = models.MLPConfig(6, (4, 3), 2, unit=models.dense(ops.tanh), raw_input=True)
    apply, params, extra = moved(models.MLP(config, rngs=nnx.Rngs(0)))
    parts = jax.tree.map(np.asarray, params)
    first, second = (parts["hidden"][i]["affine"] for i in (0, 1))
    x = np.asarray(X)
    h = np.tanh(x @ first["kernel"] + first["bias"])
    h = np.tanh(h @ second["kernel"][:4] + x @ second["kernel"][4:] + second["bias"])
    expected = h @ parts["output"]["kernel"] + parts["output"]["bias"]
    np.testing.assert_allclose(apply(params, extra, X)[0], expected, rtol=1e-9)
