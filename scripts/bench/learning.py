"""Small learning problems for judging optimizers, never for tuning them: 8, on seeded data."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from other import Smooth

Array = jax.Array
Sizes = tuple[int, ...]


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def ridge(x: Array, strength: float) -> Array:
    return strength * jnp.sum(x**2)


def logistic() -> Smooth:
    data, truth = normal(0, 200, 10) * np.logspace(-1, 1, 10), normal(1, 10)
    sign = np.sign(data @ truth + normal(2, 200))

    def value(w: Array) -> Array:
        margin = jnp.asarray(sign, w.dtype) * (jnp.asarray(data, w.dtype) @ w)
        return jnp.mean(jax.nn.softplus(-margin)) + ridge(w, 1e-4)

    return Smooth("logistic", value, np.zeros(10))


def softmax() -> Smooth:
    data = normal(3, 150, 6)
    labels = np.argmax(data @ normal(4, 6, 4) + normal(5, 150, 4), 1)

    def value(w: Array) -> Array:
        scores = jax.nn.log_softmax(jnp.asarray(data, w.dtype) @ w.reshape(6, 4))
        return -jnp.mean(scores[jnp.arange(150), labels]) + ridge(w, 1e-4)

    return Smooth("softmax", value, np.zeros(24))


def poisson() -> Smooth:
    data, truth = normal(6, 200, 8), 0.4 * normal(7, 8)
    counts = np.random.default_rng(8).poisson(np.exp(data @ truth))

    def value(w: Array) -> Array:
        rate = jnp.asarray(data, w.dtype) @ w
        return jnp.mean(jnp.exp(rate) - jnp.asarray(counts, w.dtype) * rate)

    return Smooth("poisson", value, np.zeros(8))


def network(sizes: Sizes) -> tuple[Callable[[Array, Array], Array], Callable[[int], np.ndarray]]:
    """Return (w, x) -> output of a tanh network whose weights are one vector, and seed -> w."""
    layers = list(zip(sizes[:-1], sizes[1:], strict=True))

    def apply(w: Array, x: Array) -> Array:
        at = 0
        for depth, (i, o) in enumerate(layers):
            kernel, bias = w[at : at + i * o].reshape(i, o), w[at + i * o : at + i * o + o]
            x = x @ kernel + bias[None]
            x = jnp.tanh(x) if depth < len(layers) - 1 else x
            at += i * o + o
        return x

    def start(seed: int) -> np.ndarray:
        kernels = [normal(seed + k, i * o) / i**0.5 for k, (i, o) in enumerate(layers)]
        parts = [np.append(k, np.zeros(o)) for k, (_, o) in zip(kernels, layers, strict=True)]
        return np.concatenate(parts)

    return apply, start


def mlp_sine() -> Smooth:
    apply, start = network((1, 10, 1))
    t = np.linspace(-3, 3, 40)[:, None]

    def value(w: Array) -> Array:
        x = jnp.asarray(t, w.dtype)
        return jnp.mean((apply(w, x) - jnp.sin(2 * x)) ** 2)

    return Smooth("mlp_sine", value, start(9))


def mlp_moons() -> Smooth:
    apply, start = network((2, 8, 1))
    angle = np.linspace(0, np.pi, 50)
    upper = np.stack([np.cos(angle), np.sin(angle)], 1)
    data = np.concatenate([upper, [1, 0.5] - upper]) + 0.1 * normal(12, 100, 2)
    sign = np.repeat([1.0, -1.0], 50)

    def value(w: Array) -> Array:
        score = apply(w, jnp.asarray(data, w.dtype))[:, 0]
        return jnp.mean(jax.nn.softplus(-jnp.asarray(sign, w.dtype) * score)) + ridge(w, 1e-4)

    return Smooth("mlp_moons", value, start(13))


def autoencoder() -> Smooth:
    apply, start = network((8, 3, 8))
    data = np.tanh(normal(16, 60, 3) @ normal(17, 3, 8))

    def value(w: Array) -> Array:
        x = jnp.asarray(data, w.dtype)
        return jnp.mean((apply(w, x) - x) ** 2) + ridge(w, 1e-5)

    return Smooth("autoencoder", value, start(18))


def factorisation() -> Smooth:
    target = normal(20, 10, 2) @ normal(21, 2, 8) + 0.1 * normal(22, 10, 8)

    def value(w: Array) -> Array:
        product = w[:20].reshape(10, 2) @ w[20:].reshape(2, 8)
        return jnp.sum((product - jnp.asarray(target, w.dtype)) ** 2) / 2

    return Smooth("factorisation", value, 0.3 * normal(23, 36))


def sparse_coding() -> Smooth:
    """|a - D z|^2 / 2 + 0.1 sum_i sqrt(z_i^2 + 1e-4), twice as many codes as measurements."""
    atoms = normal(24, 20, 40) / 20**0.5
    code = np.where(np.arange(40) % 8 == 0, normal(25, 40), 0.0)
    signal = atoms @ code + 0.01 * normal(26, 20)

    def value(z: Array) -> Array:
        error = jnp.asarray(signal, z.dtype) - jnp.asarray(atoms, z.dtype) @ z
        return jnp.sum(error**2) / 2 + 0.1 * jnp.sum(jnp.sqrt(z**2 + 1e-4))

    return Smooth("sparse_coding", value, np.zeros(40))


PROBLEMS = [
    logistic(),
    softmax(),
    poisson(),
    mlp_sine(),
    mlp_moons(),
    autoencoder(),
    factorisation(),
    sparse_coding(),
]
