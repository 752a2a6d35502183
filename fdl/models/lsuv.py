"""Layer-sequential unit variance: weights scaled on real data, one layer after another."""

from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from fdl.initializers import orthogonal
from fdl.types import Array

Module = TypeVar("Module", bound=nnx.Module)
LAYERS = (nnx.Linear, nnx.LinearGeneral, nnx.Einsum, nnx.Conv, nnx.ConvTranspose)


class Scaled(NamedTuple):
    """What `lsuv` did to one layer.

    Attributes:
      layer: its path in the module, names joined by points.
      before: variance of its output with orthonormal weights.
      after: the variance it was left with.
      rounds: how often its weights were rescaled.
    """

    layer: str
    before: float
    after: float
    rounds: int


class _Scaling(nnx.Module):
    """A layer that scales itself as soon as its input arrives, for the layers before it have."""

    def __init__(
        self, layer: Any, name: str, tolerance: float, max_rounds: int, report: list[Scaled]
    ):
        self.layer = layer
        self.name, self.tolerance, self.max_rounds = name, tolerance, max_rounds
        self.report = nnx.static(report)

    def __call__(self, *args: Any, **kwargs: Any) -> Array:
        out = self.layer(*args, **kwargs)
        first = variance = float(out.var())
        rounds = 0
        while abs(variance - 1) >= self.tolerance and rounds < self.max_rounds and variance > 0:
            self.layer.kernel[...] = self.layer.kernel[...] / jnp.sqrt(variance)
            out = self.layer(*args, **kwargs)
            variance, rounds = float(out.var()), rounds + 1
        self.report.append(Scaled(self.name, first, variance, rounds))
        return out


def lsuv(
    module: Module,
    *args: Any,
    key: Array | None = None,
    tolerance: float = 0.1,
    max_rounds: int = 10,
    **kwargs: Any,
) -> tuple[Module, list[Scaled]]:
    """Scale the weights of each layer until its output on real data has variance 1.

    Weights are made orthonormal first. Then, in the order in which a forward pass calls them, each
    linear or convolutional layer's kernel is divided by the standard deviation of its output, W <-
    W / sqrt(Var(out)), until |Var(out) - 1| < tolerance: whatever units, poolings and additions lie
    between, the next layer sees what it will see in training. A batch of a hundred examples will
    do. Biases are left alone.

    Args:
      module: any Flax NNX module of linear and convolutional layers of Flax.
      *args: what it is called with, such as a batch of inputs.
      key: of the orthonormal weights; None: scale the weights that are there.
      tolerance: > 0.
      max_rounds: times a layer is rescaled at most, >= 1.
      **kwargs: further arguments of the call, such as `rngs=` for dropout.

    Returns:
      A copy of the module with other kernels, and what was done to each layer, in order of their
      calls. Running statistics and the module handed in are as before. A layer that is called
      several times (shared weights) is scaled for each call, the last one deciding.

    Raises:
      ValueError: for arguments out of range, or a module in which no such layer was called.

    Example:
      >>> from fdl.models.mlp import MLP, MLPConfig
      >>> net = MLP(MLPConfig(8, (16, 16), 2), rngs=nnx.Rngs(0))
      >>> x = jax.random.normal(jax.random.key(1), (100, 8))
      >>> net, layers = lsuv(net, x, key=jax.random.key(2))
      >>> [scaled.layer for scaled in layers]
      ['hidden.0.affine', 'hidden.1.affine', 'output']
      >>> bool(abs(net(x).var() - 1) < 0.1)
      True

    Source: Mishkin and Matas 2015, arXiv 1511.06422, algorithm 1.
    """
    if not tolerance > 0:
        raise ValueError(f"lsuv(tolerance=...) must be > 0, got {tolerance}")
    if max_rounds < 1:
        raise ValueError(f"lsuv(max_rounds=...) must be >= 1, got {max_rounds}")
    result = nnx.clone(module)
    layers = _layers(result)
    if key is not None:
        for path, part in zip(layers, jax.random.split(key, max(len(layers), 1)), strict=False):
            kernel = layers[path].kernel
            kernel[...] = orthogonal()(part, kernel.shape, kernel.dtype)
    trial, report = nnx.clone(result), list[Scaled]()
    for path, layer in _layers(trial).items():
        _put(trial, path, _Scaling(layer, _name(path), tolerance, max_rounds, report))
    trial(*args, **kwargs)
    if not report:
        raise ValueError(f"lsuv(module) must call linear layers, got {type(module).__name__}")
    for path, layer in layers.items():
        layer.kernel[...] = _get(trial, path).layer.kernel[...]
    return result, report


def _layers(module: nnx.Module) -> dict[tuple[Any, ...], Any]:
    """Return the linear layers of a module by their paths."""
    return {path: node for path, node in nnx.iter_modules(module) if isinstance(node, LAYERS)}


def _get(module: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        module = module[name] if isinstance(name, int) else getattr(module, name)
    return module


def _put(module: Any, path: tuple[Any, ...], node: nnx.Module) -> None:
    parent, name = _get(module, path[:-1]), path[-1]
    if isinstance(name, int):
        parent[name] = node
    else:
        setattr(parent, name, node)


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))
