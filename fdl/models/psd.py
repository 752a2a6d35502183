"""Predictive sparse decomposition: a dictionary, and an encoder that guesses its sparse codes."""

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx

from fdl import initializers, ops
from fdl.errors import InputError
from fdl.models.lista import LISTA, LISTAConfig, ista_weights
from fdl.types import Array

ENCODERS = ("tanh", "linear", "tanh_shrink", "shrink", "lista")


@dataclasses.dataclass(frozen=True)
class PSDConfig:
    """What a PSD model is made of.

    Attributes:
      features_in: size of an input; with a window, its channels.
      codes: number of codes; with a window, of maps.
      encoder: "tanh", g tanh(u); "linear", u; "tanh_shrink", g (u - tanh u); "shrink", S(u, theta),
        whose codes have exact zeros; "lista", several layers of those. u = x W + b.
      window: None: inputs are vectors. Else sides of the filters, one for each axis of the images:
        dictionary and encoder are convolutions.
      layers: of "lista".
      threshold: first value of theta, >= 0.
      dictionary_init: of D, whose columns are then scaled to norm 1.

    Raises:
      InputError: when a size or threshold is out of range, or the encoder is unknown or, for
        "lista", asked for with a window.

    Example:
      >>> PSDConfig(81, 128, encoder="shrink").window is None
      True
    """

    features_in: int
    codes: int
    _: dataclasses.KW_ONLY
    encoder: Literal["tanh", "linear", "tanh_shrink", "shrink", "lista"] = "tanh"
    window: tuple[int, ...] | None = None
    layers: int = 3
    threshold: float = 0.1
    dictionary_init: initializers.Initializer = nnx.initializers.normal(1.0)

    def __post_init__(self) -> None:
        for name in ("features_in", "codes", "layers"):
            if getattr(self, name) < 1:
                raise InputError(f"PSDConfig({name}=...) must be >= 1, got {getattr(self, name)}")
        if self.encoder not in ENCODERS:
            raise InputError(
                f"PSDConfig(encoder=...) must be one of {', '.join(ENCODERS)}, got {self.encoder!r}"
            )
        if self.threshold < 0:
            raise InputError(f"PSDConfig(threshold=...) must be >= 0, got {self.threshold}")
        if self.window is not None:
            object.__setattr__(self, "window", tuple(self.window))
            if not self.window or min(self.window) < 1:
                raise InputError(f"PSDConfig(window=...) must be sides >= 1, got {self.window}")
            if self.encoder == "lista":
                raise InputError("PSDConfig(encoder='lista') must have window=None")

    @classmethod
    def tiny(cls, **changes: Any) -> "PSDConfig":
        """4 inputs, 6 codes: for tests."""
        return dataclasses.replace(cls(4, 6), **changes)


class PSD(nnx.Module):
    """A dictionary D and an encoder f of the same inputs.

    E(x, z) = |x - D z|^2 + l1 |z|_1 + alpha |z - f(x)|^2

    It learns in three moves, which a training step makes of `fdl.ops` and `fdl.optim`: codes by
    `psd_codes` from f(x), a step down the gradient of `psd_energy` at those codes, and columns of D
    scaled to norm 1 (`optim.project(optim.projection_unit_norm)` masked to the dictionary). After
    that f alone gives codes, without inference.

    Its parameters are {"dictionary": (inputs, codes), "encoder": {...}}, with a window (*window,
    codes, channels). The encoder has "kernel" (inputs, codes) or (*window, channels, codes), "bias"
    (codes,), and "gain" (tanh, tanh_shrink) or "threshold" (shrink) of the same shape; that of
    "lista" has the parameters of `LISTA`. The kernel begins as the dictionary, transposed.

    Args:
      config: what it is made of.
      rngs: for the parameters.

    Raises:
      ValueError: from the call, when the input has another size.

    Example:
      >>> model = PSD(PSDConfig(9, 14), rngs=nnx.Rngs(0))
      >>> x = jnp.ones((2, 9))
      >>> z = ops.psd_codes(x, model.encode(x), model.dictionary[...], l1=0.3, alpha=1.0, steps=10)
      >>> z.shape, model.decode(z).shape
      ((2, 14), (2, 9))
      >>> maps = PSD(PSDConfig(1, 4, window=(3, 3)), rngs=nnx.Rngs(0))
      >>> maps(jnp.ones((2, 8, 8, 1))).shape
      (2, 6, 6, 4)

    Source: Kavukcuoglu et al. 2010, arXiv 1010.3467, and 2010, Learning Convolutional Feature
    Hierarchies for Visual Recognition; DLB 14.8. github.com/koraykv/unsup for the kinds of
    encoders; "shrink" and "lista" are those of Gregor and LeCun 2010.
    """

    def __init__(self, config: PSDConfig, *, rngs: nnx.Rngs):
        inputs, codes = config.features_in, config.codes
        window = config.window or ()
        drawn = config.dictionary_init(rngs.params(), (*window, inputs, codes), jnp.float32)
        columns = drawn / jnp.sqrt(
            jnp.square(drawn).sum(tuple(range(drawn.ndim - 1)), keepdims=True)
        )
        self.dictionary = nnx.Param(jnp.swapaxes(columns, -1, -2) if window else columns)
        if config.encoder == "lista":
            lista = LISTAConfig(inputs, codes, layers=config.layers, threshold=config.threshold)
            self.encoder: nnx.Module = LISTA(lista, rngs=rngs)
            for name, value in ista_weights(columns, config.threshold).items():
                getattr(self.encoder, name).set_value(value)
        else:
            self.encoder = _Encoder(config, columns)

    def __call__(self, x: Array) -> Array:
        """Guess the codes of a batch: f(x), (batch, codes) or maps of them."""
        return self.encoder(x)  # type: ignore[operator]

    def encode(self, x: Array) -> Array:
        """Guess the codes of a batch, as the call does: the name all layer trainers share."""
        return self(x)

    def decode(self, z: Array) -> Array:
        """Reconstruct inputs: D z, from (batch, codes) or maps of them."""
        return ops.decode_sparse(z, self.dictionary[...])


class _Encoder(nnx.Module):
    """One layer: an affine map and a unit."""

    def __init__(self, config: PSDConfig, kernel: Array):
        self.kind = config.encoder
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(jnp.zeros((config.codes,)))
        if "tanh" in self.kind:
            self.gain = nnx.Param(jnp.ones((config.codes,)))
        elif self.kind == "shrink":
            self.threshold = nnx.Param(jnp.full((config.codes,), config.threshold, jnp.float32))

    def __call__(self, x: Array) -> Array:
        kernel = self.kernel[...]
        inputs = kernel.shape[-2]
        if x.ndim != kernel.ndim or x.shape[-1] != inputs:
            form = "(batch, inputs)" if x.ndim == 2 else "(batch, *spatial, channels)"
            raise ValueError(f"PSD needs {form} with {inputs} of the last, got {x.shape}")
        driven = x @ kernel if x.ndim == 2 else ops.conv(x, kernel)

        def per_code(a: nnx.Param[Array]) -> Array:
            return a[...].reshape((1,) * (x.ndim - 1) + (-1,))

        u = driven + per_code(self.bias)
        if self.kind == "linear":
            return u
        if self.kind == "shrink":
            return ops.soft_shrink(u, jnp.maximum(per_code(self.threshold), 0))
        return per_code(self.gain) * (jnp.tanh(u) if self.kind == "tanh" else ops.tanh_shrink(u))
