"""The names of a ResNet's arrays in Hugging Face's transformers, in timm and in torchvision."""

import numpy as np

from fdl.interop.table import CONV, CONV_1X1, TRANSPOSED, Names, Row, Unused

_COUNT = np.zeros((), np.int64)  # of batches seen: PyTorch wants it, nothing depends on it


def _norm(ours: str, theirs: str) -> tuple[Row, ...]:
    return (
        Row(f"{ours}.scale", f"{theirs}.weight"),
        Row(f"{ours}.bias", f"{theirs}.bias"),
        Row(f"{ours}.mean", f"{theirs}.running_mean"),
        Row(f"{ours}.var", f"{theirs}.running_var"),
    )


def _names(
    convs: dict[str, str], norms: dict[str, str], head: tuple[Row, Row], prefix: str = ""
) -> Names:
    rows = [Row(f"{ours}.kernel", f"{theirs}.weight", CONV) for ours, theirs in convs.items()]
    for ours, theirs in norms.items():
        rows += _norm(ours, theirs)
    unused = [
        Unused(f"{ours}.mean", f"{theirs}.num_batches_tracked", _COUNT)
        for ours, theirs in norms.items()
    ]
    return Names((*rows, *head), tuple(unused), prefix)


def _dense(theirs: str) -> tuple[Row, Row]:
    return Row("output.kernel", f"{theirs}.weight", TRANSPOSED), Row(
        "output.bias", f"{theirs}.bias"
    )


_BLOCK = "stages.{i}.{j}"
_HF = "resnet.encoder.stages.{i}.layers.{j}"
_BIT = "bit.encoder.stages.{i}.layers.{j}"
_LAYER = "layer{i+1}.{j}"
_TIMM = "stages.{i}.blocks.{j}"

HUGGING_FACE = _names(
    convs={
        "stem.conv": "resnet.embedder.embedder.convolution",
        _BLOCK + ".convs.{k}": _HF + ".layer.{k}.convolution",
        _BLOCK + ".shortcut.conv": _HF + ".shortcut.convolution",
    },
    norms={
        "stem.norm": "resnet.embedder.embedder.normalization",
        _BLOCK + ".norms.{k}": _HF + ".layer.{k}.normalization",
        _BLOCK + ".shortcut.norm": _HF + ".shortcut.normalization",
    },
    head=_dense("classifier.1"),
    prefix="resnet.",
)

BIT = _names(
    convs={
        "stem.conv": "bit.embedder.convolution",
        _BLOCK + ".convs.{k}": _BIT + ".conv{k+1}",
        _BLOCK + ".shortcut.conv": _BIT + ".downsample.conv",
    },
    norms={
        "stem.norm": "bit.embedder.norm",
        _BLOCK + ".norms.{k}": _BIT + ".norm{k+1}",
        _BLOCK + ".shortcut.norm": _BIT + ".downsample.norm",
        "norm": "bit.norm",
    },
    head=_dense("classifier.1"),
    prefix="bit.",
)

TORCHVISION = _names(  # and timm's `resnet`
    convs={
        "stem.conv": "conv1",
        _BLOCK + ".convs.{k}": _LAYER + ".conv{k+1}",
        _BLOCK + ".shortcut.conv": _LAYER + ".downsample.0",
    },
    norms={
        "stem.norm": "bn1",
        _BLOCK + ".norms.{k}": _LAYER + ".bn{k+1}",
        _BLOCK + ".shortcut.norm": _LAYER + ".downsample.1",
    },
    head=_dense("fc"),
)

TIMM_V2 = _names(
    convs={
        "stem.conv": "stem.conv",
        _BLOCK + ".convs.{k}": _TIMM + ".conv{k+1}",
        _BLOCK + ".shortcut.conv": _TIMM + ".downsample.conv",
    },
    norms={
        "stem.norm": "stem.norm",
        _BLOCK + ".norms.{k}": _TIMM + ".norm{k+1}",
        _BLOCK + ".shortcut.norm": _TIMM + ".downsample.norm",
        "norm": "norm",
    },
    head=(  # a convolution of window 1
        Row("output.kernel", "head.fc.weight", CONV_1X1),
        Row("output.bias", "head.fc.bias"),
    ),
)
