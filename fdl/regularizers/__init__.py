"""Regularizers: functions of parameters, and predicates that choose parameters."""

from fdl.regularizers.contractive import contractive_sigmoid as contractive_sigmoid
from fdl.regularizers.contractive import leading_tangents as leading_tangents
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

__all__ = [
    "Select",
    "contractive_sigmoid",
    "directional_derivatives",
    "elastic_net",
    "everything",
    "l1",
    "l2",
    "leading_tangents",
    "mask",
    "select_paths",
    "selected",
    "tangent_prop",
    "weight_mask",
    "weights_only",
]
