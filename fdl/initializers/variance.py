"""Random starting weights with a chosen variance, and the constant ones: JAX's own, by name.

Each name is (or makes) a function `(key, shape, dtype) -> array`. With m inputs and n outputs of a
unit (a kernel of shape (..., inputs, outputs); for convolutions m and n count the kernel's
positions):

| name | variance of a weight | meant for |
|---|---|---|
| `lecun_normal`, `lecun_uniform` | 1 / m | linear, SELU; keeps the variance of signals forwards |
| `glorot_normal`, `glorot_uniform` (`xavier_*`) | 2 / (m + n) | tanh, sigmoid; a compromise |
| `he_normal`, `he_uniform` (`kaiming_*`) | 2 / m | rectifiers, which pass half of the variance |
| `normal(stddev)`, `truncated_normal(stddev)` | stddev^2; less when truncated at 2 stddev | |
| `uniform(scale)` | scale^2 / 12; from 0 to scale, not symmetric | |
| `orthogonal(scale)` | scale^2 / max(m, n); columns or rows orthonormal | deep linear, recurrent |

The book's heuristic U(-1/sqrt(m), 1/sqrt(m)) is `variance_scaling(1 / 3, "fan_in", "uniform")`; the
gain for a leaky rectifier of slope a is `variance_scaling(2 / (1 + a**2), "fan_in", "normal")`. The
`*_normal` ones with a fan are truncated at two standard deviations and rescaled to the stated
variance.

Source: DLB 8.4; LeCun et al. 1998; Glorot and Bengio 2010; He et al. 2015, arXiv 1502.01852; Saxe
et al. 2013, arXiv 1312.6120.
"""

from jax.nn.initializers import Initializer as Initializer
from jax.nn.initializers import constant as constant
from jax.nn.initializers import delta_orthogonal as delta_orthogonal
from jax.nn.initializers import glorot_normal as glorot_normal
from jax.nn.initializers import glorot_uniform as glorot_uniform
from jax.nn.initializers import he_normal as he_normal
from jax.nn.initializers import he_uniform as he_uniform
from jax.nn.initializers import kaiming_normal as kaiming_normal
from jax.nn.initializers import kaiming_uniform as kaiming_uniform
from jax.nn.initializers import lecun_normal as lecun_normal
from jax.nn.initializers import lecun_uniform as lecun_uniform
from jax.nn.initializers import normal as normal
from jax.nn.initializers import ones as ones
from jax.nn.initializers import orthogonal as orthogonal
from jax.nn.initializers import truncated_normal as truncated_normal
from jax.nn.initializers import uniform as uniform
from jax.nn.initializers import variance_scaling as variance_scaling
from jax.nn.initializers import xavier_normal as xavier_normal
from jax.nn.initializers import xavier_uniform as xavier_uniform
from jax.nn.initializers import zeros as zeros
