"""The multilayer perceptron, also called deep feedforward network."""

import dataclasses
import functools
import math
from typing import Any

import jax.numpy as jnp
from flax import nnx

from fdl import axes, initializers, ops
from fdl.errors import InputError
from fdl.models.layers import BatchNorm, Dropout
from fdl.models.units import HiddenLayer, dense
from fdl.types import Array, DTypeLike


@dataclasses.dataclass(frozen=True)
class MLPConfig:
    """What an MLP is made of.

    Attributes:
      features_in: size of an input, of all its axes together.
      hidden: number of units of each hidden layer; () is linear or softmax regression.
      features_out: number of outputs.
      unit: makes the hidden layers: `dense(ops.relu)`, `prelu()`, `maxout(pieces=k)`, `rbf()`, ...
      kernel_init: of the hidden layers; He's for rectifiers. Take `glorot_uniform()` for tanh and
        sigmoid units, `lecun_normal()` for SELU.
      output_init: of the output layer, which is linear: variance 1 / fan_in.
      bias_init: of all biases.
      dropout: rate behind each hidden layer, in [0, 1).
      input_dropout: rate at the input, in [0, 1).
      batch_norm: normalise between affine map and unit; the affine map then has no bias.
      raw_input: hand the input, too, to each hidden layer behind the first: [h, x] W + b.
      axis_name: over which devices share a batch, for batch normalisation; no matter where not
        bound.
      dtype: in which matrix products are computed; that of parameters and input if None. Parameters
        are float32.

    Raises:
      InputError: when a width or a rate is out of range.

    Example:
      >>> MLPConfig(64, (128, 128), 10, unit=dense(ops.tanh), dropout=0.5).hidden
      (128, 128)
    """

    features_in: int
    hidden: tuple[int, ...]
    features_out: int
    _: dataclasses.KW_ONLY
    unit: HiddenLayer = dense(ops.relu)
    kernel_init: initializers.Initializer = initializers.he_normal()
    output_init: initializers.Initializer = initializers.lecun_normal()
    bias_init: initializers.Initializer = initializers.zeros
    dropout: float = 0.0
    input_dropout: float = 0.0
    batch_norm: bool = False
    raw_input: bool = False
    axis_name: str | None = axes.DATA
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        for name in ("features_in", "features_out"):
            if getattr(self, name) < 1:
                raise InputError(f"MLPConfig({name}=...) must be >= 1, got {getattr(self, name)}")
        if min(self.hidden, default=1) < 1:
            raise InputError(f"MLPConfig(hidden=...) must be widths >= 1, got {self.hidden}")
        for name in ("dropout", "input_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(
                    f"MLPConfig({name}=...) must lie in [0, 1), got {getattr(self, name)}"
                )

    @classmethod
    def tiny(cls, **changes: Any) -> "MLPConfig":
        """6 inputs, layers of 5 and 4 units, 3 outputs: for tests."""
        return dataclasses.replace(cls(6, (5, 4), 3), **changes)

    @classmethod
    def digits(cls, **changes: Any) -> "MLPConfig":
        """8x8 digits in 10 classes: two layers of 256."""
        return dataclasses.replace(cls(64, (256, 256), 10), **changes)

    @classmethod
    def mnist(cls, **changes: Any) -> "MLPConfig":
        """28x28 digits in 10 classes: two layers of 1024 with dropout (Srivastava et al. 2014)."""
        config = cls(784, (1024, 1024), 10, dropout=0.5, input_dropout=0.2)
        return dataclasses.replace(config, **changes)


class MLP(nnx.Module):
    """A chain of hidden layers and a linear output.

    h_0 = x,  h_l = g(h_{l-1} W_l + b_l),  output = h_L W + b

    The outputs are logits (or means): what turns them into probabilities belongs to the loss. With
    enough units one hidden layer approximates any continuous function on a bounded set.

    Args:
      config: what it is made of.
      rngs: for the parameters.

    Raises:
      ValueError: from the call, when the input has another size; when dropout is on and `rngs` is
        missing.

    Example:
      >>> model = MLP(MLPConfig(64, (32,), 10), rngs=nnx.Rngs(0))
      >>> model(jnp.ones((2, 8, 8))).shape
      (2, 10)
      >>> logits, features = model(jnp.ones((2, 64)), features=True)
      >>> {name: h.shape for name, h in features.items()}
      {'hidden.0': (2, 32)}

    Source: DLB chapter 6; Hornik et al. 1989 for the approximation theorem (6.4.1).
    """

    def __init__(self, config: MLPConfig, *, rngs: nnx.Rngs):
        affine = functools.partial(_affine, config)
        widths = (config.features_in, *config.hidden)
        self.features_in = config.features_in
        self.input_dropout = Dropout(config.input_dropout)
        self.dropout = Dropout(config.dropout)
        self.hidden = nnx.List(
            config.unit(
                before + config.features_in * (config.raw_input and i > 0),
                after,
                affine=affine,
                rngs=rngs,
            )
            for i, (before, after) in enumerate(zip(widths[:-1], widths[1:], strict=True))
        )
        self.raw_input = config.raw_input
        self.output = nnx.Linear(
            widths[-1],
            config.features_out,
            kernel_init=config.output_init,
            bias_init=config.bias_init,
            dtype=config.dtype,
            rngs=rngs,
        )

    def __call__(
        self, x: Array, *, rngs: nnx.Rngs | None = None, features: bool = False
    ) -> Array | tuple[Array, dict[str, Array]]:
        """Compute the outputs of a batch.

        Args:
          x: shape (batch, ...), flattened behind the first axis.
          rngs: for dropout, in training; with a key for each example or with one.
          features: also return the hidden layers' activations, before dropout, by the name of the
          layer.

        Returns:
          Shape (batch, features_out); with `features`, a pair of that and a dict.
        """
        if x.ndim < 2 or math.prod(x.shape[1:]) != self.features_in:
            raise ValueError(
                f"MLP needs (batch, ...) with {self.features_in} values an example, got {x.shape}"
            )
        x = self.input_dropout(x.reshape(x.shape[0], self.features_in), rngs=rngs)
        h, seen = x, {}
        for i, layer in enumerate(self.hidden):
            h = jnp.concatenate([h, x], axis=-1) if self.raw_input and i > 0 else h
            seen[f"hidden.{i}"] = layer(h)
            h = self.dropout(seen[f"hidden.{i}"], rngs=rngs)
        output = self.output(h)
        return (output, seen) if features else output


class _NormalisedLinear(nnx.Module):
    """x W, batch-normalised; the normalisation's shift is the bias."""

    def __init__(self, config: MLPConfig, features_in: int, features_out: int, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(
            features_in,
            features_out,
            use_bias=False,
            kernel_init=config.kernel_init,
            dtype=config.dtype,
            rngs=rngs,
        )
        self.norm = BatchNorm(features_out, axis_name=config.axis_name)

    def __call__(self, x: Array) -> Array:
        return self.norm(self.linear(x))


def _affine(
    config: MLPConfig, features_in: int, features_out: int, *, rngs: nnx.Rngs
) -> nnx.Module:
    if config.batch_norm:
        return _NormalisedLinear(config, features_in, features_out, rngs=rngs)
    return nnx.Linear(
        features_in,
        features_out,
        kernel_init=config.kernel_init,
        bias_init=config.bias_init,
        dtype=config.dtype,
        rngs=rngs,
    )
