"""Architectures as Flax NNX modules: a frozen configuration and a module each."""

from fdl.models.layers import BatchNorm as BatchNorm
from fdl.models.layers import Dropout as Dropout
from fdl.models.layers import bernoulli as bernoulli
from fdl.models.lsuv import Scaled as Scaled
from fdl.models.lsuv import lsuv as lsuv
from fdl.models.mlp import MLP as MLP
from fdl.models.mlp import MLPConfig as MLPConfig
from fdl.models.multitask import MultiTaskConfig as MultiTaskConfig
from fdl.models.multitask import MultiTaskMLP as MultiTaskMLP
from fdl.models.noise import GaussianNoise as GaussianNoise
from fdl.models.streams import draw as draw
from fdl.models.units import RBF as RBF
from fdl.models.units import Affine as Affine
from fdl.models.units import Dense as Dense
from fdl.models.units import HiddenLayer as HiddenLayer
from fdl.models.units import Maxout as Maxout
from fdl.models.units import PReLU as PReLU
from fdl.models.units import dense as dense
from fdl.models.units import maxout as maxout
from fdl.models.units import prelu as prelu
from fdl.models.units import rbf as rbf

__all__ = [
    "MLP",
    "RBF",
    "Affine",
    "BatchNorm",
    "Dense",
    "Dropout",
    "GaussianNoise",
    "HiddenLayer",
    "MLPConfig",
    "Maxout",
    "MultiTaskConfig",
    "MultiTaskMLP",
    "PReLU",
    "Scaled",
    "bernoulli",
    "dense",
    "draw",
    "lsuv",
    "maxout",
    "prelu",
    "rbf",
]
