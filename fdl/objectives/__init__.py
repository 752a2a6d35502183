"""What training minimises, beyond one loss of one output."""

from fdl.objectives.adversarial import adversarial_loss as adversarial_loss
from fdl.objectives.adversarial import robust_correct as robust_correct
from fdl.objectives.attacks import fgm_l2 as fgm_l2
from fdl.objectives.attacks import fgsm as fgsm
from fdl.objectives.attacks import pgd as pgd
from fdl.objectives.attacks import random_start as random_start
from fdl.objectives.continuation import homotopy as homotopy
from fdl.objectives.continuation import smoothed_polynomial as smoothed_polynomial
from fdl.objectives.contrastive import contrastive_divergence as contrastive_divergence
from fdl.objectives.multitask import multitask_loss as multitask_loss
from fdl.objectives.multitask import multitask_losses as multitask_losses
from fdl.objectives.multitask import uncertainty_weighted_loss as uncertainty_weighted_loss
from fdl.objectives.variational import elbo as elbo
from fdl.objectives.variational import iwae as iwae

__all__ = [
    "adversarial_loss",
    "contrastive_divergence",
    "elbo",
    "fgm_l2",
    "fgsm",
    "homotopy",
    "iwae",
    "multitask_loss",
    "multitask_losses",
    "pgd",
    "random_start",
    "robust_correct",
    "smoothed_polynomial",
    "uncertainty_weighted_loss",
]
