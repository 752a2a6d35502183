"""Each network of fdl.models trains on many devices as on one, statistics and dropout included."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from fdl import losses, models, train
from fdl.pure import pure

pytestmark = pytest.mark.usefixtures("compile_quickly")

BATCH, TIME, CLASSES = 8, 5, 3
TX = optax.sgd(0.1, momentum=0.9)
Tree = Any


class LastState(nnx.Module):
    """Classify sequences of several lengths by the last output of a recurrent network."""

    def __init__(self, config: models.RNNConfig, *, rngs: nnx.Rngs):
        self.rnn = models.RNN(config, rngs=rngs)
        self.output = nnx.Linear(config.units * (1 + config.bidirectional), CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array, lengths: jax.Array, *, rngs: nnx.Rngs | None = None):
        y, _ = self.rnn(x, lengths=lengths, rngs=rngs)
        return self.output(y[jnp.arange(len(x)), lengths - 1])


class Supervised(nnx.Module):
    """Hand a model the arrays of these names, and keys if it has something random."""

    def __init__(self, model: nnx.Module, *names: str, random: bool = True):
        self.model, self.names, self.random = model, names, random

    def __call__(self, batch: Tree, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        keys = {"rngs": rngs} if self.random else {}
        return self.model(*(batch[name] for name in self.names), **keys)


def cnn(rngs: nnx.Rngs) -> Supervised:
    config = models.CNNConfig.tiny(dropout=0.5, batch_norm=True)
    return Supervised(models.CNN(config, rngs=rngs), "image")


def resnet(rngs: nnx.Rngs, **changes: Any) -> Supervised:
    config = models.ResNetConfig.tiny(features_in=2, **changes)
    return Supervised(models.ResNet(config, rngs=rngs), "image", random=False)


def rnn(rngs: nnx.Rngs, **changes: Any) -> Supervised:
    config = models.RNNConfig.tiny(dropout=0.5, **changes)
    return Supervised(LastState(config, rngs=rngs), "series", "lengths")


def rnn_lm(rngs: nnx.Rngs) -> Supervised:
    config = models.RNNLMConfig.tiny(dropout=0.5)
    return Supervised(models.RNNLM(config, rngs=rngs), "tokens")


def seq2seq(rngs: nnx.Rngs) -> Supervised:
    config = models.Seq2SeqConfig.tiny(dropout=0.5)
    return Supervised(models.Seq2Seq(config, rngs=rngs), "tokens", "targets")


MODELS = {
    "cnn": cnn,
    "resnet": resnet,
    "resnet v2": lambda rngs: resnet(rngs, preactivation=True),
    "lstm": lambda rngs: rnn(rngs, cell=models.lstm()),
    "elman, both directions": lambda rngs: rnn(rngs, cell=models.elman(), bidirectional=True),
    "gru": lambda rngs: rnn(rngs, cell=models.gru()),
    "rnn_lm": rnn_lm,
    "seq2seq": seq2seq,
}


def batch(seed: int) -> Tree:
    rng = np.random.default_rng(seed)
    return {
        "image": rng.standard_normal((BATCH, 6, 5, 2)).astype(np.float32),
        "series": rng.standard_normal((BATCH, TIME, 3)).astype(np.float32),
        "lengths": rng.integers(1, TIME + 1, BATCH).astype(np.int32),
        "tokens": rng.integers(0, 11, (BATCH, TIME)).astype(np.int32),
        "targets": rng.integers(0, 11, (BATCH, TIME)).astype(np.int32),
        "label": rng.integers(0, CLASSES, BATCH).astype(np.int32),
    }


def trained(name: str, how: str, devices: int) -> tuple[Tree, list[float]]:
    """Take three steps; return all parameters and statistics and the losses."""
    apply, params, extra = pure(MODELS[name](nnx.Rngs(0)))

    def objective(params: Tree, extra: Tree, batch: Tree, key: jax.Array) -> tuple[Any, Tree]:
        out, extra = apply(params, extra, batch, key=key, train=True)
        wanted = batch["label"] if out.ndim == 2 else batch["targets"]
        return losses.softmax_cross_entropy(out, wanted).mean(), (extra, {})

    runner = train.lift(train.make_step(objective, TX), how, devices=devices)
    state = runner.put(train.init_state(params, extra, TX))
    seen = []
    for i in range(3):
        state, metrics = runner.step(state, batch(i))
        seen.append(float(train.floats(runner.get(metrics))["loss"]))
    runner.check(state)
    final = runner.get(state)
    return {"params": final.params, "extra": final.extra}, seen


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pmap", "shard_map"])
@pytest.mark.parametrize("name", MODELS)
def test_a_network_trains_on_four_devices_as_on_one(name, how):
    one, losses_of_one = trained(name, "none", 1)
    four, losses_of_four = trained(name, how, 4)
    assert len(set(losses_of_one)) == 3  # it did learn
    np.testing.assert_allclose(losses_of_four, losses_of_one, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), four, one)


@pytest.mark.slow
def test_dropout_and_statistics_are_in_what_is_compared():
    apply, params, extra = pure(cnn(nnx.Rngs(0)))
    first, moved = apply(params, extra, batch(0), key=keys(0), train=True)
    second, _ = apply(params, extra, batch(0), key=keys(1), train=True)
    assert float(jnp.abs(first - second).max()) > 0.01
    changes = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), moved, extra)
    assert max(jax.tree.leaves(changes)) > 0.01


def keys(seed: int) -> jax.Array:
    return jax.random.split(jax.random.key(seed), BATCH)
