"""Checkpoints of reference implementations in and out, under their own names.

Tables of names are in `resnet_names`, layouts (`TRANSPOSED`, `CONV`, ...) in `table`.
"""

from fdl.interop.pretrained import load_pretrained as load_pretrained
from fdl.interop.pretrained import save_pretrained as save_pretrained
from fdl.interop.recurrent import rnn_names as rnn_names
from fdl.interop.table import Layout as Layout
from fdl.interop.table import Names as Names
from fdl.interop.table import Row as Row
from fdl.interop.table import Tied as Tied
from fdl.interop.table import Unused as Unused
from fdl.interop.weights import filled as filled
from fdl.interop.weights import load_weights as load_weights
from fdl.interop.weights import save_weights as save_weights

__all__ = [
    "Layout",
    "Names",
    "Row",
    "Tied",
    "Unused",
    "filled",
    "load_pretrained",
    "load_weights",
    "rnn_names",
    "save_pretrained",
    "save_weights",
]
