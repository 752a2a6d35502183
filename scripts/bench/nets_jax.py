"""The networks of nets.py in JAX: with fdl, with Flax's own layers, and by hand."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fdl import models
from fdl.models.cnn import CNN, CNNConfig, Stage
from fdl.pure import pure
from fdl.train.parallel import lift
from fdl.train.state import init_state
from fdl.train.step import make_step

Batch = dict[str, np.ndarray]
Contender = Callable[[Batch], Any]  # one step; returns the loss, not waited for
CONV = ("NHWC", "HWIO", "NHWC")


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


# --- the network of each workload, from fdl and from Flax ----------------------------------------


class FlaxLeNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.first = nnx.Conv(1, 6, (5, 5), padding=2, rngs=rngs)
        self.second = nnx.Conv(6, 16, (5, 5), padding="VALID", rngs=rngs)
        self.dense = nnx.List(
            [nnx.Linear(i, o, rngs=rngs) for i, o in ((400, 120), (120, 84), (84, 10))]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        pool = partial(nnx.max_pool, window_shape=(2, 2), strides=(2, 2))
        x = pool(jax.nn.relu(self.second(pool(jax.nn.relu(self.first(x)))))).reshape(len(x), -1)
        for layer in list(self.dense)[:2]:
            x = jax.nn.relu(layer(x))
        return self.dense[2](x)


class FlaxBlock(nnx.Module):
    def __init__(self, wide_in: int, wide: int, stride: int, rngs: nnx.Rngs):
        conv = partial(nnx.Conv, use_bias=False, rngs=rngs)
        self.first = conv(wide_in, wide, (3, 3), strides=stride, padding=1)
        self.second = conv(wide, wide, (3, 3), padding=1)
        norm = partial(nnx.BatchNorm, wide, momentum=0.9, rngs=rngs)
        self.norms = nnx.List([norm(), norm()])
        self.shortcut = nnx.data(None)
        if stride != 1 or wide_in != wide:
            self.shortcut = conv(wide_in, wide, (1, 1), strides=stride, padding="VALID")
            self.norms.append(norm())

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.norms[1](self.second(jax.nn.relu(self.norms[0](self.first(x)))))
        return jax.nn.relu(y + (x if self.shortcut is None else self.norms[2](self.shortcut(x))))


class FlaxResNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.stem = nnx.Conv(3, 64, (3, 3), padding=1, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(64, momentum=0.9, rngs=rngs)
        blocks, wide_in = [], 64
        for wide, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks += [FlaxBlock(wide_in, wide, stride, rngs), FlaxBlock(wide, wide, 1, rngs)]
            wide_in = wide
        self.blocks = nnx.List(blocks)
        self.output = nnx.Linear(512, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.output(x.mean((1, 2)))


class FlaxLM(nnx.Module):
    def __init__(self, vocabulary: int, units: int, rngs: nnx.Rngs):
        self.embedding = nnx.Embed(vocabulary, units, rngs=rngs)
        self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(units, units, rngs=rngs), rngs=rngs)
        self.output = nnx.Linear(units, vocabulary, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.output(self.rnn(self.embedding(tokens)))


def fdl_lm(vocabulary: int, units: int) -> models.RNNLM:
    return models.RNNLM(models.RNNLMConfig(vocabulary, units, units), rngs=nnx.Rngs(0))


def fdl_lenet() -> CNN:
    stages = (Stage(6, 5, padding=2, pool="max"), Stage(16, 5, padding=0, pool="max"))
    config = CNNConfig((28, 28, 1), stages, 10, hidden=(120, 84))
    return CNN(config, rngs=nnx.Rngs(0))


def fdl_resnet() -> models.ResNet:
    config = models.ResNetConfig.resnet18(10, features_in=3, stem="cifar")
    return models.ResNet(config, rngs=nnx.Rngs(0))


def fdl_mlp() -> models.MLP:
    return models.MLP(models.MLPConfig(784, (1024, 1024), 10), rngs=nnx.Rngs(0))


class FlaxMLP(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        sizes = (784, 1024, 1024, 10)
        self.layers = nnx.List(
            [nnx.Linear(i, o, rngs=rngs) for i, o in zip(sizes, sizes[1:], strict=False)]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in list(self.layers)[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x)


# --- networks by hand: a tree of parameters and a function ---------------------------------------


def scaled(rng: np.random.Generator, *shape: int) -> jax.Array:
    return jnp.asarray(rng.standard_normal(shape, np.float32) * np.prod(shape[:-1]) ** -0.5)


def hand_lenet() -> tuple[Any, Callable[..., jax.Array]]:
    rng = np.random.default_rng(0)
    shapes = [(5, 5, 1, 6), (5, 5, 6, 16), (400, 120), (120, 84), (84, 10)]
    params = [(scaled(rng, *shape), jnp.zeros(shape[-1])) for shape in shapes]

    def forward(params: Any, x: jax.Array) -> jax.Array:
        for (w, b), padding in zip(params[:2], ("SAME", "VALID"), strict=True):
            x = jax.nn.relu(
                jax.lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=CONV) + b
            )
            n, high, wide, c = x.shape
            x = x.reshape(n, high // 2, 2, wide // 2, 2, c).max((2, 4))
        x = x.reshape(len(x), -1)
        for w, b in params[2:4]:
            x = jax.nn.relu(x @ w + b)
        return x @ params[4][0] + params[4][1]

    return params, forward


def hand_resnet() -> tuple[Any, Callable[..., jax.Array]]:
    """ResNet-18; the running statistics, which training does not read, are left out."""
    rng = np.random.default_rng(0)

    def conv(x: jax.Array, w: jax.Array, stride: int = 1) -> jax.Array:
        pad = w.shape[0] // 2
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), ((pad, pad), (pad, pad)), dimension_numbers=CONV
        )

    def norm(x: jax.Array, p: Any) -> jax.Array:
        mean = x.mean((0, 1, 2))
        var = jnp.square(x).mean((0, 1, 2)) - jnp.square(mean)
        return (x - mean) * (p[0] * jax.lax.rsqrt(var + 1e-5)) + p[1]

    def layer(size: int, wide_in: int, wide: int) -> Any:
        return scaled(rng, size, size, wide_in, wide), (jnp.ones(wide), jnp.zeros(wide))

    blocks, strides, wide_in = [], [], 64
    for wide, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for s, before in ((stride, wide_in), (1, wide)):
            block = {"first": layer(3, before, wide), "second": layer(3, wide, wide)}
            blocks.append(block | ({"shortcut": layer(1, before, wide)} if before != wide else {}))
            strides.append(s)
        wide_in = wide
    output = scaled(rng, 512, 10), jnp.zeros(10)
    params = {"stem": layer(3, 3, 64), "blocks": blocks, "output": output}

    def forward(params: Any, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(norm(conv(x, params["stem"][0]), params["stem"][1]))
        for block, s in zip(params["blocks"], strides, strict=True):
            y = jax.nn.relu(norm(conv(x, block["first"][0], s), block["first"][1]))
            y = norm(conv(y, block["second"][0]), block["second"][1])
            if "shortcut" in block:
                x = norm(conv(x, block["shortcut"][0], s), block["shortcut"][1])
            x = jax.nn.relu(x + y)
        return x.mean((1, 2)) @ params["output"][0] + params["output"][1]

    return params, forward


def hand_lm(vocabulary: int, units: int) -> tuple[Any, Callable[..., jax.Array]]:
    rng = np.random.default_rng(0)
    params = {
        "embedding": scaled(rng, vocabulary, units),
        "gates": (scaled(rng, 2 * units, 4 * units), jnp.zeros(4 * units)),
        "output": (scaled(rng, units, vocabulary), jnp.zeros(vocabulary)),
    }

    def forward(params: Any, tokens: jax.Array) -> jax.Array:
        w, b = params["gates"]

        def cell(carry: Any, x: jax.Array) -> Any:
            h, c = carry
            i, f, g, o = jnp.split(jnp.concatenate([x, h], -1) @ w + b, 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((len(tokens), units))
        _, y = jax.lax.scan(cell, (zero, zero), params["embedding"][tokens.T])
        return y.swapaxes(0, 1) @ params["output"][0] + params["output"][1]

    return params, forward


def hand_mlp() -> tuple[Any, Callable[..., jax.Array]]:
    rng = np.random.default_rng(0)
    shapes = [(784, 1024), (1024, 1024), (1024, 10)]
    params = [(scaled(rng, *shape), jnp.zeros(shape[-1])) for shape in shapes]

    def forward(params: Any, x: jax.Array) -> jax.Array:
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        return x @ params[-1][0] + params[-1][1]

    return params, forward


# --- a step of each kind -------------------------------------------------------------------------


def fdl_step(module: nnx.Module, tx: optax.GradientTransformation) -> Contender:
    apply, params, extra = pure(module)

    def objective(params: Any, extra: Any, batch: Any, key: jax.Array) -> Any:
        logits, extra = apply(params, extra, batch["x"], key=key, train=True)
        return cross_entropy(logits, batch["y"]), (extra, {})

    runner = lift(make_step(objective, tx), "none")
    state = runner.put(init_state(params, extra, tx))

    def step(batch: Batch) -> jax.Array:
        nonlocal state
        state, metrics = runner.step(state, batch)
        return metrics["loss"]

    return step


def hand_step(network: Any, tx: optax.GradientTransformation) -> Contender:
    params, forward = network
    opt_state = tx.init(params)

    def update(params: Any, opt_state: Any, x: jax.Array, y: jax.Array) -> Any:
        loss, grads = jax.value_and_grad(lambda p: cross_entropy(forward(p, x), y))(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    compiled = jax.jit(update, donate_argnums=(0, 1))

    def step(batch: Batch) -> jax.Array:
        nonlocal params, opt_state
        params, opt_state, loss = compiled(params, opt_state, batch["x"], batch["y"])
        return loss

    return step


def nnx_step(model: nnx.Module, tx: optax.GradientTransformation) -> Contender:
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def train_step(model: Any, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array) -> jax.Array:
        loss, grads = nnx.value_and_grad(lambda m: cross_entropy(m(x), y))(model)
        optimizer.update(model, grads)
        return loss

    return lambda batch: train_step(model, optimizer, batch["x"], batch["y"])
