"""Hidden layers: an affine map with a unit behind it; units that have parameters of their own.

A *hidden layer factory* makes a module from (..., features_in) to (..., features_out):

    factory(features_in, features_out, *, affine, rngs) -> nnx.Module

`dense(f)`, `prelu()`, `maxout(pieces=k)` and `rbf()` are some; write your own for another layer. It
takes its affine maps from `affine(features_in, features_out, *, rngs) -> nnx.Module`, as
`nnx.Linear` is one, so that weight initialisation, precision and normalisation are chosen in one
place, by the model.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from fdl import initializers, ops
from fdl.types import Array

Affine: TypeAlias = Callable[..., nnx.Module]
HiddenLayer: TypeAlias = Callable[..., nnx.Module]


class PReLU(nnx.Module):
    """The rectifier with a learned slope for negative input: x if x > 0 else alpha * x.

    alpha is no weight to `fdl.regularizers.weights_only`: decay would pull it towards 0, the plain
    rectifier.

    Args:
      features: size of the last axis, one alpha each (of an image: one a channel); 1 shares one
        alpha.
      alpha: the starting value.

    Example:
      >>> PReLU(2)(jnp.array([[-4.0, 4.0]]))
      Array([[-1.,  4.]], dtype=float32)

    Source: He et al. 2015, arXiv 1502.01852; DLB 6.3.1.
    """

    def __init__(self, features: int, *, alpha: float = 0.25):
        self.alpha = nnx.Param(jnp.full(features, alpha, jnp.float32))

    def __call__(self, x: Array) -> Array:
        """Apply the unit to x, shape (..., features)."""
        alpha = self.alpha[...]
        return ops.prelu(x, alpha[0] if alpha.shape == (1,) else alpha)


class Dense(nnx.Module):
    """An affine map with an elementwise unit behind it: unit(x W + b).

    Args:
      features_in: size of the input's last axis.
      features_out: number of units.
      unit: function of arrays, or a module such as `PReLU`.
      affine: makes the affine map.
      rngs: for its weights.

    Example:
      >>> Dense(3, 5, unit=ops.relu, rngs=nnx.Rngs(0))(jnp.ones((2, 3))).shape
      (2, 5)

    Source: DLB 6.3, h = g(W^T x + b).
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        *,
        unit: Callable[[Array], Array],
        affine: Affine = nnx.Linear,
        rngs: nnx.Rngs,
    ):
        self.affine = affine(features_in, features_out, rngs=rngs)
        self.unit = unit

    def __call__(self, x: Array) -> Array:
        """Apply the layer to x, shape (..., features_in)."""
        return self.unit(self.affine(x))


class Maxout(nnx.Module):
    """The largest of `pieces` affine maps for each unit: max_j (x W_j + b_j).

    Args:
      features_in: size of the input's last axis.
      features_out: number of units.
      pieces: affine maps for each unit, consecutive columns of one kernel of width units * pieces.
      affine: makes the affine map.
      rngs: for its weights.

    Example:
      >>> Maxout(3, 5, pieces=4, rngs=nnx.Rngs(0))(jnp.ones((2, 3))).shape
      (2, 5)

    Source: Goodfellow et al. 2013, arXiv 1302.4389; DLB 6.3.1.
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        *,
        pieces: int = 2,
        affine: Affine = nnx.Linear,
        rngs: nnx.Rngs,
    ):
        if pieces < 1:
            raise ValueError(f"Maxout(pieces=...) must be >= 1, got {pieces}")
        self.affine = affine(features_in, features_out * pieces, rngs=rngs)
        self.pieces = pieces

    def __call__(self, x: Array) -> Array:
        """Apply the layer to x, shape (..., features_in)."""
        return ops.maxout(self.affine(x), self.pieces)


class RBF(nnx.Module):
    """Radial basis functions with learned centres and widths: exp(-|x - c_i|^2 / (2 sigma_i^2)).

    sigma = softplus(raw_sigma) stays positive. Far from all centres the layer is flat and does not
    learn: start from examples (`data`), and with a width of about their distance, sqrt(features_in)
    for standardised input.

    Args:
      features_in: size of the input's last axis.
      features_out: number of units.
      sigma: starting width > 0 in the unit of x; sqrt(features_in) if None.
      data: examples, shape (n, features_in), n >= units, of which `units` different ones, chosen at
        random, become the first centres; drawn from a standard normal distribution if None.
      rngs: for the centres.

    Raises:
      ValueError: when the width is not positive or the data do not fit.

    Example:
      >>> RBF(3, 5, rngs=nnx.Rngs(0))(jnp.ones((2, 3))).shape
      (2, 5)

    Source: DLB 6.3.3.
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        *,
        sigma: float | None = None,
        data: Array | None = None,
        rngs: nnx.Rngs,
    ):
        sigma = features_in**0.5 if sigma is None else sigma
        if not sigma > 0:
            raise ValueError(f"RBF(sigma=...) must be > 0, got {sigma}")
        shape = (features_out, features_in)
        if data is None:
            centres = initializers.normal(1.0)(rngs.params(), shape, jnp.float32)
        else:
            centres = _rows(rngs.params(), jnp.asarray(data, jnp.float32), shape)
        self.centres = nnx.Param(centres)
        self.raw_sigma = nnx.Param(jnp.full(features_out, jnp.log(jnp.expm1(sigma)), jnp.float32))

    def __call__(self, x: Array) -> Array:
        """Apply the layer to x, shape (..., features_in)."""
        return ops.rbf(x, self.centres[...], jax.nn.softplus(self.raw_sigma[...]))


