"""Data on the host: embedded sets, generated ones, files of the user's own, batches, augmentation.

A data set is a dict of NumPy arrays with the examples along axis 0, mostly {"x", "y"}.
"""

from fdl.data.augment import affine as affine
from fdl.data.augment import random_affine as random_affine
from fdl.data.batches import batch as batch
from fdl.data.batches import batch_indices as batch_indices
from fdl.data.batches import pad_batches as pad_batches
from fdl.data.batches import steps_per_epoch as steps_per_epoch
from fdl.data.bootstrap import bootstrap_indices as bootstrap_indices
from fdl.data.bootstrap import members_batch as members_batch
from fdl.data.bootstrap import out_of_bag as out_of_bag
from fdl.data.check import check_inputs as check_inputs
from fdl.data.check import check_supervised as check_supervised
from fdl.data.csv_file import load_csv as load_csv
from fdl.data.feeders import full as full
from fdl.data.feeders import minibatches as minibatches
from fdl.data.feeders import online as online
from fdl.data.fingerprint import fingerprint as fingerprint
from fdl.data.graphs import LabelledGraph as LabelledGraph
from fdl.data.graphs import karate as karate
from fdl.data.images import digits as digits
from fdl.data.mnist_1d import mnist1d as mnist1d
from fdl.data.permutation import permutation as permutation
from fdl.data.preprocess import Preprocess as Preprocess
from fdl.data.preprocess import fit_table as fit_table
from fdl.data.series import sunspots as sunspots
from fdl.data.series import windows as windows
from fdl.data.splits import Arrays as Arrays
from fdl.data.splits import Holdout as Holdout
from fdl.data.splits import Parts as Parts
from fdl.data.splits import Splits as Splits
from fdl.data.splits import split_validation as split_validation
from fdl.data.standardize import Standard as Standard
from fdl.data.standardize import fit_standard as fit_standard
from fdl.data.synthetic import heteroscedastic_sine as heteroscedastic_sine
from fdl.data.synthetic import inverse_sine as inverse_sine
from fdl.data.synthetic import sine as sine
from fdl.data.synthetic import spirals as spirals
from fdl.data.synthetic import two_moons as two_moons
from fdl.data.table import Column as Column
from fdl.data.table import Table as Table
from fdl.data.table import TableSplit as TableSplit
from fdl.data.table import split_table as split_table
from fdl.data.table import target_task as target_task
from fdl.data.tabular import breast_cancer as breast_cancer
from fdl.data.tabular import diabetes as diabetes
from fdl.data.tabular import iris as iris
from fdl.data.tabular import wine as wine
from fdl.data.user_arrays import load_npy_folder as load_npy_folder
from fdl.data.user_arrays import load_npz as load_npz

__all__ = [
    "Arrays",
    "Column",
    "Holdout",
    "LabelledGraph",
    "Parts",
    "Preprocess",
    "Splits",
    "Standard",
    "Table",
    "TableSplit",
    "affine",
    "batch",
    "batch_indices",
    "bootstrap_indices",
    "breast_cancer",
    "check_inputs",
    "check_supervised",
    "diabetes",
    "digits",
    "fingerprint",
    "fit_standard",
    "fit_table",
    "full",
    "heteroscedastic_sine",
    "inverse_sine",
    "iris",
    "karate",
    "load_csv",
    "load_npy_folder",
    "load_npz",
    "members_batch",
    "minibatches",
    "mnist1d",
    "online",
    "out_of_bag",
    "pad_batches",
    "permutation",
    "random_affine",
    "sine",
    "spirals",
    "split_table",
    "split_validation",
    "steps_per_epoch",
    "sunspots",
    "target_task",
    "two_moons",
    "windows",
    "wine",
]
