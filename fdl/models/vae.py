"""The variational auto-encoder: a generative model and the network that inverts it."""

import dataclasses
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx

from fdl import initializers, ops
from fdl.errors import InputError
from fdl.models.mlp import MLP, MLPConfig
from fdl.models.streams import draw
from fdl.models.units import HiddenLayer, dense
from fdl.types import Array, DTypeLike

Variance = Literal["none", "shared", "each"]


class Posterior(NamedTuple):
    """The approximate posterior q(z | x), a normal distribution with independent dimensions.

    Attributes:
      mean: (batch, code).
      log_variance: the same shape.
    """

    mean: Array
    log_variance: Array


class Reconstruction(NamedTuple):
    """What a VAE computes in one pass.

    Attributes:
      raw: raw outputs, (batch, features_out), as of `VAE.decode`.
      posterior: q(z | x).
      code: the z that was decoded, (batch, code).
    """

    raw: Array
    posterior: Posterior
    code: Array


@dataclasses.dataclass(frozen=True)
class VAEConfig:
    """What a VAE is made of.

    Attributes:
      features_in: d, size of an input, of all its axes together.
      hidden: number of units of each hidden layer of the encoder, the decoder having the same in
        reverse; () makes both linear.
      code: number of latent variables.
      unit: makes the hidden layers, as of `MLPConfig`.
      variance: "none": the raw outputs are the d logits or means of a likelihood without a
        variance. "shared": one learned log-variance for all pixels and examples follows the means.
        "each": the decoder computes a log-variance for each pixel. With a variance the 2 d raw
        outputs are those of `outputs.heteroscedastic(d, by="log_variance")`.
      kernel_init: of the hidden layers.
      bias_init: of all biases.
      dtype: in which matrix products are computed; that of parameters and input if None.

    Raises:
      InputError: when a width is out of range, or for an unknown variance.

    Example:
      >>> VAEConfig(64, (128,), 8).features_out
      64
      >>> VAEConfig(64, (128,), 8, variance="shared").features_out
      128
    """

    features_in: int
    hidden: tuple[int, ...]
    code: int
    _: dataclasses.KW_ONLY
    unit: HiddenLayer = dense(ops.relu)
    variance: Variance = "none"
    kernel_init: initializers.Initializer = initializers.he_normal()
    bias_init: initializers.Initializer = initializers.zeros
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        for name in ("features_in", "code"):
            if getattr(self, name) < 1:
                raise InputError(f"VAEConfig({name}=...) must be >= 1, got {getattr(self, name)}")
        if min(self.hidden, default=1) < 1:
            raise InputError(f"VAEConfig(hidden=...) must be widths >= 1, got {self.hidden}")
        if self.variance not in ("none", "shared", "each"):
            raise InputError(
                f'VAEConfig(variance=...) must be "none", "shared" or "each", got {self.variance!r}'
            )

    @property
    def features_out(self) -> int:
        """Number of raw outputs: d, or 2 d with a variance."""
        return self.features_in if self.variance == "none" else 2 * self.features_in

    @classmethod
    def tiny(cls, **changes: Any) -> "VAEConfig":
        """6 inputs, a layer of 5 units, 2 latent variables: for tests."""
        return dataclasses.replace(cls(6, (5,), 2), **changes)

    @classmethod
    def digits(cls, **changes: Any) -> "VAEConfig":
        """8x8 digits, a layer of 128 units, 8 latent variables, a shared variance."""
        return dataclasses.replace(cls(64, (128,), 8, variance="shared"), **changes)

    @classmethod
    def mnist(cls, **changes: Any) -> "VAEConfig":
        """28x28 digits, a layer of 400 units, 20 latent variables, Bernoulli pixels."""
        return dataclasses.replace(cls(784, (400,), 20), **changes)


class VAE(nnx.Module):
    """Generate by z ~ N(0, I), x ~ p(x | z), and infer by q(z | x) = N(mean(x), variance(x)).

    encoder: x -> (mean, log_variance);  z = mean + exp(log_variance / 2) e, e ~ N(0, I);
    decoder: z -> raw outputs, which `fdl.outputs` reads as a distribution of x

    Trained by `objectives.elbo`, a lower bound of log p(x). With linear maps and a shared variance
    it is probabilistic PCA.

    The parameters are those of two `MLP`s: "encoder", whose outputs are the mean and then the
    log-variance, and "decoder"; and "log_variance", a scalar, if it is shared.

    Args:
      config: what it is made of.
      rngs: for the parameters.

    Raises:
      ValueError: from the calls, when the input or the code has another size.

    Example:
      >>> model = VAE(VAEConfig(64, (32,), 2), rngs=nnx.Rngs(0))
      >>> raw, posterior, code = model(jnp.ones((3, 8, 8)), rngs=nnx.Rngs(1))
      >>> raw.shape, posterior.mean.shape, code.shape
      ((3, 64), (3, 2), (3, 2))
      >>> model.sample(jax.random.key(0), 5).shape
      (5, 64)

    Source: Kingma and Welling 2014, arXiv 1312.6114; DLB 20.10.3.
    """

    def __init__(self, config: VAEConfig, *, rngs: nnx.Rngs):
        each = 2 if config.variance == "each" else 1
        layers = {
            "encoder": (config.features_in, config.hidden, 2 * config.code),
            "decoder": (config.code, config.hidden[::-1], each * config.features_in),
        }
        parts = {
            name: MLP(
                MLPConfig(
                    *sizes,
                    unit=config.unit,
                    kernel_init=config.kernel_init,
                    bias_init=config.bias_init,
                    dtype=config.dtype,
                ),
                rngs=rngs,
            )
            for name, sizes in layers.items()
        }
        self.encoder, self.decoder = parts["encoder"], parts["decoder"]
        self.code, self.shared = config.code, config.variance == "shared"
        if self.shared:
            self.log_variance = nnx.Param(jnp.zeros((), jnp.float32))

    def __call__(self, x: Array, *, rngs: nnx.Rngs | None = None) -> Reconstruction:
        """Encode a batch, draw a code of each example, decode it.

        Args:
          x: shape (batch, ...), flattened behind the first axis.
          rngs: for the draw, with a key for each example or with one; without, the mean is decoded.

        Returns:
          `Reconstruction(raw, posterior, code)`.
        """
        mean, log_variance = posterior = self.encode(x)
        code = mean
        if rngs is not None:
            code += jnp.exp(log_variance / 2) * _normal(draw(rngs, "code"), mean)
        return Reconstruction(self.decode(code), posterior, code)

    def encode(self, x: Array) -> Posterior:
        """Return q(z | x) for a batch, shape (batch, ...)."""
        return Posterior(*jnp.split(cast(Array, self.encoder(x)), 2, axis=-1))

    def decode(self, code: Array) -> Array:
        """Return raw outputs, (batch, features_out), of codes (batch, code)."""
        raw = cast(Array, self.decoder(code))
        if not self.shared:
            return raw
        spread = jnp.broadcast_to(self.log_variance[...].astype(raw.dtype), raw.shape)
        return jnp.concatenate([raw, spread], axis=-1)

    def sample(self, key: Array, count: int) -> Array:
        """Return raw outputs, (count, features_out), of codes from the prior N(0, I)."""
        return self.decode(jax.random.normal(key, (count, self.code)))


def _normal(keys: Array, like: Array) -> Array:
    """Draw standard normal numbers, from one key or for each example from its own."""
    if keys.ndim == 0:
        return jax.random.normal(keys, like.shape, like.dtype)
    return jax.vmap(lambda key: jax.random.normal(key, like.shape[1:], like.dtype))(keys)
