"""The `config.json` of ResNets in Hugging Face's transformers: "resnet" and "bit"."""

from collections.abc import Mapping
from typing import Any

from fdl.errors import InputError
from fdl.interop import activations, fields, resnet_names
from fdl.interop.resnet_form import WIDTHS, form, if_read, rounded
from fdl.models.resnet_config import ResNetConfig, StemPool

_DEPTHS = (3, 4, 6, 3)
_PADS: dict[str, Any] = {"SAME": "SAME", "VALID": "VALID"}


def read_resnet(config: Mapping[str, Any]) -> ResNetConfig:
    """Read the `config.json` of transformers' ResNet."""
    first = 2 if fields.flag(config, "downsample_in_first_stage", False) else 1
    widths = fields.integers(config, "hidden_sizes", WIDTHS)
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
    out = _written(config, "resnet", "ResNetForImageClassification") | {
        "layer_type": config.block,
        "downsample_in_first_stage": config.stage_strides[0] == 2,
        "downsample_in_bottleneck": config.stride_first,
    }
    return if_read(read_resnet, out, config)


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
    widths = tuple(map(rounded, fields.integers(config, "hidden_sizes", WIDTHS)))
    strides = _bit_strides(len(widths), fields.integer(config, "output_stride", 32), kind)
    return ResNetConfig(
        depths=fields.integers(config, "depths", _DEPTHS),
        widths=widths,
        features_out=_num_labels(config),
        features_in=fields.integer(config, "num_channels", 3),
        block="bottleneck",
        preactivation=kind == "preactivation",
        middle=tuple(rounded(width / 4) for width in widths),
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
    out = _written(config, "bit", "BitForImageClassification") | {
        "layer_type": "preactivation" if config.preactivation else "bottleneck",
        "global_padding": _PADS.get(config.padding),
        "embedding_dynamic_padding": config.stem_pool.endswith("same"),
        "num_groups": config.groups,
        "output_stride": 4 * 2 ** sum(stride == 2 for stride in config.stage_strides),
    }
    return if_read(read_bit, out, config)


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


def _num_labels(config: Mapping[str, Any]) -> int:
    labels = config.get("id2label")
    return fields.integer(config, "num_labels", len(labels) if isinstance(labels, dict) else 2)


def _written(config: ResNetConfig, model_type: str, architecture: str) -> dict[str, Any]:
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


FORMS = (
    form(
        name="huggingface",
        recognises=lambda config: config.get("model_type") == "resnet",
        read=read_resnet,
        write=write_resnet,
        fits=lambda config: not config.preactivation,
        names=resnet_names.HUGGING_FACE,
    ),
    form(
        name="huggingface",
        recognises=lambda config: config.get("model_type") == "bit",
        read=read_bit,
        write=write_bit,
        fits=lambda config: config.preactivation,
        names=resnet_names.BIT,
    ),
)
