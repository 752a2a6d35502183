"""The auto-encoder: a network that learns to give back its input, by way of a code."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

from flax import nnx

from fdl import initializers, ops
from fdl.errors import InputError
from fdl.types import Array, DTypeLike

Unit = Callable[[Array], Array]


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """What an Autoencoder is made of.

    Attributes:
      features_in: size of an input, of all its axes together.
      hidden: number of units of each layer of the encoder, one or more; the last is the code. The
        decoder has the same layers in reverse.
      unit: of the hidden layers between input and code, and between code and output.
      code_unit: of the code; `lambda x: x` for a linear one.
      tied: whether the decoder's kernels are the encoder's, transposed; its biases are its own.
      kernel_init: of all kernels.
      bias_init: of all biases.
      dtype: in which matrix products are computed; that of parameters and input if None. Parameters
        are float32.

    Raises:
      InputError: when a width is out of range or there is none.

    Example:
      >>> AutoencoderConfig(64, (128, 16), tied=True).code
      16
    """

    features_in: int
    hidden: tuple[int, ...]
    _: dataclasses.KW_ONLY
    unit: Unit = ops.relu
    code_unit: Unit = ops.sigmoid
    tied: bool = False
    kernel_init: initializers.Initializer = initializers.glorot_uniform()
    bias_init: initializers.Initializer = initializers.zeros
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if self.features_in < 1:
            raise InputError(
                f"AutoencoderConfig(features_in=...) must be >= 1, got {self.features_in}"
            )
        if min(self.hidden, default=0) < 1:
            raise InputError(
                f"AutoencoderConfig(hidden=...) must be one or more widths >= 1, got {self.hidden}"
            )

    @property
    def code(self) -> int:
        """Size of the code."""
        return self.hidden[-1]

    @classmethod
    def linear(cls, features_in: int, code: int, **changes: Any) -> "AutoencoderConfig":
        """One layer without a unit: at the least squared error it spans the principal subspace."""
        return dataclasses.replace(cls(features_in, (code,), code_unit=_identity), **changes)

    @classmethod
    def tiny(cls, **changes: Any) -> "AutoencoderConfig":
        """6 inputs, layers of 5 and 3 units: for tests."""
        return dataclasses.replace(cls(6, (5, 3)), **changes)

    @classmethod
    def digits(cls, **changes: Any) -> "AutoencoderConfig":
        """8x8 digits in 16 linear code units, by way of 128 rectifiers."""
        return dataclasses.replace(cls(64, (128, 16), code_unit=_identity), **changes)


class Autoencoder(nnx.Module):
    """Reconstruct the input from a code: r = decode(encode(x)).

    h_0 = x,  h_l = g(h_{l-1} W_l + b_l),  code = h_L;  backwards with W'_l, or W_l transposed

    The reconstruction is linear: means to a squared error, logits to a Bernoulli likelihood. A code
    smaller than the input must choose what it keeps; a larger one needs a penalty or a corrupted
    input, or it copies.

    Layer l of the encoder is `params["encoder"][l]` with a "kernel" (before, after) and a "bias";
    with one layer that is all of `encode`: code_unit(x W + b). The decoder's are
    `params["decoder"][l]`, counted from the code; with tied weights they hold a bias alone.

    Args:
      config: what it is made of.
      rngs: for the parameters.

    Raises:
      ValueError: from the calls, when the input or the code has another size.

    Example:
      >>> import jax.numpy as jnp
      >>> model = Autoencoder(AutoencoderConfig.digits(), rngs=nnx.Rngs(0))
      >>> code = model.encode(jnp.ones((2, 8, 8)))
      >>> code.shape, model.decode(code).shape
      ((2, 16), (2, 64))

    Source: DLB chapter 14.
    """

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        widths = (config.features_in, *config.hidden)
        linear = functools.partial(
            nnx.Linear,
            kernel_init=config.kernel_init,
            bias_init=config.bias_init,
            dtype=config.dtype,
            rngs=rngs,
        )
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.encoder = nnx.List(linear(before, after) for before, after in pairs)
        self.decoder = nnx.List(
            _Backwards(before, config=config, rngs=rngs) if config.tied else linear(after, before)
            for before, after in reversed(pairs)
        )
        self.features_in, self.code = config.features_in, config.code
        self.unit, self.code_unit = config.unit, config.code_unit

    def __call__(
        self, x: Array, *, features: bool = False
    ) -> Array | tuple[Array, dict[str, Array]]:
        """Reconstruct a batch.

        Args:
          x: shape (batch, ...), flattened behind the first axis.
          features: also return the activations of all layers but the last, by name: "encoder.0",
            ..., "code", "decoder.0", ...

        Returns:
          Shape (batch, features_in); with `features`, a pair of that and a dict.
        """
        code, encoded = self._encode(x)
        output, decoded = self._decode(code)
        return (output, encoded | {"code": code} | decoded) if features else output

    def encode(self, x: Array) -> Array:
        """Return the codes, (batch, code), of a batch (batch, ...)."""
        return self._encode(x)[0]

    def decode(self, code: Array) -> Array:
        """Return the reconstructions, (batch, features_in), of codes (batch, code)."""
        return self._decode(code)[0]

    def _encode(self, x: Array) -> tuple[Array, dict[str, Array]]:
        if x.ndim < 2 or math.prod(x.shape[1:]) != self.features_in:
            raise ValueError(
                f"Autoencoder needs (batch, ...) with {self.features_in} values an example, "
                f"got {x.shape}"
            )
        h, seen = x.reshape(x.shape[0], self.features_in), {}
        for i, layer in enumerate(self.encoder[:-1]):
            h = seen[f"encoder.{i}"] = self.unit(layer(h))
        return self.code_unit(self.encoder[-1](h)), seen

    def _decode(self, code: Array) -> tuple[Array, dict[str, Array]]:
        if code.ndim != 2 or code.shape[1] != self.code:
            raise ValueError(
                f"Autoencoder.decode(code) must be (batch, {self.code}), got {code.shape}"
            )
        h, seen = code, {}
        for i, layer in enumerate(self.decoder):
            h = (
                layer(h, self.encoder[-1 - i].kernel[...])
                if isinstance(layer, _Backwards)
                else layer(h)
            )
            if i < len(self.decoder) - 1:
                h = seen[f"decoder.{i}"] = self.unit(h)
        return h, seen


class _Backwards(nnx.Module):
    """The affine map h W' + c, with the kernel W of a layer of the encoder."""

    def __init__(self, features: int, *, config: AutoencoderConfig, rngs: nnx.Rngs):
        self.bias = nnx.Param(config.bias_init(rngs.params(), (features,)))
        self.dtype = config.dtype

    def __call__(self, h: Array, kernel: Array) -> Array:
        h, kernel, bias = nnx.nn.dtypes.promote_dtype((h, kernel, self.bias[...]), dtype=self.dtype)
        return h @ kernel.T + bias[None]


def _identity(x: Array) -> Array:
    return x
