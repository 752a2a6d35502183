"""ResNets of Hugging Face's transformers ("resnet", "bit") and of timm ("resnet", "resnetv2")."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from fdl.errors import InputError
from fdl.interop import activations, fields, resnet_names
from fdl.interop.form import Form
from fdl.models.resnet import ResNet
from fdl.models.resnet_config import ResNetConfig, StemPool

FREE = ("kernel_init", "output_init", "zero_init", "axis_name", "dtype", "implementation")
_WIDTHS = (256, 512, 1024, 2048)
_DEPTHS = (3, 4, 6, 3)
_TIMM: dict[str, tuple[tuple[int, ...], str]] = {  # depths and kind of block
    "resnet18": ((2, 2, 2, 2), "basic"),
    "resnet34": ((3, 4, 6, 3), "basic"),
    "resnet26": ((2, 2, 2, 2), "bottleneck"),
    "resnet50": ((3, 4, 6, 3), "bottleneck"),
    "resnet101": ((3, 4, 23, 3), "bottleneck"),
    "resnet152": ((3, 8, 36, 3), "bottleneck"),
}
_BIT_NAME = re.compile(r"resnetv2_(50|101|152)x([1-4])_bit")
_PADS: dict[str, Any] = {"SAME": "SAME", "VALID": "VALID"}


def _layers(config: ResNetConfig) -> int:
    return sum(config.depths)


def _num_labels(config: Mapping[str, Any]) -> int:
    labels = config.get("id2label")
    return fields.integer(config, "num_labels", len(labels) if isinstance(labels, dict) else 2)


def _hugging_face(config: ResNetConfig, model_type: str, architecture: str) -> dict[str, Any]:
    labels = {str(i): f"LABEL_{i}" for i in range(config.features_out)}
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "num_channels": config.features_in,
        "embedding_size": config.stem_channels,
        "hidden_sizes": list(config.widths),
        "depths": list(config.depths),
        "hidden_act": activations.name(config.activation),
        "id2label": labels,
        "label2id": {label: int(i) for i, label in labels.items()},
    }


def _same(one: ResNetConfig, other: ResNetConfig) -> bool:
    """Tell whether two configurations describe the same network."""
    return _resolved(one) == _resolved(other)


def _if_read(
    read: Callable[[Mapping[str, Any]], ResNetConfig], out: dict[str, Any], config: ResNetConfig
) -> dict[str, Any] | None:
    """Return what was written if it is read as the same network, None otherwise."""
    try:
        return out if _same(read(out), config) else None
    except InputError:  # such as widths that its groups do not divide
        return None


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


def read_resnet(config: Mapping[str, Any]) -> ResNetConfig:
    """Read the `config.json` of transformers' ResNet."""
    first = 2 if fields.flag(config, "downsample_in_first_stage", False) else 1
    widths = fields.integers(config, "hidden_sizes", _WIDTHS)
    return ResNetConfig(
        depths=fields.integers(config, "depths", _DEPTHS),
        widths=widths,
        features_out=_num_labels(config),
        features_in=fields.integer(config, "num_channels", 3),
        block=fields.word(config, "layer_type", "bottleneck", ("basic", "bottleneck")),
        strides=(first, *(2 for _ in widths[1:])),
        stride_first=fields.flag(config, "downsample_in_bottleneck", False),
        stem_width=fields.integer(config, "embedding_size", 64),
        activation=activations.unit(config, "hidden_act"),
    )


def write_resnet(config: ResNetConfig) -> dict[str, Any] | None:
    """Write the `config.json` of transformers' ResNet; None if it has no such network."""
    out = _hugging_face(config, "resnet", "ResNetForImageClassification") | {
        "layer_type": config.block,
        "downsample_in_first_stage": config.stage_strides[0] == 2,
        "downsample_in_bottleneck": config.stride_first,
    }
    return _if_read(read_resnet, out, config)


def read_bit(config: Mapping[str, Any]) -> ResNetConfig:
    """Read the `config.json` of transformers' BiT."""
    if fields.integer(config, "width_factor", 1) != 1:
        raise InputError("config.json: width_factor must be 1: BiT's own norm is not widened")
    if fields.number(config, "drop_path_rate", 0.0) != 0:
        raise InputError("config.json: drop_path_rate must be 0: paths are not dropped here")
    kind = fields.word(config, "layer_type", "preactivation", ("preactivation", "bottleneck"))
    given = str(config.get("global_padding")).upper()
    dynamic = fields.flag(config, "embedding_dynamic_padding", False)
    pools: dict[tuple[bool, bool], StemPool] = {
        (True, False): "none",
        (True, True): "same",
        (False, False): "zeros",
        (False, True): "zeros+same",
    }
    widths = tuple(map(_rounded, fields.integers(config, "hidden_sizes", _WIDTHS)))
    strides = _bit_strides(len(widths), fields.integer(config, "output_stride", 32), kind)
    return ResNetConfig(
        depths=fields.integers(config, "depths", _DEPTHS),
        widths=widths,
        features_out=_num_labels(config),
        features_in=fields.integer(config, "num_channels", 3),
        block="bottleneck",
        preactivation=kind == "preactivation",
        middle=tuple(_rounded(width / 4) for width in widths),
        strides=strides,
        stem_width=fields.integer(config, "embedding_size", 64),
        stem_pool=pools[given == "SAME", dynamic],
        project_first=True,
        norm="group",
        groups=fields.integer(config, "num_groups", 32),
        standardise=True,
        padding=_PADS.get(given, "symmetric"),
        activation=activations.unit(config, "hidden_act"),
    )


