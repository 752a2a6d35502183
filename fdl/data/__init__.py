"""Data on the host: embedded sets, generated ones, files of the user's own, batches, augmentation.

A data set is a dict of NumPy arrays with the examples along axis 0, mostly {"x", "y"}.
"""

from fdl.data.adding import adding as adding
from fdl.data.augment import affine as affine
from fdl.data.augment import random_affine as random_affine
from fdl.data.batches import batch as batch
from fdl.data.batches import batch_indices as batch_indices
from fdl.data.batches import pad_batches as pad_batches
from fdl.data.batches import steps_per_epoch as steps_per_epoch
from fdl.data.bootstrap import bootstrap_indices as bootstrap_indices
from fdl.data.bootstrap import members_batch as members_batch
from fdl.data.bootstrap import out_of_bag as out_of_bag
from fdl.data.cached import cached as cached
from fdl.data.check import check_inputs as check_inputs
from fdl.data.check import check_supervised as check_supervised
from fdl.data.colours import random_brightness as random_brightness
from fdl.data.colours import random_colour as random_colour
from fdl.data.colours import random_contrast as random_contrast
from fdl.data.crops import cutout as cutout
from fdl.data.crops import random_crop as random_crop
from fdl.data.crops import random_flip as random_flip
from fdl.data.csv_file import load_csv as load_csv
from fdl.data.curriculum import Pacing as Pacing
from fdl.data.curriculum import curriculum_batch as curriculum_batch
from fdl.data.curriculum import curriculum_indices as curriculum_indices
from fdl.data.curriculum import easy_to_hard as easy_to_hard
from fdl.data.curriculum import exponential_pacing as exponential_pacing
from fdl.data.curriculum import linear_pacing as linear_pacing
from fdl.data.curriculum import root_pacing as root_pacing
from fdl.data.curriculum import step_pacing as step_pacing
from fdl.data.elastic import random_elastic as random_elastic
from fdl.data.feeders import full as full
from fdl.data.feeders import minibatches as minibatches
from fdl.data.feeders import online as online
from fdl.data.fingerprint import fingerprint as fingerprint
from fdl.data.graphs import LabelledGraph as LabelledGraph
from fdl.data.graphs import karate as karate
from fdl.data.images import digits as digits
from fdl.data.label_safe import LABEL_SAFE as LABEL_SAFE
from fdl.data.label_safe import LabelSafe as LabelSafe
from fdl.data.label_safe import augmentation as augmentation
from fdl.data.mixing import cutmix as cutmix
from fdl.data.mixing import mixup as mixup
from fdl.data.mnist_1d import mnist1d as mnist1d
from fdl.data.natural import Pictures as Pictures
from fdl.data.natural import load_images as load_images
from fdl.data.natural import natural_images as natural_images
from fdl.data.natural import patches as patches
from fdl.data.ngrams import NGrams as NGrams
from fdl.data.ngrams import compressed_bits as compressed_bits
from fdl.data.ngrams import fit_ngrams as fit_ngrams
from fdl.data.noise import input_noise as input_noise
from fdl.data.noise import label_noise as label_noise
from fdl.data.noise import masking_noise as masking_noise
from fdl.data.noise import salt_and_pepper as salt_and_pepper
from fdl.data.pca import PCA as PCA
from fdl.data.pca import fit_pca as fit_pca
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
from fdl.data.streams import stream_batch as stream_batch
from fdl.data.streams import streams_per_epoch as streams_per_epoch
from fdl.data.streams import text_rows as text_rows
from fdl.data.streams import window_batch as window_batch
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
from fdl.data.text import TextSplit as TextSplit
from fdl.data.text import split_text as split_text
from fdl.data.text import topics as topics
from fdl.data.text import unique_paragraphs as unique_paragraphs
from fdl.data.text_files import load_text as load_text
from fdl.data.user_arrays import load_npy_folder as load_npy_folder
from fdl.data.user_arrays import load_npz as load_npz
from fdl.data.vocabulary import Bytes as Bytes
from fdl.data.vocabulary import Codec as Codec
from fdl.data.vocabulary import Tokenizer as Tokenizer
from fdl.data.vocabulary import Vocabulary as Vocabulary
from fdl.data.vocabulary import load_tokenizer as load_tokenizer
from fdl.data.whitening import Whitening as Whitening
from fdl.data.whitening import fit_whitening as fit_whitening

__all__ = [
    "LABEL_SAFE",
    "PCA",
    "Arrays",
    "Bytes",
    "Codec",
    "Column",
    "Holdout",
    "LabelSafe",
    "LabelledGraph",
    "NGrams",
    "Pacing",
    "Parts",
    "Pictures",
    "Preprocess",
    "Splits",
    "Standard",
    "Table",
    "TableSplit",
    "TextSplit",
    "Tokenizer",
    "Vocabulary",
    "Whitening",
    "adding",
    "affine",
    "augmentation",
    "batch",
    "batch_indices",
    "bootstrap_indices",
    "breast_cancer",
    "cached",
    "check_inputs",
    "check_supervised",
    "compressed_bits",
    "curriculum_batch",
    "curriculum_indices",
    "cutmix",
    "cutout",
    "diabetes",
    "digits",
    "easy_to_hard",
    "exponential_pacing",
    "fingerprint",
    "fit_ngrams",
    "fit_pca",
    "fit_standard",
    "fit_table",
    "fit_whitening",
    "full",
    "heteroscedastic_sine",
    "input_noise",
    "inverse_sine",
    "iris",
    "karate",
    "label_noise",
    "linear_pacing",
    "load_csv",
    "load_images",
    "load_npy_folder",
    "load_npz",
    "load_text",
    "load_tokenizer",
    "masking_noise",
    "members_batch",
    "minibatches",
    "mixup",
    "mnist1d",
    "natural_images",
    "online",
    "out_of_bag",
    "pad_batches",
    "patches",
    "permutation",
    "random_affine",
    "random_brightness",
    "random_colour",
    "random_contrast",
    "random_crop",
    "random_elastic",
    "random_flip",
    "root_pacing",
    "salt_and_pepper",
    "sine",
    "spirals",
    "split_table",
    "split_text",
    "split_validation",
    "step_pacing",
    "steps_per_epoch",
    "stream_batch",
    "streams_per_epoch",
    "sunspots",
    "target_task",
    "text_rows",
    "topics",
    "two_moons",
    "unique_paragraphs",
    "window_batch",
    "windows",
    "wine",
]
