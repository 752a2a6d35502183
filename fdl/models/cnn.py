"""Convolutional networks for images: LeNet-5 and a small modern one."""

import dataclasses
import functools
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
from flax import nnx

from fdl import axes, initializers, ops
from fdl.errors import InputError
from fdl.models.conv import Conv
from fdl.models.layers import BatchNorm
from fdl.models.mlp import MLP, MLPConfig
from fdl.models.units import HiddenLayer, dense
from fdl.ops.windows import Padding
from fdl.types import Array, DTypeLike


@dataclasses.dataclass(frozen=True)
class Stage:
    """A convolution, a unit and, if wanted, a pooling.

    Attributes:
      features: channels that come out.
      window: side of the square kernel.
      padding: as in `fdl.ops.conv`.
      pool: of windows of 2 x 2, or none. An odd last row or column is dropped.

    Example:
      >>> Stage(32, pool="max").window
      3
    """

    features: int
    window: int = 3
    padding: Padding = "SAME"
    pool: Literal["max", "average"] | None = None


@dataclasses.dataclass(frozen=True)
class CNNConfig:
    """What a CNN is made of.

    Attributes:
      image: height, width and channels.
      stages: from the image on.
      features_out: number of outputs.
      hidden: widths of fully connected layers between the stages and the outputs.
      head: what those see of the last stage: all of it ("flatten"), or the mean of each channel
        ("mean"); with that, images of other sizes are taken, too.
      unit: makes the layers: `dense(ops.relu)`, `prelu()` (a slope a channel), `maxout(pieces=k)`.
      kernel_init: of all layers but the output; He's for rectifiers.
      first_init: of the first convolution, such as `initializers.gabor()`; `kernel_init` if None.
      first_trained: whether the first kernel learns. If not it is part of `extra`.
      output_init: of the output layer, which is linear.
      bias_init: of all biases.
      batch_norm: normalise between each affine map and its unit; the map then has no bias.
      dropout: rate in front of each fully connected layer, in [0, 1).
      axis_name: over which devices share a batch, for batch normalisation.
      dtype: in which products are computed; that of parameters and input if None.

    Raises:
      InputError: when a width, a window or a rate is out of range, a name is unknown, or nothing is
        left of the image.

    Example:
      >>> CNNConfig.digits(dropout=0.5).image
      (8, 8, 1)
    """

    image: tuple[int, int, int]
    stages: tuple[Stage, ...]
    features_out: int
    _: dataclasses.KW_ONLY
    hidden: tuple[int, ...] = ()
    head: Literal["flatten", "mean"] = "flatten"
    unit: HiddenLayer = dense(ops.relu)
    kernel_init: initializers.Initializer = initializers.he_normal()
    first_init: initializers.Initializer | None = None
    first_trained: bool = True
    output_init: initializers.Initializer = initializers.lecun_normal()
    bias_init: initializers.Initializer = initializers.zeros
    batch_norm: bool = False
    dropout: float = 0.0
    axis_name: str | None = axes.DATA
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        for name in ("image", "stages", "hidden"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.image) != 3 or min(self.image) < 1:
            raise InputError(
                f"CNNConfig(image=...) must be height, width and channels, got {self.image}"
            )
        if self.head not in ("flatten", "mean"):
            raise InputError(f'CNNConfig(head=...) must be "flatten" or "mean", got {self.head!r}')
        for stage in self.stages:
            if min(stage.features, stage.window) < 1 or stage.pool not in ("max", "average", None):
                raise InputError(
                    "CNNConfig(stages=...) must have features and window >= 1 and a pool that is "
                    f'"max", "average" or None, got {stage}'
                )
        try:
            self.dense_part()
        except ValueError as error:  # what is left of the image, or the rest
            raise InputError(f"CNNConfig: {error}") from error

    def dense_part(self) -> MLPConfig:
        """Return what follows the stages."""
        height, width = sizes(self)[-1] if self.head == "flatten" else (1, 1)
        channels = self.stages[-1].features if self.stages else self.image[2]
        return MLPConfig(
            height * width * channels,
            self.hidden,
            self.features_out,
            unit=self.unit,
            kernel_init=self.kernel_init,
            output_init=self.output_init,
            bias_init=self.bias_init,
            dropout=self.dropout,
            input_dropout=self.dropout,
            batch_norm=self.batch_norm,
            axis_name=self.axis_name,
            dtype=self.dtype,
        )

    @classmethod
    def tiny(cls, **changes: Any) -> "CNNConfig":
        """Images of 6 x 5 with 2 channels, 3 outputs: for tests."""
        config = cls((6, 5, 2), (Stage(3, pool="max"), Stage(4)), 3)
        return dataclasses.replace(config, **changes)

    @classmethod
    def digits(cls, **changes: Any) -> "CNNConfig":
        """8x8 digits in 10 classes: stages of 32, 64 and 64 channels with batch normalisation."""
        stages = (Stage(32), Stage(64, pool="max"), Stage(64, pool="max"))
        return dataclasses.replace(cls((8, 8, 1), stages, 10, batch_norm=True), **changes)

    @classmethod
    def mnist(cls, **changes: Any) -> "CNNConfig":
        """28x28 digits in 10 classes: two pairs of stages, a layer of 256 units, dropout."""
        stages = (Stage(32), Stage(32, pool="max"), Stage(64), Stage(64, pool="max"))
        config = cls((28, 28, 1), stages, 10, hidden=(256,), batch_norm=True, dropout=0.5)
        return dataclasses.replace(config, **changes)

    @classmethod
    def lenet5(cls, **changes: Any) -> "CNNConfig":
        """28x28 digits in 10 classes: LeCun's fifth, in today's form of 61,706 parameters.

        The first of 1998 had 32x32 inputs, pools with a weight and a bias, a second layer that saw
        only some channels, scaled tanh, and radial basis functions as outputs.
        """
        stages = (
            Stage(6, 5, padding=2, pool="average"),
            Stage(16, 5, padding=0, pool="average"),
        )
        config = cls(
            (28, 28, 1),
            stages,
            10,
            hidden=(120, 84),
            unit=dense(ops.tanh),
            kernel_init=initializers.glorot_uniform(),
            output_init=initializers.glorot_uniform(),
        )
        return dataclasses.replace(config, **changes)


