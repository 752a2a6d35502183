"""One run of a recipe: command line, folder, devices, signals, records. Only recipes import it."""

from fdl.run.execute import execute as execute
from fdl.run.execute import launch as launch
from fdl.run.folder import write_config as write_config
from fdl.run.optimizers import optimizer as optimizer
from fdl.run.rules import DropRate as DropRate
from fdl.run.rules import Fraction as Fraction
from fdl.run.rules import NonNegativeFloat as NonNegativeFloat
from fdl.run.rules import NonNegativeInt as NonNegativeInt
from fdl.run.rules import OpenFraction as OpenFraction
from fdl.run.rules import PositiveFloat as PositiveFloat
from fdl.run.rules import PositiveInt as PositiveInt
from fdl.run.session import Session as Session
from fdl.run.settings import Settings as Settings

__all__ = [
    "DropRate",
    "Fraction",
    "NonNegativeFloat",
    "NonNegativeInt",
    "OpenFraction",
    "PositiveFloat",
    "PositiveInt",
    "Session",
    "Settings",
    "execute",
    "launch",
    "optimizer",
    "write_config",
]
