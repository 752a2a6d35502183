"""Losses of each example or element; nothing here takes a mean."""

from fdl.losses.classification import sigmoid_cross_entropy as sigmoid_cross_entropy
from fdl.losses.classification import smooth_labels as smooth_labels
from fdl.losses.classification import softmax_cross_entropy as softmax_cross_entropy
from fdl.losses.classification import zero_one as zero_one
from fdl.losses.counts import poisson as poisson
from fdl.losses.distillation import distillation as distillation
from fdl.losses.distillation import hint as hint
from fdl.losses.focal import focal as focal
from fdl.losses.gaussian import gaussian_kl as gaussian_kl
from fdl.losses.margins import exponential as exponential
from fdl.losses.margins import hinge as hinge
from fdl.losses.margins import logistic as logistic
from fdl.losses.margins import multiclass_hinge as multiclass_hinge
from fdl.losses.margins import squared_hinge as squared_hinge
from fdl.losses.regression import absolute_error as absolute_error
from fdl.losses.regression import half_squared_error as half_squared_error
from fdl.losses.regression import huber as huber
from fdl.losses.regression import quantile as quantile
from fdl.losses.regression import squared_error as squared_error

__all__ = [
    "absolute_error",
    "distillation",
    "exponential",
    "focal",
    "gaussian_kl",
    "half_squared_error",
    "hinge",
    "hint",
    "huber",
    "logistic",
    "multiclass_hinge",
    "poisson",
    "quantile",
    "sigmoid_cross_entropy",
    "smooth_labels",
    "softmax_cross_entropy",
    "squared_error",
    "squared_hinge",
    "zero_one",
]
