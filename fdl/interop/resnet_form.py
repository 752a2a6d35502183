"""What all references' ResNets have in common here: the module, and when two are the same."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from fdl.errors import InputError
from fdl.interop.form import Form
from fdl.models.resnet import ResNet
from fdl.models.resnet_config import ResNetConfig

FREE = ("kernel_init", "output_init", "zero_init", "axis_name", "dtype", "implementation")
WIDTHS = (256, 512, 1024, 2048)


def form(**parts: Any) -> Form:
    """Make a form of a ResNet, of what differs between references."""
    return Form(kind=ResNet, config=ResNetConfig, free=FREE, layers=_layers, **parts)


def if_read(
    read: Callable[[Mapping[str, Any]], ResNetConfig], out: dict[str, Any], config: ResNetConfig
) -> dict[str, Any] | None:
    """Return what was written if it is read as the same network, None otherwise."""
    try:
        return out if same(read(out), config) else None
    except InputError:  # such as widths that its groups do not divide
        return None


def same(one: ResNetConfig, other: ResNetConfig) -> bool:
    """Tell whether two configurations describe the same network."""
    return _resolved(one) == _resolved(other)


def rounded(width: float) -> int:
    """Round to the next multiple of 8, not down by more than a tenth, as BiT and timm do."""
    multiple = max(8, int(width + 4) // 8 * 8)
    return multiple + 8 if multiple < 0.9 * width else multiple


def _layers(config: ResNetConfig) -> int:
    return sum(config.depths)


def _resolved(config: ResNetConfig) -> ResNetConfig:
    changes: dict[str, Any] = {
        "middle": config.inner_widths,
        "strides": config.stage_strides,
        "stem_width": config.stem_channels,
        "groups": config.groups if config.norm == "group" else 1,
    }
    default: dict[str, Any] = {
        f.name: f.default for f in dataclasses.fields(config) if f.name in FREE
    }
    return dataclasses.replace(config, **(default | changes))
