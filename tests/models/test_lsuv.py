"""Layer-sequential unit variance: what every layer puts out, on nets of any kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fdl import models, ops
from fdl.models import MLP, MLPConfig, lsuv
from fdl.pure import pure

X = 3 + 2 * np.random.default_rng(0).normal(size=(300, 12))


class ConvNet(nnx.Module):
    """Two convolutions and a pooling between them, in an order that names do not tell."""

    def __init__(self, rngs):
        self.z = nnx.Conv(2, 8, (3, 3), rngs=rngs)
        self.a = nnx.Conv(8, 4, (3, 3), strides=2, rngs=rngs)
        self.out = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        h = jax.nn.relu(self.z(x))
        h = jax.nn.relu(self.a(nnx.max_pool(h, (2, 2), (2, 2))))
        return self.out(h.mean((1, 2)))


def outputs(net, x):
    """The affine maps' outputs of an MLP of rectifiers, in NumPy."""
    seen, h = [], x
    for layer in [*(hidden.affine for hidden in net.hidden), net.output]:
        z = h @ np.asarray(layer.kernel[...], float) + np.asarray(layer.bias[...], float)
        seen.append(z)
        h = np.maximum(z, 0)
    return seen


def test_every_layer_of_a_deep_net_puts_out_unit_variance():
    net = MLP(MLPConfig(12, (40,) * 4, 3), rngs=nnx.Rngs(0))
    new, report = lsuv(net, X, key=jax.random.key(1), tolerance=0.01)
    np.testing.assert_allclose([z.var() for z in outputs(new, X)], 1, atol=0.01)
    assert [r.layer for r in report] == [f"hidden.{i}.affine" for i in range(4)] + ["output"]
    # and what was said of the weights before the scaling holds: they are orthonormal
    kernel = np.asarray(new.hidden[1].affine.kernel[...], float)
    np.testing.assert_allclose(kernel.T @ kernel / (kernel[:, 0] ** 2).sum(), np.eye(40), atol=1e-5)


def test_without_a_key_weights_keep_their_directions():
    net = MLP(MLPConfig(12, (20,), 3), rngs=nnx.Rngs(0))
    new, report = lsuv(net, X)
    for before, after in ((net.hidden[0].affine, new.hidden[0].affine), (net.output, new.output)):
        ratio = np.asarray(after.kernel[...]) / np.asarray(before.kernel[...])
        np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-5)
    assert report[0].before == pytest.approx(outputs(net, X)[0].var(), rel=1e-4)


@pytest.mark.parametrize("unit", [models.prelu(), models.maxout(), models.dense(ops.tanh)])
def test_any_unit_and_batch_normalisation_may_lie_between(unit):
    net = MLP(MLPConfig(12, (30, 30), 4, unit=unit, dropout=0.2), rngs=nnx.Rngs(0))
    new, report = lsuv(net, X, key=jax.random.key(1), rngs=nnx.Rngs(dropout=0))
    assert len(report) == 3 and all(abs(r.after - 1) < 0.1 for r in report)
    assert new(X, rngs=nnx.Rngs(dropout=0)).var() == pytest.approx(1, abs=0.1)


def test_convolutions_are_scaled_in_the_order_of_their_calls():
    x = np.random.default_rng(1).normal(size=(64, 6, 6, 2))
    new, report = lsuv(ConvNet(nnx.Rngs(0)), x, key=jax.random.key(0), tolerance=1e-3)
    assert [r.layer for r in report] == ["z", "a", "out"]
    assert new(x).var() == pytest.approx(1, abs=1e-3)
    first = jax.nn.relu(new.z(x))
    assert new.a(nnx.max_pool(first, (2, 2), (2, 2))).var() == pytest.approx(1, abs=1e-3)


def test_the_module_handed_in_and_its_statistics_stay_as_they_are():
    net = MLP(MLPConfig(12, (20,), 3, batch_norm=True), rngs=nnx.Rngs(0))
    before = jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(net)))
    new, _ = lsuv(net, X, key=jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, before, nnx.to_pure_dict(nnx.state(net)))
    np.testing.assert_array_equal(new.hidden[0].affine.norm.mean[...], 0)
    apply, params, extra = pure(new)  # and the copy trains as any module
    out, _ = apply(params, extra, X, train=True)
    assert out.shape == (300, 3)
    assert jax.tree.structure(params) == jax.tree.structure(pure(net)[1])


def test_a_shared_layer_is_scaled_once_for_all():
    class Twice(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(12, 12, rngs=rngs)
            self.second = self.first

        def __call__(self, x):
            return self.second(jnp.tanh(self.first(x)))

    new, report = lsuv(Twice(nnx.Rngs(0)), X)
    assert len(report) == 1 and new.first is new.second


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: lsuv(net, X, tolerance=0), r"lsuv\(tolerance=...\) must be > 0, got 0"),
        (lambda net: lsuv(net, X, max_rounds=0), r"lsuv\(max_rounds=...\) must be >= 1, got 0"),
        (lambda net: lsuv(nnx.Dropout(0.0), X), "must call linear layers, got Dropout"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(MLP(MLPConfig.tiny(features_in=12), rngs=nnx.Rngs(0)))