def write_bit(config: ResNetConfig) -> dict[str, Any] | None:
    """Write the `config.json` of transformers' BiT; None if it has no such network."""
    out = _hugging_face(config, "bit", "BitForImageClassification") | {
        "layer_type": "preactivation" if config.preactivation else "bottleneck",
        "global_padding": _PADS.get(config.padding),
        "embedding_dynamic_padding": config.stem_pool.endswith("same"),
        "num_groups": config.groups,
        "output_stride": 4 * 2 ** sum(stride == 2 for stride in config.stage_strides),
    }
    return _if_read(read_bit, out, config)


def _bit_strides(stages: int, output_stride: int, kind: str) -> tuple[int, ...]:
    """List the strides until the output is `output_stride` times smaller than the image."""
    strides, now = [1], 4
    for _ in range(stages - 1):
        strides.append(2 if now < output_stride else 1)
        now *= strides[-1]
    if kind == "bottleneck" and strides != [1, *[2] * (stages - 1)]:
        raise InputError(
            f"config.json: output_stride {output_stride} asks for dilated bottlenecks, which are"
            " not here"
        )
    return tuple(strides)


def _rounded(width: float) -> int:
    """Round to the next multiple of 8, not down by more than a tenth, as BiT and timm do."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


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
    """Read the `config.json` of timm's ResNet, without the options of its many variants."""
    depths, usual = _TIMM[_architecture(config)]
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
    named: dict[Any, str] = {kind: name for name, kind in _TIMM.items()}
    default = "resnet18" if config.block == "basic" else "resnet50"
    out = {
        "architecture": named.get((config.depths, config.block), default),
        "num_classes": config.features_out,
        "num_features": config.widths[-1],
        "model_args": args,
    }
    return _if_read(read_timm, out, config)


def read_timm_v2(config: Mapping[str, Any]) -> ResNetConfig:
    """Read the `config.json` of timm's ResNetV2, without the options of its many variants."""
    name = _architecture(config)
    bit = _BIT_NAME.fullmatch(name)
    depths, block = _TIMM["resnet" + (bit[1] if bit else name.removeprefix("resnetv2_"))]
    keys = ("layers", "channels", "basic", "bottle_ratio", "stem_chs", "num_classes", "in_chans")
    args = _model_args(config, (*keys, "act_layer"))
    basic = fields.flag(args, "basic", block == "basic")
    wide = int(bit[2]) if bit else 1
    channels = (64, 128, 256, 512) if block == "basic" else _WIDTHS
    widths = fields.integers(args, "channels", channels)
    widths = tuple(_rounded(wide * width) for width in widths)
    ratio = fields.number(args, "bottle_ratio", 1.0 if block == "basic" else 0.25)
    group: dict[str, Any] = {"norm": "group", "standardise": True, "stem_pool": "zeros"}
    return ResNetConfig(
        depths=fields.integers(args, "layers", depths),
        widths=widths,
        features_out=fields.integer(args, "num_classes", 1000),
        features_in=fields.integer(args, "in_chans", 3),
        block="basic" if basic else "bottleneck",
        preactivation=True,
        middle=tuple(_rounded(width * ratio) for width in widths),
        stem_width=_rounded(wide * fields.integer(args, "stem_chs", 64)),
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
    return _if_read(read_timm_v2, out, config)


def _is_timm_v2(config: Mapping[str, Any]) -> bool:
    name = _architecture(config)
    return bool(_BIT_NAME.fullmatch(name)) or name in {f"resnetv2_{n[6:]}" for n in _TIMM}


def _form(**parts: Any) -> Form:
    return Form(kind=ResNet, config=ResNetConfig, free=FREE, layers=_layers, **parts)


FORMS = (
    _form(
        name="huggingface",
        recognises=lambda config: config.get("model_type") == "resnet",
        read=read_resnet,
        write=write_resnet,
        fits=lambda config: not config.preactivation,
        names=resnet_names.HUGGING_FACE,
    ),
    _form(
        name="huggingface",
        recognises=lambda config: config.get("model_type") == "bit",
        read=read_bit,
        write=write_bit,
        fits=lambda config: config.preactivation,
        names=resnet_names.BIT,
    ),
    _form(
        name="timm",
        recognises=lambda config: _architecture(config) in _TIMM,
        read=read_timm,
        write=write_timm,
        fits=lambda config: not config.preactivation,
        names=resnet_names.TORCHVISION,
    ),
    _form(
        name="timm",
        recognises=_is_timm_v2,
        read=read_timm_v2,
        write=write_timm_v2,
        fits=lambda config: config.preactivation,
        names=resnet_names.TIMM_V2,
    ),
)
