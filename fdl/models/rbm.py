"""The restricted Boltzmann machine: two layers of units that explain each other."""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from fdl import initializers, ops
from fdl.errors import InputError
from fdl.models.streams import draw
from fdl.types import Array

RAREST = 0.01  # no pixel is taken to be on, or off, less often than that


@dataclasses.dataclass(frozen=True)
class RBMConfig:
    """What an RBM is made of.

    Attributes:
      features_in: V, size of an input, of all its axes together.
      hidden: H, number of hidden units, each 0 or 1.
      visible: kind of the visible units: "bernoulli", 0 or 1 (or probabilities), or "gaussian".
      variance: of Gaussian units given the hidden ones, > 0.
      learn_variance: that is only where it begins, for each unit apart.
      kernel_init: of the kernel; small normal numbers.

    Raises:
      InputError: when a size or the variance is out of range, the kind is unknown, or a variance is
        given to Bernoulli units.

    Example:
      >>> RBMConfig(64, 100).visible
      'bernoulli'
    """

    features_in: int
    hidden: int
    _: dataclasses.KW_ONLY
    visible: Literal["bernoulli", "gaussian"] = "bernoulli"
    variance: float = 1.0
    learn_variance: bool = False
    kernel_init: initializers.Initializer = nnx.initializers.normal(0.01)

    def __post_init__(self) -> None:
        for name in ("features_in", "hidden"):
            if getattr(self, name) < 1:
                raise InputError(f"RBMConfig({name}=...) must be >= 1, got {getattr(self, name)}")
        if self.visible not in ("bernoulli", "gaussian"):
            raise InputError(
                f"RBMConfig(visible=...) must be bernoulli or gaussian, got {self.visible!r}"
            )
        if not (self.variance > 0 and math.isfinite(self.variance)):
            raise InputError(f"RBMConfig(variance=...) must be > 0, got {self.variance}")
        if self.visible == "bernoulli" and (self.variance != 1 or self.learn_variance):
            raise InputError("RBMConfig(visible='bernoulli') has no variance to set or to learn")

    @classmethod
    def tiny(cls, **changes: Any) -> "RBMConfig":
        """6 visible and 4 hidden units: for tests."""
        return dataclasses.replace(cls(6, 4), **changes)

    @classmethod
    def digits(cls, **changes: Any) -> "RBMConfig":
        """8x8 digits, grey values as probabilities, and 100 hidden units."""
        return dataclasses.replace(cls(64, 100), **changes)


class RBM(nnx.Module):
    """Explain inputs by hidden units that are independent given the input.

    p(v, h) = exp(-E(v, h)) / Z,  E(v, h) = -b.v - c.h - v'W h,  and see `fdl.ops.rbm_energy`

    It learns by `objectives.contrastive_divergence` of its `free_energy` at data and at what
    `gibbs` makes of data or of chains. `encode` gives probabilities of the hidden units, which is a
    layer sigmoid(x W + c) of a network.

    Its parameters are {"kernel": (V, H), "visible_bias": (V,), "hidden_bias": (H,)}, and with a
    variance that is learned "log_variance": (V,). Inputs are (batch, ...), flattened behind the
    first axis.

    Args:
      config: what it is made of.
      mean: of the data, V numbers in any shape: the visible biases then begin as those of
        independent units, log p / (1 - p) with p in [0.01, 0.99], or the mean itself if Gaussian.
      rngs: for the parameters.

    Raises:
      ValueError: when the mean, or the input of a call, has another size.

    Example:
      >>> model = RBM(RBMConfig.digits(), rngs=nnx.Rngs(0))
      >>> x = jnp.ones((2, 8, 8))
      >>> model.encode(x).shape, model(x).shape, model.free_energy(x).shape
      ((2, 100), (2, 64), (2,))
      >>> model.gibbs(x, steps=3, rngs=jax.random.split(jax.random.key(0), 2)).shape
      (2, 64)

    Source: DLB 20.2 and 20.5.1; Hinton 2012, A Practical Guide to Training RBMs, section 8.
    """

    def __init__(self, config: RBMConfig, *, mean: ArrayLike | None = None, rngs: nnx.Rngs):
        v, h = config.features_in, config.hidden
        self.kernel = nnx.Param(config.kernel_init(rngs.params(), (v, h), jnp.float32))
        self.visible_bias = nnx.Param(_bias(config, mean))
        self.hidden_bias = nnx.Param(jnp.zeros((h,), jnp.float32))
        self.gaussian, self.variance = config.visible == "gaussian", config.variance
        if config.learn_variance:
            self.log_variance = nnx.Param(jnp.full((v,), math.log(config.variance), jnp.float32))
        self.learns = config.learn_variance

    def __call__(self, x: Array) -> Array:
        """Reconstruct a batch by mean field: E[v | h = p(h = 1 | x)], (batch, V)."""
        return self.decode(self.encode(x))

    def encode(self, x: Array) -> Array:
        """Return p(h = 1 | x), (batch, H)."""
        return ops.rbm_hidden(self._flat(x), self.weights())

    def decode(self, code: Array) -> Array:
        """Return E[v | h], (batch, V), of hidden units (batch, H)."""
        return ops.rbm_visible(code, self.weights())

    def free_energy(self, x: Array) -> Array:
        """Return F(x) = -log p(x) - log Z, (batch,)."""
        return ops.rbm_free_energy(self._flat(x), self.weights())

    def gibbs(
        self, x: Array, *, steps: int = 1, rngs: nnx.Rngs | nnx.RngStream | Array | None = None
    ) -> Array:
        """Walk so many steps from each x, with a key for each example or one: (batch, V)."""
        v, key = self._flat(x), draw(rngs, "gibbs")
        if key.ndim == 0:
            key = jax.random.split(key, len(v))
        return ops.rbm_gibbs(key, v, self.weights(), steps=steps)

    def weights(self) -> ops.RBMWeights:
        """Return what the functions `rbm_...` of `fdl.ops` take."""
        kernel, b, c = self.kernel[...], self.visible_bias[...], self.hidden_bias[...]
        if not self.gaussian:
            return ops.RBMWeights(kernel, b, c)
        fixed = jnp.full_like(b, self.variance)
        return ops.RBMWeights(
            kernel, b, c, jnp.exp(self.log_variance[...]) if self.learns else fixed
        )

    def _flat(self, x: Array) -> Array:
        size = self.visible_bias.shape[0]
        if x.ndim < 2 or math.prod(x.shape[1:]) != size:
            raise ValueError(f"RBM needs (batch, ...) with {size} values an example, got {x.shape}")
        return x.reshape(len(x), size)


def _bias(config: RBMConfig, mean: ArrayLike | None) -> Array:
    if mean is None:
        return jnp.zeros((config.features_in,), jnp.float32)
    p = jnp.asarray(mean, jnp.float32).reshape(-1)
    if p.shape != (config.features_in,):
        raise ValueError(f"RBM(mean=...) must hold {config.features_in} numbers, got {p.size}")
    if config.visible == "gaussian":
        return p
    p = p.clip(RAREST, 1 - RAREST)
    return jnp.log(p) - jnp.log1p(-p)
