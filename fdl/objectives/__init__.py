"""What training minimises, beyond one loss of one output."""

from fdl.objectives.adversarial import adversarial_loss as adversarial_loss
from fdl.objectives.adversarial import robust_correct as robust_correct
from fdl.objectives.attacks import fgm_l2 as fgm_l2
from fdl.objectives.attacks import fgsm as fgsm
from fdl.objectives.attacks import pgd as pgd
from fdl.objectives.attacks import random_start as random_start

__all__ = [
    "adversarial_loss",
    "fgm_l2",
    "fgsm",
    "pgd",
    "random_start",
    "robust_correct",
]
