"""What a residual network is made of, with the sizes of the papers."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, get_args

from fdl import axes, initializers, ops
from fdl.errors import InputError
from fdl.types import Array, DTypeLike

StemPool = Literal["max", "zeros", "none", "same", "zeros+same"]
_CHOICES: dict[str, Any] = {
    "block": Literal["basic", "bottleneck"],
    "stem": Literal["imagenet", "cifar"],
    "stem_pool": StemPool,
    "shortcut": Literal["projection", "zeros"],
    "norm": Literal["batch", "group"],
    "padding": Literal["symmetric", "SAME", "VALID"],
}


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
    """What a residual network is made of.

    Attributes:
      depths: number of blocks of each stage.
      widths: channels that each stage puts out.
      features_out: number of outputs.
      features_in: channels of an image.
      block: "basic" is two 3x3 convolutions, "bottleneck" 1x1, 3x3 and 1x1.
      preactivation: v2: normalisation and unit stand before each convolution and nothing stands
        behind the sum, so that the shortcuts make an identity from the first block to the last.
      middle: channels within the blocks of each stage; None: `widths`, a quarter of them in
        bottlenecks.
      strides: of the first block of each stage; None: 1 in the first stage, 2 in the others.
      stride_first: the stride of a bottleneck is that of its first 1x1 convolution, as in the paper
        of 2015; otherwise of the 3x3 convolution, as in all code of today.
      stem: "imagenet" is a 7x7 convolution of stride 2 and a pool of stride 2, "cifar" a 3x3
        convolution.
      stem_width: channels of the stem; None: those within the first stage's blocks.
      stem_pool: what the "imagenet" stem's 3x3 pool sees at the border. "max": nothing. "zeros": a
        row of zeros, before the normalisation if there is one; "none": the pool stays inside;
        "same": as many zeros as XLA's "SAME" padding has; "zeros+same": both.
      shortcut: where the shape changes, "projection" is a 1x1 convolution (option B of the paper),
        "zeros" leaves positions out and adds channels of zeros (option A).
      project_first: the first block of each stage projects even where the shape stays.
      skip: False leaves all shortcuts out: the plain network of equal depth.
      norm: "batch", or "group" which does not look at other examples.
      groups: of channels in group normalisation.
      standardise: give each output channel's kernel mean 0 and variance 1 before it is used
        (weight standardisation).
      padding: of the convolutions; "symmetric" is that of PyTorch and unlike "SAME" for stride 2.
      zero_init: begin with every block as the identity: the last scale of a block is 0 (Goyal et
        al. 2017), with `preactivation` its last kernel.
      activation: the unit.
      kernel_init: of the convolutions; He's for the number of outputs.
      output_init: of the output layer's kernel.
      momentum: of batch normalisation's running averages.
      epsilon: of normalisation.
      unbiased_running_var: as in `BatchNorm`; True is what published weights come from.
      axis_name: over which devices share a batch; no matter where not bound.
      dtype: in which convolutions are computed; that of parameters and input if None.
      implementation: of the convolutions, see `fdl.ops.conv`.

    Raises:
      InputError: when an option or a size is out of range, or sizes do not fit one another.

    Example:
      >>> ResNetConfig.resnet50().depths
      (3, 4, 6, 3)
      >>> sum(ResNetConfig.cifar(20).depths) * 2 + 2  # convolutions and the output layer
      20

    Source: He et al. 2015, arXiv 1512.03385 (v1); 2016, arXiv 1603.05027 (v2); Kolesnikov et al.
    2020, arXiv 1912.11370 (group normalisation and weight standardisation).
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    features_out: int
    _: dataclasses.KW_ONLY
    features_in: int = 3
    block: Literal["basic", "bottleneck"] = "basic"
    preactivation: bool = False
    middle: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None
    stride_first: bool = False
    stem: Literal["imagenet", "cifar"] = "imagenet"
    stem_width: int | None = None
    stem_pool: StemPool = "max"
    shortcut: Literal["projection", "zeros"] = "projection"
    project_first: bool = False
    skip: bool = True
    norm: Literal["batch", "group"] = "batch"
    groups: int = 32
    standardise: bool = False
    padding: Literal["symmetric", "SAME", "VALID"] = "symmetric"
    zero_init: bool = False
    activation: Callable[[Array], Array] = ops.relu
    kernel_init: initializers.Initializer = initializers.variance_scaling(2.0, "fan_out", "normal")
    output_init: initializers.Initializer = initializers.lecun_normal()
    momentum: float = 0.9
    epsilon: float = 1e-5
    unbiased_running_var: bool = True
    axis_name: str | None = axes.DATA
    dtype: DTypeLike | None = None
    implementation: str = "auto"

    def __post_init__(self) -> None:
        for name in ("depths", "widths", "middle", "strides"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_sizes()
        self._check_options()

    @property
    def inner_widths(self) -> tuple[int, ...]:
        """Channels within the blocks of each stage: `middle`, or what follows from `widths`."""
        quarter = 4 if self.block == "bottleneck" else 1
        return self.middle or tuple(max(width // quarter, 1) for width in self.widths)

    @property
    def stage_strides(self) -> tuple[int, ...]:
        """Stride of the first block of each stage: `strides`, or 1, 2, 2, ..."""
        return self.strides or (1, *(2 for _ in self.widths[1:]))

    @property
    def stem_channels(self) -> int:
        """Channels of the stem: `stem_width`, or those within the first stage's blocks."""
        return self.stem_width or self.inner_widths[0]

    def _check_sizes(self) -> None:
        for name in ("depths", "widths", "middle", "strides"):
            values = getattr(self, name)
            if values is None:
                continue
            if len(values) != len(self.depths) or min(values, default=0) < 1:
                raise InputError(
                    f"ResNetConfig({name}=...) must be >= 1 for each stage, got {values}"
                )
        for name in ("features_in", "features_out", "stem_width", "groups"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(
                    f"ResNetConfig({name}=...) must be >= 1, got {getattr(self, name)}"
                )

    def _check_options(self) -> None:
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) not in get_args(choices):
                raise InputError(
                    f"ResNetConfig({name}=...) must be one of {', '.join(get_args(choices))},"
                    f" got {value!r}"
                )
        channels = (self.stem_channels, *self.widths)
        if self.skip and self.shortcut == "zeros" and list(channels) != sorted(channels):
            raise InputError(
                f"ResNetConfig(shortcut='zeros') needs widths that never fall, got {channels}"
            )
        normalised = {*channels, *self.inner_widths}
        if self.norm == "group" and (odd := [w for w in normalised if w % self.groups]):
            raise InputError(
                f"ResNetConfig(groups={self.groups}) must divide all widths, got {min(odd)}"
            )

    @classmethod
    def resnet18(cls, features_out: int = 1000, **changes: Any) -> "ResNetConfig":
        """ImageNet, 18 layers (He et al. 2015, table 1)."""
        return cls._imagenet((2, 2, 2, 2), features_out, changes)

    @classmethod
    def resnet34(cls, features_out: int = 1000, **changes: Any) -> "ResNetConfig":
        """ImageNet, 34 layers."""
        return cls._imagenet((3, 4, 6, 3), features_out, changes)

    @classmethod
    def resnet50(cls, features_out: int = 1000, **changes: Any) -> "ResNetConfig":
        """ImageNet, 50 layers: bottlenecks with the stride on their 3x3 convolution ("v1.5")."""
        return cls._imagenet((3, 4, 6, 3), features_out, {"block": "bottleneck"} | changes)

    @classmethod
    def resnet101(cls, features_out: int = 1000, **changes: Any) -> "ResNetConfig":
        """ImageNet, 101 layers."""
        return cls._imagenet((3, 4, 23, 3), features_out, {"block": "bottleneck"} | changes)

    @classmethod
    def resnet152(cls, features_out: int = 1000, **changes: Any) -> "ResNetConfig":
        """ImageNet, 152 layers."""
        return cls._imagenet((3, 8, 36, 3), features_out, {"block": "bottleneck"} | changes)

    @classmethod
    def resnet50_v2(cls, features_out: int = 1000, **changes: Any) -> "ResNetConfig":
        """ImageNet, 50 layers with pre-activation (He et al. 2016)."""
        return cls.resnet50(features_out, **({"preactivation": True} | changes))

    @classmethod
    def bit50(cls, features_out: int = 1000, **changes: Any) -> "ResNetConfig":
        """Big Transfer R50x1: pre-activation, group normalisation, weight standardisation."""
        given: dict[str, Any] = {
            "norm": "group",
            "standardise": True,
            "project_first": True,
            "stem_pool": "zeros",
        }
        return cls.resnet50_v2(features_out, **(given | changes))

    @classmethod
    def cifar(cls, depth: int, features_out: int = 10, **changes: Any) -> "ResNetConfig":
        """32x32 images: 6n + 2 layers of 16, 32 and 64 channels, shortcuts of zeros.

        Raises:
          InputError: when the depth is not 6n + 2.
        """
        given: dict[str, Any] = {
            "depths": (_blocks("cifar", depth, 6),) * 3,
            "widths": (16, 32, 64),
        }
        given |= {"stem": "cifar", "shortcut": "zeros", "features_out": features_out}
        return cls(**(given | changes))

    @classmethod
    def cifar_v2(cls, depth: int, features_out: int = 10, **changes: Any) -> "ResNetConfig":
        """32x32 images: 9n + 2 layers in pre-activated bottlenecks of 64, 128 and 256 channels.

        Raises:
          InputError: when the depth is not 9n + 2.
        """
        given: dict[str, Any] = {
            "depths": (_blocks("cifar_v2", depth, 9),) * 3,
            "widths": (64, 128, 256),
        }
        given |= {"stem": "cifar", "block": "bottleneck", "preactivation": True}
        return cls(**(given | {"features_out": features_out} | changes))

    @classmethod
    def digits(cls, **changes: Any) -> "ResNetConfig":
        """8x8 digits in 10 classes: 8 layers of 16, 32 and 64 channels."""
        return cls.cifar(8, **({"features_in": 1} | changes))

    @classmethod
    def tiny(cls, **changes: Any) -> "ResNetConfig":
        """Two stages of a block each, 4 and 8 channels, 3 outputs: for tests."""
        given: dict[str, Any] = {"depths": (1, 1), "widths": (4, 8), "features_out": 3}
        return cls(**(given | changes))

    @classmethod
    def _imagenet(
        cls, depths: tuple[int, ...], features_out: int, changes: dict[str, Any]
    ) -> "ResNetConfig":
        wide = 4 if changes.get("block") == "bottleneck" else 1
        given: dict[str, Any] = {"depths": depths, "features_out": features_out}
        given["widths"] = tuple(wide * width for width in (64, 128, 256, 512))
        return cls(**(given | changes))


def _blocks(preset: str, depth: int, layers: int) -> int:
    """Return how many blocks a stage has when `layers` layers make a block of each stage."""
    n, rest = divmod(depth - 2, layers)
    if rest or n < 1:
        raise InputError(f"ResNetConfig.{preset}(depth=...) must be {layers}n + 2, got {depth}")
    return n
