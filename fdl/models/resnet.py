"""Residual networks of both versions, and the plain network that they are compared with."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import nnx

from fdl import initializers, ops
from fdl.models.conv import Conv
from fdl.models.layers import BatchNorm
from fdl.models.resnet_config import ResNetConfig
from fdl.models.standardised_conv import StandardisedConv
from fdl.types import Array


class ResNet(nnx.Module):
    """Images to logits through blocks that add to what they are given.

    v1: x' = g(shortcut(x) + F(x)),  F = norm(conv(... g(norm(conv(x))) ...))
    v2: x' = shortcut(x) + F(x),     F = conv(g(norm(... conv(g(norm(x))) ...)))

    with the unit g; the shortcut is the identity where the shape stays. The gradient then reaches
    the first block as directly as the last, and a block has to learn the difference to the identity
    only: networks of hundreds of layers train. Behind the last stage come the mean over all
    positions and a linear output.

    Where the shape changes, v2's shortcut starts from g(norm(x)), as in the paper's code. Differs
    from the paper of 2015 in that the stride of a bottleneck is on its 3x3 convolution, unless
    `stride_first`.

    Args:
      config: what it is made of.
      rngs: for the parameters.

    Attributes:
      config: as it was given.

    Raises:
      ValueError: from the call, when the images have another rank or number of channels.

    Example:
      >>> model = ResNet(ResNetConfig.tiny(), rngs=nnx.Rngs(0))
      >>> model(jnp.ones((2, 32, 32, 3))).shape
      (2, 3)
      >>> logits, features = model(jnp.ones((2, 32, 32, 3)), features=True)
      >>> {name: h.shape for name, h in features.items()}
      {'stem': (2, 8, 8, 4), 'stages.0': (2, 8, 8, 4), 'stages.1': (2, 4, 4, 8)}

    Source: He et al. 2015, arXiv 1512.03385; 2016, arXiv 1603.05027.
    """

    def __init__(self, config: ResNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.stem = _Stem(config, rngs=rngs)
        self.stages = nnx.List(
            nnx.List(
                Block(config, stage, first=i == 0, rngs=rngs) for i in range(config.depths[stage])
            )
            for stage in range(len(config.depths))
        )
        self.norm = nnx.data(
            _norm(config, config.widths[-1], rngs) if config.preactivation else None
        )
        self.output = _output(config, rngs)

    def __call__(
        self, x: Array, *, features: bool = False
    ) -> Array | tuple[Array, dict[str, Array]]:
        """Compute the outputs of a batch.

        Args:
          x: images, shape (batch, height, width, features_in).
          features: also return what stem and stages put out, by name.

        Returns:
          Shape (batch, features_out); with `features`, a pair of that and a dict.
        """
        if x.ndim != 4 or x.shape[-1] != self.config.features_in:
            channels = self.config.features_in
            raise ValueError(f"ResNet needs (batch, height, width, {channels}), got {x.shape}")
        h = self.stem(x)
        seen = {"stem": h}
        for i, stage in enumerate(self.stages):
            for block in stage:
                h = block(h)
            seen[f"stages.{i}"] = h
        if self.norm is not None:
            h = self.config.activation(self.norm(h))
        output = self.output(h.mean((1, 2)))
        return (output, seen) if features else output

    def with_outputs(self, features_out: int, *, rngs: nnx.Rngs) -> "ResNet":
        """Copy the network with a new output layer in place of its own, for another task.

        Args:
          features_out: number of outputs.
          rngs: for the new layer.

        Returns:
          A network that shares nothing with this one.
        """
        new = nnx.clone(self)
        new.config = dataclasses.replace(self.config, features_out=features_out)
        new.output = _output(new.config, rngs)
        return new


class _Stem(nnx.Module):
    def __init__(self, config: ResNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        window, stride = (7, 2) if config.stem == "imagenet" else (3, 1)
        width = config.stem_channels
        self.conv = _conv(config, config.features_in, width, window, stride, rngs)
        self.norm = nnx.data(None if config.preactivation else _norm(config, width, rngs))

    def __call__(self, x: Array) -> Array:
        config = self.config
        imagenet = config.stem == "imagenet"
        h = self.conv(x)
        if imagenet and config.stem_pool.startswith("zeros"):
            h = jnp.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)))
        if self.norm is not None:
            h = config.activation(self.norm(h))
        if not imagenet:
            return h
        if config.stem_pool.endswith("same"):
            h = jnp.pad(h, ((0, 0), *(_same(n, 3, 2) for n in h.shape[1:3]), (0, 0)))
        return ops.max_pool(h, (3, 3), strides=2, padding=1 if config.stem_pool == "max" else 0)


class Block(nnx.Module):
    """One block of a `ResNet`: two or three convolutions and what is added to them.

    Args:
      config: of the network.
      stage: index of the stage.
      first: whether it is the first block there, which changes the shape.
      rngs: for the parameters.
    """

    def __init__(self, config: ResNetConfig, stage: int, *, first: bool, rngs: nnx.Rngs):
        width = config.widths[stage]
        before = (config.stem_channels, *config.widths)[stage] if first else width
        stride = config.stage_strides[stage] if first else 1
        layers = _layers(config, stage, before, stride)
        self.config = config
        self.stride = stride
        self.convs = nnx.List(
            _conv(config, *layer, rngs, zero=_last_is_zero(config) and i == len(layers) - 1)
            for i, layer in enumerate(layers)
        )
        normalised = [layer[0 if config.preactivation else 1] for layer in layers]
        self.norms = nnx.List(_norm(config, channels, rngs) for channels in normalised)
        if config.zero_init and not config.preactivation:
            scale: Any = getattr(self.norms[-1], "scale")  # noqa: B009
            scale.set_value(jnp.zeros_like(scale[...]))
        changes = stride != 1 or before != width or (first and config.project_first)
        self.shortcut = nnx.data(
            _Projection(config, before, width, stride, rngs=rngs)
            if changes and config.skip and config.shortcut == "projection"
            else None
        )
        self.changes = changes

    def __call__(self, x: Array) -> Array:
        """Compute the next x, shape (batch, height, width, channels)."""
        g = self.config.activation
        if self.config.preactivation:
            first = g(self.norms[0](x))
            h = self.convs[0](first)
            for norm, conv in zip(self.norms[1:], self.convs[1:], strict=True):
                h = conv(g(norm(h)))
            return self._added(first if self.changes else x, h)
        h = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            h = norm(conv(g(h) if i else h))
        return g(self._added(x, h))

    def _added(self, x: Array, h: Array) -> Array:
        if not self.config.skip:
            return h
        if self.shortcut is not None:
            return self.shortcut(x) + h
        if self.changes:  # option A: every stride-th position, and channels of zeros behind
            more = h.shape[-1] - x.shape[-1]
            x = jnp.pad(x[:, :: self.stride, :: self.stride], ((0, 0),) * 3 + ((0, more),))
        return x + h


class _Projection(nnx.Module):
    def __init__(
        self, config: ResNetConfig, before: int, width: int, stride: int, *, rngs: nnx.Rngs
    ):
        self.conv = _conv(config, before, width, 1, stride, rngs)
        self.norm = nnx.data(None if config.preactivation else _norm(config, width, rngs))

    def __call__(self, x: Array) -> Array:
        h = self.conv(x)
        return h if self.norm is None else self.norm(h)


def _output(config: ResNetConfig, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(
        config.widths[-1],
        config.features_out,
        kernel_init=config.output_init,
        dtype=config.dtype,
        rngs=rngs,
    )


def _layers(
    config: ResNetConfig, stage: int, before: int, stride: int
) -> list[tuple[int, int, int, int]]:
    """List channels in, channels out, window and stride of a block's convolutions."""
    width, middle = config.widths[stage], config.inner_widths[stage]
    if config.block == "basic":
        return [(before, middle, 3, stride), (middle, width, 3, 1)]
    first, second = (stride, 1) if config.stride_first else (1, stride)
    return [(before, middle, 1, first), (middle, middle, 3, second), (middle, width, 1, 1)]


