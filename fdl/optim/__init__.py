"""Optimizers and decays as optax gradient transformations."""

from fdl.optim.decay import ProximalL1State as ProximalL1State
from fdl.optim.decay import decoupled_l2 as decoupled_l2
from fdl.optim.decay import proximal_l1 as proximal_l1

__all__ = ["ProximalL1State", "decoupled_l2", "proximal_l1"]
