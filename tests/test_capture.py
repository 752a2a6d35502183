"""What the parts of a model return can be had by name, and having it changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fdl import models
from fdl.pure import in_precision, pure


class Stack(nnx.Module):
    """Layers in a list and in a dict, one of them called twice, one never; a method beside."""

    def __init__(self, rngs: nnx.Rngs):
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(3)])
        self.heads = nnx.Dict(
            {"one": nnx.Linear(4, 2, rngs=rngs), "unused": nnx.Linear(4, 2, rngs=rngs)}
        )
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5)

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        x = jnp.tanh(self.layers[0](x))
        return self.heads["one"](self.drop(self.norm(x), rngs=rngs))

    def first(self, x: jax.Array) -> jax.Array:
        return self.layers[0](x) + self.layers[0].bias[...][None]


class Rematerialised(nnx.Module):
    """What its layer returns is a value inside a transformation."""

    def __init__(self, rngs: nnx.Rngs):
        self.layer = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return nnx.remat(lambda layer, x: jnp.tanh(layer(x)))(self.layer, x)


X = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)
NAMES = ("layers.1", "layers.0", "heads.one", "norm", "drop")


def stack():
    return pure(Stack(nnx.Rngs(0)))


def linear(params, x):
    return x @ params["kernel"] + params["bias"][None]


def test_captured_are_the_outputs_of_the_parts():
    apply, params, extra = stack()
    (out, seen), _ = apply(params, extra, X, capture=NAMES)
    assert list(seen) == list(NAMES)
    layers = params["layers"]
    first = jnp.tanh(linear(layers[0], X))
    np.testing.assert_allclose(seen["layers.1"], linear(layers[1], first), rtol=1e-6)
    last = jnp.tanh(linear(layers[2], jnp.tanh(seen["layers.1"])))
    np.testing.assert_allclose(
        seen["layers.0"], linear(layers[0], last), rtol=1e-5
    )  # its last call
    np.testing.assert_array_equal(seen["heads.one"], out)


@pytest.mark.parametrize("train", [False, True])
def test_the_model_computes_what_it_does_without(train):
    apply, params, extra = stack()
    options = {"key": jax.random.key(1), "train": train}
    plain, plain_extra = jax.jit(lambda p: apply(p, extra, X, **options))(params)
    (out, _), new = jax.jit(lambda p: apply(p, extra, X, capture=NAMES, **options))(params)
    np.testing.assert_allclose(out, plain, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, new, plain_extra)
    again, _ = apply(params, extra, X, **options)  # nothing is left behind
    np.testing.assert_allclose(again, plain, rtol=1e-6)


def test_gradients_and_maps_pass_through_what_is_captured():
    apply, params, extra = stack()

    def height(params, x):
        (_, seen), _ = apply(params, extra, x, capture=("layers.1",))
        return jnp.square(seen["layers.1"]).sum()

    slope = jax.jit(jax.grad(height))(params, X)
    assert float(jnp.abs(slope["layers"][1]["kernel"]).max()) > 0.1
    assert not jnp.any(slope["layers"][2]["kernel"])  # above it
    each = jax.vmap(lambda x: height(params, x[None]))(X)
    np.testing.assert_allclose(each.sum(), height(params, X), rtol=1e-5)


def test_a_shared_part_is_found_under_each_of_its_names():
    class Twice(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.first = nnx.Linear(4, 4, rngs=rngs)
            self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs), self.first])

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.layers[1](self.layers[0](x))

    apply, params, extra = pure(Twice(nnx.Rngs(0)))
    (out, seen), _ = apply(params, extra, X, capture=("first", "layers.1", "layers.0"))
    for name in ("first", "layers.1"):
        np.testing.assert_array_equal(seen[name], out)
    np.testing.assert_allclose(seen["layers.0"], linear(params["layers"][0], X), rtol=1e-6)


def test_methods_precision_and_the_models_of_the_library():
    apply, params, extra = stack()
    (out, seen), _ = apply(params, extra, X, method="first", capture=("layers.0",))
    np.testing.assert_allclose(out, seen["layers.0"] + params["layers"][0]["bias"][None], rtol=1e-6)
    (out, seen), _ = in_precision(apply, jnp.bfloat16)(params, extra, X, capture=("layers.0",))
    assert out.dtype == seen["layers.0"].dtype == jnp.float32
    apply, params, extra = pure(models.CNN(models.CNNConfig.tiny(), rngs=nnx.Rngs(0)))
    (_, seen), _ = apply(params, extra, jnp.ones((2, 6, 5, 2)), capture=("stages.0", "stages.1"))
    assert all(len(h) == 2 for h in seen.values())


def test_names_that_are_not_there_or_not_called_are_told():
    apply, params, extra = stack()
    with pytest.raises(
        ValueError, match=r"must name parts of the model \(drop, .*layers\.2.*\['layers\.3'\]"
    ):
        apply(params, extra, X, capture=("layers.3",))
    with pytest.raises(ValueError, match=r"did not call \['heads\.unused'\]"):
        apply(params, extra, X, capture=("norm", "heads.unused"))
    hidden, values, state = pure(Rematerialised(nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"did not call \['layer'\], or did so inside nnx\.remat"):
        hidden(values, state, X, capture=("layer",))
    with pytest.raises(ValueError, match="a sequence of names, got 'norm'"):
        apply(params, extra, X, capture="norm")
    assert apply(params, extra, X)[0].shape == (5, 2)


def test_an_error_on_the_way_leaves_nothing_behind():
    apply, params, extra = stack()
    with pytest.raises(TypeError):
        apply(params, extra, jnp.ones((2, 9)), capture=("norm",))
    (_, seen), _ = apply(params, extra, X, capture=("norm",))
    assert set(seen) == {"norm"}
