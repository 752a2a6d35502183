"""Regularizers: functions of parameters or activations, and predicates that choose parameters."""

from fdl.regularizers.activations import activation_kl as activation_kl
from fdl.regularizers.activations import activation_l1 as activation_l1
from fdl.regularizers.activations import activation_student_t as activation_student_t
from fdl.regularizers.contractive import contractive as contractive
from fdl.regularizers.contractive import contractive_hutchinson as contractive_hutchinson
from fdl.regularizers.contractive import contractive_sigmoid as contractive_sigmoid
from fdl.regularizers.contractive import leading_tangents as leading_tangents
from fdl.regularizers.matrices import group_lasso as group_lasso
from fdl.regularizers.matrices import orthogonality as orthogonality
from fdl.regularizers.matrices import spectral as spectral
from fdl.regularizers.matrices import spectral_norm as spectral_norm
from fdl.regularizers.noise import weight_noise as weight_noise
from fdl.regularizers.penalties import elastic_net as elastic_net
from fdl.regularizers.penalties import l1 as l1
from fdl.regularizers.penalties import l2 as l2
from fdl.regularizers.select import Select as Select
from fdl.regularizers.select import everything as everything
from fdl.regularizers.select import mask as mask
from fdl.regularizers.select import select_paths as select_paths
from fdl.regularizers.select import selected as selected
from fdl.regularizers.select import weight_mask as weight_mask
from fdl.regularizers.select import weights_only as weights_only
from fdl.regularizers.tangent import directional_derivatives as directional_derivatives
from fdl.regularizers.tangent import tangent_prop as tangent_prop
from fdl.regularizers.tying import soft_tying as soft_tying

__all__ = [
    "Select",
    "activation_kl",
    "activation_l1",
    "activation_student_t",
    "contractive",
    "contractive_hutchinson",
    "contractive_sigmoid",
    "directional_derivatives",
    "elastic_net",
    "everything",
    "group_lasso",
    "l1",
    "l2",
    "leading_tangents",
    "mask",
    "orthogonality",
    "select_paths",
    "selected",
    "soft_tying",
    "spectral",
    "spectral_norm",
    "tangent_prop",
    "weight_mask",
    "weight_noise",
    "weights_only",
]