def sizes(config: CNNConfig) -> list[tuple[int, int]]:
    """Return height and width of the image and behind each stage.

    Example:
      >>> sizes(CNNConfig.lenet5())
      [(28, 28), (14, 14), (5, 5)]
    """
    found = [config.image[:2]]
    for stage in config.stages:
        image = jax.ShapeDtypeStruct((1, *found[-1], 1), jnp.float32)
        kernel = jax.ShapeDtypeStruct((stage.window, stage.window, 1, 1), jnp.float32)

        def passed(x: Array, kernel: Array, stage: Stage = stage) -> Array:
            return _pooled(ops.conv(x, kernel, padding=stage.padding), stage.pool)

        shape = jax.eval_shape(passed, image, kernel).shape
        found.append((shape[1], shape[2]))
    return found


class CNN(nnx.Module):
    """Stages of convolution, unit and pooling, then fully connected layers and a linear output.

    h_l = pool(g(h_{l-1} * K_l + b_l)),  output = MLP(h_L)

    Each value of h_l sees a patch of the image only, with the same weights everywhere: what moves
    in the image moves in h_l, and pooling makes it matter less where it was.

    Args:
      config: what it is made of.
      rngs: for the parameters.

    Raises:
      ValueError: from the call, when the image has another shape; when dropout is on and `rngs` is
        missing.

    Example:
      >>> import jax.numpy as jnp
      >>> model = CNN(CNNConfig.tiny(), rngs=nnx.Rngs(0))
      >>> logits, features = model(jnp.ones((7, 6, 5, 2)), features=True)
      >>> logits.shape, {name: h.shape for name, h in features.items()}
      ((7, 3), {'stages.0': (7, 6, 5, 3), 'stages.1': (7, 3, 2, 4)})

    Source: DLB chapter 9; LeCun et al. 1998, Gradient-Based Learning Applied to Document
    Recognition.
    """

    def __init__(self, config: CNNConfig, *, rngs: nnx.Rngs):
        channels = (config.image[2], *(stage.features for stage in config.stages))
        self.stages = nnx.List(
            config.unit(
                channels[i], stage.features, affine=functools.partial(_affine, config, i), rngs=rngs
            )
            for i, stage in enumerate(config.stages)
        )
        self.head = MLP(config.dense_part(), rngs=rngs)
        self.pools = tuple(stage.pool for stage in config.stages)
        self.image = config.image
        self.mean = config.head == "mean"

    def __call__(
        self, x: Array, *, rngs: nnx.Rngs | None = None, features: bool = False
    ) -> Array | tuple[Array, dict[str, Array]]:
        """Compute the outputs of a batch.

        Args:
          x: shape (batch, height, width, channels); (batch, height, width) where there is one.
          rngs: for dropout, in training; with a key for each example or with one.
          features: also return the activations of the stages, before pooling, and of the hidden
            layers, before dropout, by the name of the layer.

        Returns:
          Shape (batch, features_out); with `features`, a pair of that and a dict.
        """
        h = self._images(x)
        seen = {}
        for i, (stage, pool) in enumerate(zip(self.stages, self.pools, strict=True)):
            h = seen[f"stages.{i}"] = stage(h)
            h = _pooled(h, pool)
        if self.mean:
            h = h.mean((1, 2))
        if not features:
            return self.head(h, rngs=rngs)
        found = self.head(h, rngs=rngs, features=True)
        output, hidden = cast(tuple[Array, dict[str, Array]], found)
        return output, seen | {f"head.{name}": value for name, value in hidden.items()}

    def _images(self, x: Array) -> Array:
        if x.ndim == 3 and self.image[2] == 1:
            x = x[..., None]
        free = self.mean and x.ndim == 4 and x.shape[3] == self.image[2]
        if not free and x.shape[1:] != self.image:
            raise ValueError(f"CNN needs images (batch, *{self.image}), got {x.shape}")
        return x


def _pooled(x: Array, pool: str | None) -> Array:
    if pool is None:
        return x
    return ops.max_pool(x, 2) if pool == "max" else ops.avg_pool(x, 2)


class _Normalised(nnx.Module):
    """A convolution, batch-normalised; the normalisation's shift is the bias."""

    def __init__(self, conv: Conv, features: int, axis_name: str | None):
        self.conv = conv
        self.norm = BatchNorm(features, axis_name=axis_name)

    def __call__(self, x: Array) -> Array:
        return self.norm(self.conv(x))


def _affine(
    config: CNNConfig, index: int, features_in: int, features_out: int, *, rngs: nnx.Rngs
) -> nnx.Module:
    stage, first = config.stages[index], index == 0
    conv = Conv(
        features_in,
        features_out,
        (stage.window,) * 2,
        padding=stage.padding,
        use_bias=not config.batch_norm,
        kernel_init=(config.first_init if first else None) or config.kernel_init,
        bias_init=config.bias_init,
        trained=config.first_trained or not first,
        dtype=config.dtype,
        rngs=rngs,
    )
    return _Normalised(conv, features_out, config.axis_name) if config.batch_norm else conv
