"""Functions of arrays without parameters: hidden units, convolution, pooling, filters."""

from fdl.ops.attention import additive_scores as additive_scores
from fdl.ops.attention import attend as attend
from fdl.ops.attention import dot_scores as dot_scores
from fdl.ops.conv import conv as conv
from fdl.ops.conv import conv_transpose as conv_transpose
from fdl.ops.dictionary import update_dictionary as update_dictionary
from fdl.ops.energy import RBMWeights as RBMWeights
from fdl.ops.energy import draw_bernoulli as draw_bernoulli
from fdl.ops.energy import draw_visible as draw_visible
from fdl.ops.energy import rbm_energy as rbm_energy
from fdl.ops.energy import rbm_free_energy as rbm_free_energy
from fdl.ops.energy import rbm_gibbs as rbm_gibbs
from fdl.ops.energy import rbm_hidden as rbm_hidden
from fdl.ops.energy import rbm_visible as rbm_visible
from fdl.ops.gabor import gabor as gabor
from fdl.ops.gabor_fit import GaborFit as GaborFit
from fdl.ops.gabor_fit import fit_gabor as fit_gabor
from fdl.ops.long_term import carry_gradients as carry_gradients
from fdl.ops.neighbours import nearest_vote as nearest_vote
from fdl.ops.neighbours import squared_distances as squared_distances
from fdl.ops.neighbours import tangent_neighbours as tangent_neighbours
from fdl.ops.partition import LogPartition as LogPartition
from fdl.ops.partition import rbm_ais as rbm_ais
from fdl.ops.partition import rbm_log_partition as rbm_log_partition
from fdl.ops.pool import avg_pool as avg_pool
from fdl.ops.pool import max_pool as max_pool
from fdl.ops.proximal_gradient import proximal_gradient as proximal_gradient
from fdl.ops.proximal_gradient import proximal_path as proximal_path
from fdl.ops.psd import psd_codes as psd_codes
from fdl.ops.psd import psd_energy as psd_energy
from fdl.ops.rectifiers import absolute as absolute
from fdl.ops.rectifiers import leaky_relu as leaky_relu
from fdl.ops.rectifiers import maxout as maxout
from fdl.ops.rectifiers import prelu as prelu
from fdl.ops.rectifiers import rectifier as rectifier
from fdl.ops.recurrence import recur as recur
from fdl.ops.recurrent import CellStep as CellStep
from fdl.ops.recurrent import CellWeights as CellWeights
from fdl.ops.recurrent import LSTMCarry as LSTMCarry
from fdl.ops.recurrent import elman_step as elman_step
from fdl.ops.recurrent import gru_step as gru_step
from fdl.ops.recurrent import lstm_step as lstm_step
from fdl.ops.recurrent import project as project
from fdl.ops.sampling import penalise_repetition as penalise_repetition
from fdl.ops.sampling import sample_logits as sample_logits
from fdl.ops.sampling import top_k_logits as top_k_logits
from fdl.ops.sampling import top_p_logits as top_p_logits
from fdl.ops.smoothing import gaussian_smooth as gaussian_smooth
from fdl.ops.sparse_coding import coordinate_descent as coordinate_descent
from fdl.ops.sparse_coding import correlate_sparse as correlate_sparse
from fdl.ops.sparse_coding import decode_sparse as decode_sparse
from fdl.ops.sparse_coding import fista as fista
from fdl.ops.sparse_coding import ista as ista
from fdl.ops.sparse_coding import kkt_residual as kkt_residual
from fdl.ops.sparse_coding import sparse_lipschitz as sparse_lipschitz
from fdl.ops.sparse_coding import sparse_objective as sparse_objective
from fdl.ops.tangent_distance import tangent_distance as tangent_distance
from fdl.ops.tangent_distance import tangent_distances as tangent_distances
from fdl.ops.tangents import tangents as tangents
from fdl.ops.units import celu as celu
from fdl.ops.units import elu as elu
from fdl.ops.units import gelu as gelu
from fdl.ops.units import hard_sigmoid as hard_sigmoid
from fdl.ops.units import hard_silu as hard_silu
from fdl.ops.units import hard_swish as hard_swish
from fdl.ops.units import hard_tanh as hard_tanh
from fdl.ops.units import log_sigmoid as log_sigmoid
from fdl.ops.units import mish as mish
from fdl.ops.units import rbf as rbf
from fdl.ops.units import relu as relu
from fdl.ops.units import relu6 as relu6
from fdl.ops.units import selu as selu
from fdl.ops.units import sigmoid as sigmoid
from fdl.ops.units import silu as silu
from fdl.ops.units import soft_shrink as soft_shrink
from fdl.ops.units import soft_sign as soft_sign
from fdl.ops.units import softplus as softplus
from fdl.ops.units import squareplus as squareplus
from fdl.ops.units import swish as swish
from fdl.ops.units import tanh as tanh
from fdl.ops.units import tanh_shrink as tanh_shrink

__all__ = [
    "CellStep",
    "CellWeights",
    "GaborFit",
    "LSTMCarry",
    "LogPartition",
    "RBMWeights",
    "absolute",
    "additive_scores",
    "attend",
    "avg_pool",
    "carry_gradients",
    "celu",
    "conv",
    "conv_transpose",
    "coordinate_descent",
    "correlate_sparse",
    "decode_sparse",
    "dot_scores",
    "draw_bernoulli",
    "draw_visible",
    "elman_step",
    "elu",
    "fista",
    "fit_gabor",
    "gabor",
    "gaussian_smooth",
    "gelu",
    "gru_step",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "ista",
    "kkt_residual",
    "leaky_relu",
    "log_sigmoid",
    "lstm_step",
    "max_pool",
    "maxout",
    "mish",
    "nearest_vote",
    "penalise_repetition",
    "prelu",
    "project",
    "proximal_gradient",
    "proximal_path",
    "psd_codes",
    "psd_energy",
    "rbf",
    "rbm_ais",
    "rbm_energy",
    "rbm_free_energy",
    "rbm_gibbs",
    "rbm_hidden",
    "rbm_log_partition",
    "rbm_visible",
    "rectifier",
    "recur",
    "relu",
    "relu6",
    "sample_logits",
    "selu",
    "sigmoid",
    "silu",
    "soft_shrink",
    "soft_sign",
    "softplus",
    "sparse_lipschitz",
    "sparse_objective",
    "squared_distances",
    "squareplus",
    "swish",
    "tangent_distance",
    "tangent_distances",
    "tangent_neighbours",
    "tangents",
    "tanh",
    "tanh_shrink",
    "top_k_logits",
    "top_p_logits",
    "update_dictionary",
]
