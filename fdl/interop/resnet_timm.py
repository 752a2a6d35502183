"""The `config.json` of timm's ResNets, without the options of its many variants."""

import re
from collections.abc import Mapping
from typing import Any

from fdl.errors import InputError
from fdl.interop import activations, fields, resnet_names
from fdl.interop.resnet_form import WIDTHS, form, if_read, rounded
from fdl.models.resnet_config import ResNetConfig

_KNOWN: dict[str, tuple[tuple[int, ...], str]] = {  # depths and kind of block
    "resnet18": ((2, 2, 2, 2), "basic"),
    "resnet34": ((3, 4, 6, 3), "basic"),
    "resnet26": ((2, 2, 2, 2), "bottleneck"),
    "resnet50": ((3, 4, 6, 3), "bottleneck"),
    "resnet101": ((3, 4, 23, 3), "bottleneck"),
    "resnet152": ((3, 8, 36, 3), "bottleneck"),
}
_BIT_NAME = re.compile(r"resnetv2_(50|101|152)x([1-4])_bit")


def _model_args(config: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    args = config.get("model_args", {})
    if not isinstance(args, dict):
        raise InputError(f"config.json: model_args must be an object, got {args!r:.80}")
    fields.known(args, "model_args", keys)
    return {"num_classes": config.get("num_classes", 1000), **args}


def _architecture(config: Mapping[str, Any]) -> str:
    name = config.get("architecture")
    return name.partition(".")[0] if isinstance(name, str) else ""


def read_timm(config: Mapping[str, Any]) -> ResNetConfig:
    """Read the `config.json` of timm's ResNet."""
    depths, usual = _KNOWN[_architecture(config)]
    keys = ("layers", "channels", "block", "num_classes", "in_chans", "stem_width", "act_layer")
    args = _model_args(config, keys)
    block = fields.word(args, "block", usual, ("basic", "bottleneck"))
    channels = fields.integers(args, "channels", (64, 128, 256, 512))
    return ResNetConfig(
        depths=fields.integers(args, "layers", depths),
        widths=tuple(4 * c for c in channels) if block == "bottleneck" else channels,
        features_out=fields.integer(args, "num_classes", 1000),
        features_in=fields.integer(args, "in_chans", 3),
        block=block,
        stem_width=64,  # timm's stem_width is that of its stems of three convolutions
        activation=activations.unit(args, "act_layer"),
    )


def write_timm(config: ResNetConfig) -> dict[str, Any] | None:
    """Write the `config.json` of timm's ResNet; None if it has no such network."""
    quarter = 4 if config.block == "bottleneck" else 1
    args = {
        "layers": list(config.depths),
        "channels": [width // quarter for width in config.widths],
        "in_chans": config.features_in,
        "act_layer": activations.name(config.activation),
    }
    named: dict[Any, str] = {kind: name for name, kind in _KNOWN.items()}
    default = "resnet18" if config.block == "basic" else "resnet50"
    out = {
        "architecture": named.get((config.depths, config.block), default),
        "num_classes": config.features_out,
        "num_features": config.widths[-1],
        "model_args": args,
    }
    return if_read(read_timm, out, config)


def read_timm_v2(config: Mapping[str, Any]) -> ResNetConfig:
    """Read the `config.json` of timm's ResNetV2."""
    name = _architecture(config)
    bit = _BIT_NAME.fullmatch(name)
    depths, block = _KNOWN["resnet" + (bit[1] if bit else name.removeprefix("resnetv2_"))]
    keys = ("layers", "channels", "basic", "bottle_ratio", "stem_chs", "num_classes", "in_chans")
    args = _model_args(config, (*keys, "act_layer"))
    basic = fields.flag(args, "basic", block == "basic")
    wide = int(bit[2]) if bit else 1
    channels = (64, 128, 256, 512) if block == "basic" else WIDTHS
    widths = fields.integers(args, "channels", channels)
    widths = tuple(rounded(wide * width) for width in widths)
    ratio = fields.number(args, "bottle_ratio", 1.0 if block == "basic" else 0.25)
    group: dict[str, Any] = {"norm": "group", "standardise": True, "stem_pool": "zeros"}
    return ResNetConfig(
        depths=fields.integers(args, "layers", depths),
        widths=widths,
        features_out=fields.integer(args, "num_classes", 1000),
        features_in=fields.integer(args, "in_chans", 3),
        block="basic" if basic else "bottleneck",
        preactivation=True,
        middle=tuple(rounded(width * ratio) for width in widths),
        stem_width=rounded(wide * fields.integer(args, "stem_chs", 64)),
        project_first=not basic,
        activation=activations.unit(args, "act_layer"),
        **(group if bit else {}),
    )


def write_timm_v2(config: ResNetConfig) -> dict[str, Any] | None:
    """Write the `config.json` of timm's ResNetV2; None if it has no such network."""
    group = config.norm == "group"
    plain = "resnetv2_18" if config.block == "basic" else "resnetv2_50"
    args = {
        "layers": list(config.depths),
        "channels": list(config.widths),
        "stem_chs": config.stem_channels,
        "in_chans": config.features_in,
        "act_layer": activations.name(config.activation),
    }
    out = {
        "architecture": "resnetv2_50x1_bit" if group else plain,
        "num_classes": config.features_out,
        "num_features": config.widths[-1],
        "model_args": args,
    }
    return if_read(read_timm_v2, out, config)


def _is_timm_v2(config: Mapping[str, Any]) -> bool:
    name = _architecture(config)
    return bool(_BIT_NAME.fullmatch(name)) or name in {f"resnetv2_{n[6:]}" for n in _KNOWN}


FORMS = (
    form(
        name="timm",
        recognises=lambda config: _architecture(config) in _KNOWN,
        read=read_timm,
        write=write_timm,
        fits=lambda config: not config.preactivation,
        names=resnet_names.TORCHVISION,
    ),
    form(
        name="timm",
        recognises=_is_timm_v2,
        read=read_timm_v2,
        write=write_timm_v2,
        fits=lambda config: config.preactivation,
        names=resnet_names.TIMM_V2,
    ),
)
