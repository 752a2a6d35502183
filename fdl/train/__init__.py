"""State, step, runners and metrics: one update, lifted to any number of devices."""

from fdl.train.checkpoint import Checkpoints as Checkpoints
from fdl.train.checkpoint import Restored as Restored
from fdl.train.early_stopping import EarlyStopping as EarlyStopping
from fdl.train.early_stopping import init_early_stopping as init_early_stopping
from fdl.train.early_stopping import should_stop as should_stop
from fdl.train.early_stopping import update_early_stopping as update_early_stopping
from fdl.train.evaluation import evaluate as evaluate
from fdl.train.members import members_step as members_step
from fdl.train.metrics import Ratio as Ratio
from fdl.train.metrics import floats as floats
from fdl.train.metrics import mean as mean
from fdl.train.parallel import Runner as Runner
from fdl.train.parallel import check_replicas as check_replicas
from fdl.train.parallel import lift as lift
from fdl.train.parallel import mean_over_devices as mean_over_devices
from fdl.train.parallel import shared as shared
from fdl.train.per_example import PerExample as PerExample
from fdl.train.second_pass import SecondPass as SecondPass
from fdl.train.second_pass import go_on as go_on
from fdl.train.second_pass import in_second_pass as in_second_pass
from fdl.train.second_pass import init_second_pass as init_second_pass
from fdl.train.second_pass import retrain as retrain
from fdl.train.second_pass import second_pass_over as second_pass_over
from fdl.train.second_pass import update_second_pass as update_second_pass
from fdl.train.state import State as State
from fdl.train.state import init_state as init_state
from fdl.train.step import example_keys as example_keys
from fdl.train.step import make_step as make_step

__all__ = [
    "Checkpoints",
    "EarlyStopping",
    "PerExample",
    "Ratio",
    "Restored",
    "Runner",
    "SecondPass",
    "State",
    "check_replicas",
    "evaluate",
    "example_keys",
    "floats",
    "go_on",
    "in_second_pass",
    "init_early_stopping",
    "init_second_pass",
    "init_state",
    "lift",
    "make_step",
    "mean",
    "mean_over_devices",
    "members_step",
    "retrain",
    "second_pass_over",
    "shared",
    "should_stop",
    "update_early_stopping",
    "update_second_pass",
]