def _last_is_zero(config: ResNetConfig) -> bool:
    # a scale of 0 before a rectifier has no gradient: v2 begins with a kernel of 0 instead
    return config.zero_init and config.preactivation


def _conv(
    config: ResNetConfig,
    before: int,
    after: int,
    window: int,
    stride: int,
    rngs: nnx.Rngs,
    *,
    zero: bool = False,
) -> nnx.Module:
    kind = StandardisedConv if config.standardise else Conv
    without: dict[str, Any] = {} if config.standardise else {"use_bias": False}
    return kind(
        before,
        after,
        (window, window),
        strides=stride,
        padding=window // 2 if config.padding == "symmetric" else config.padding,
        kernel_init=initializers.zeros if zero else config.kernel_init,
        dtype=config.dtype,
        implementation=config.implementation,
        rngs=rngs,
        **without,
    )


def _norm(config: ResNetConfig, channels: int, rngs: nnx.Rngs) -> nnx.Module:
    if config.norm == "group":
        return nnx.GroupNorm(
            channels,
            num_groups=config.groups,
            epsilon=config.epsilon,
            use_fast_variance=False,  # E[x^2] - E[x]^2 cancels
            rngs=rngs,
        )
    return BatchNorm(
        channels,
        momentum=config.momentum,
        epsilon=config.epsilon,
        axis_name=config.axis_name,
        unbiased_running_var=config.unbiased_running_var,
    )


def _same(size: int, window: int, stride: int) -> tuple[int, int]:
    """Return XLA's "SAME" padding of an axis."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2
