"""Checkpoints of reference implementations in and out, under their own names."""

from fdl.interop.pretrained import load_pretrained as load_pretrained
from fdl.interop.pretrained import save_pretrained as save_pretrained
from fdl.interop.recurrent import rnn_names as rnn_names
from fdl.interop.resnet_names import BIT as BIT_HUGGING_FACE
from fdl.interop.resnet_names import HUGGING_FACE as RESNET_HUGGING_FACE
from fdl.interop.resnet_names import TIMM_V2 as RESNET_V2_TIMM
from fdl.interop.resnet_names import TORCHVISION as RESNET_TORCHVISION
from fdl.interop.table import CONV as CONV
from fdl.interop.table import CONV_1X1 as CONV_1X1
from fdl.interop.table import SAME as SAME
from fdl.interop.table import TRANSPOSED as TRANSPOSED
from fdl.interop.table import Layout as Layout
from fdl.interop.table import Names as Names
from fdl.interop.table import Row as Row
from fdl.interop.table import Unused as Unused
from fdl.interop.weights import filled as filled
from fdl.interop.weights import load_weights as load_weights
from fdl.interop.weights import save_weights as save_weights

__all__ = [
    "BIT_HUGGING_FACE",
    "CONV",
    "CONV_1X1",
    "RESNET_HUGGING_FACE",
    "RESNET_TORCHVISION",
    "RESNET_V2_TIMM",
    "SAME",
    "TRANSPOSED",
    "Layout",
    "Names",
    "Row",
    "Unused",
    "filled",
    "load_pretrained",
    "load_weights",
    "rnn_names",
    "save_pretrained",
    "save_weights",
]