def dense(unit: Callable[[Array], Array]) -> HiddenLayer:
    """Make a factory of layers with an elementwise unit: unit(x W + b).

    Args:
      unit: function of arrays, such as `fdl.ops.relu`.

    Returns:
      A hidden layer factory.

    Example:
      >>> layer = dense(ops.tanh)(3, 5, affine=nnx.Linear, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 3))).shape
      (2, 5)
    """

    def layer(features_in: int, features_out: int, *, affine: Affine, rngs: nnx.Rngs) -> nnx.Module:
        return Dense(features_in, features_out, unit=unit, affine=affine, rngs=rngs)

    return layer


def prelu(*, alpha: float = 0.25) -> HiddenLayer:
    """Make a factory of layers of parametric rectifiers, one alpha for each unit.

    Args:
      alpha: the starting value.

    Returns:
      A hidden layer factory.

    Example:
      >>> prelu()(3, 5, affine=nnx.Linear, rngs=nnx.Rngs(0)).unit.alpha.shape
      (5,)
    """

    def layer(features_in: int, features_out: int, *, affine: Affine, rngs: nnx.Rngs) -> nnx.Module:
        unit = PReLU(features_out, alpha=alpha)
        return Dense(features_in, features_out, unit=unit, affine=affine, rngs=rngs)

    return layer


def maxout(*, pieces: int = 2) -> HiddenLayer:
    """Make a factory of maxout layers.

    Args:
      pieces: affine maps for each unit, >= 1.

    Returns:
      A hidden layer factory.

    Example:
      >>> maxout(pieces=4)(3, 5, affine=nnx.Linear, rngs=nnx.Rngs(0)).affine.kernel.shape
      (3, 20)
    """

    def layer(features_in: int, features_out: int, *, affine: Affine, rngs: nnx.Rngs) -> nnx.Module:
        return Maxout(features_in, features_out, pieces=pieces, affine=affine, rngs=rngs)

    return layer


def rbf(*, sigma: float | None = None, data: Array | None = None) -> HiddenLayer:
    """Make a factory of radial basis function layers, which have no affine map.

    Args:
      sigma: starting width > 0; sqrt(features_in) if None.
      data: examples to start from, shape (n, features_in): of a first layer, since no other has its
        width.

    Returns:
      A hidden layer factory.

    Example:
      >>> rbf()(3, 5, affine=nnx.Linear, rngs=nnx.Rngs(0)).centres.shape
      (5, 3)
    """

    def layer(features_in: int, features_out: int, *, affine: Affine, rngs: nnx.Rngs) -> nnx.Module:
        del affine
        return RBF(features_in, features_out, sigma=sigma, data=data, rngs=rngs)

    return layer


def _rows(key: Array, data: Array, shape: tuple[int, int]) -> Array:
    units, features = shape
    if data.ndim != 2 or data.shape[1] != features or len(data) < units:
        raise ValueError(
            f"RBF(data=...) must have shape (n, {features}) with n >= {units}, got {data.shape}"
        )
    return data[jax.random.choice(key, len(data), (units,), replace=False)]
