"""Regularizers: functions of parameters, and predicates that choose parameters."""

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

__all__ = [
    "Select",
    "elastic_net",
    "everything",
    "l1",
    "l2",
    "mask",
    "select_paths",
    "selected",
    "weight_mask",
    "weights_only",
]
