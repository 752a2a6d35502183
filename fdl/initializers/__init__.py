"""Functions `(key, shape, dtype) -> array` that give parameters their first values."""

from fdl.initializers.gabor import gabor as gabor
from fdl.initializers.gram_schmidt import gram_schmidt as gram_schmidt
from fdl.initializers.gram_schmidt import orthonormalise as orthonormalise
from fdl.initializers.structured import gate_bias as gate_bias
from fdl.initializers.structured import identity as identity
from fdl.initializers.structured import sparse as sparse
from fdl.initializers.symmetric import symmetric_uniform as symmetric_uniform
from fdl.initializers.variance import Initializer as Initializer
from fdl.initializers.variance import constant as constant
from fdl.initializers.variance import delta_orthogonal as delta_orthogonal
from fdl.initializers.variance import glorot_normal as glorot_normal
from fdl.initializers.variance import glorot_uniform as glorot_uniform
from fdl.initializers.variance import he_normal as he_normal
from fdl.initializers.variance import he_uniform as he_uniform
from fdl.initializers.variance import kaiming_normal as kaiming_normal
from fdl.initializers.variance import kaiming_uniform as kaiming_uniform
from fdl.initializers.variance import lecun_normal as lecun_normal
from fdl.initializers.variance import lecun_uniform as lecun_uniform
from fdl.initializers.variance import normal as normal
from fdl.initializers.variance import ones as ones
from fdl.initializers.variance import orthogonal as orthogonal
from fdl.initializers.variance import truncated_normal as truncated_normal
from fdl.initializers.variance import uniform as uniform
from fdl.initializers.variance import variance_scaling as variance_scaling
from fdl.initializers.variance import xavier_normal as xavier_normal
from fdl.initializers.variance import xavier_uniform as xavier_uniform
from fdl.initializers.variance import zeros as zeros

__all__ = [
    "Initializer",
    "constant",
    "delta_orthogonal",
    "gabor",
    "gate_bias",
    "glorot_normal",
    "glorot_uniform",
    "gram_schmidt",
    "he_normal",
    "he_uniform",
    "identity",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "orthonormalise",
    "sparse",
    "symmetric_uniform",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]
