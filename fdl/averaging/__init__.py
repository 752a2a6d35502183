"""Averages of predictions: of the members of an ensemble, or of one network's dropout masks."""

from fdl.averaging.ensemble import init_members as init_members
from fdl.averaging.ensemble import member as member
from fdl.averaging.ensemble import predict_members as predict_members
from fdl.averaging.ensemble import stack_members as stack_members
from fdl.averaging.errors import ErrorMoments as ErrorMoments
from fdl.averaging.errors import error_moments as error_moments
from fdl.averaging.errors import out_of_bag_mean as out_of_bag_mean
from fdl.averaging.predictions import arithmetic_mean as arithmetic_mean
from fdl.averaging.predictions import geometric_mean as geometric_mean
from fdl.averaging.predictions import majority_vote as majority_vote
from fdl.averaging.predictions import monte_carlo as monte_carlo
from fdl.averaging.weights import MixtureWeights as MixtureWeights
from fdl.averaging.weights import mixture_weights as mixture_weights

__all__ = [
    "ErrorMoments",
    "MixtureWeights",
    "arithmetic_mean",
    "error_moments",
    "geometric_mean",
    "init_members",
    "majority_vote",
    "member",
    "mixture_weights",
    "monte_carlo",
    "out_of_bag_mean",
    "predict_members",
    "stack_members",
]
