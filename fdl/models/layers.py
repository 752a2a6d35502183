"""Layers that behave differently in training and in use: dropout and batch normalisation."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fdl import axes
from fdl.models.streams import draw
from fdl.types import Array, DTypeLike


class Dropout(nnx.Module):
    """Set each unit to 0 with probability `rate` in training, and scale the others up.

    y = mask * x / (1 - rate),  mask ~ Bernoulli(1 - rate)

    so that E[y] = x and nothing is to be done when the model is used (the book scales the weights
    down then instead; the two agree). Differs from `nnx.Dropout`: with a stream that holds one key
    for each example (`fdl.models.draw`), the mask of an example is a function of its key only. It
    does not depend on the batch around it, nor on how many devices share the batch.

    Attributes:
      deterministic: True after `module.eval()`: return x as it is. False after `module.train()`.

    Args:
      rate: probability that a unit is dropped, in [0, 1]; at 1 all are 0.
      stream: name of the random stream.

    Raises:
      ValueError: when the rate is no probability; when called in training without `rngs`, or with
        another number of keys than examples.

    Example:
      >>> dropout = Dropout(0.5)
      >>> dropout(jnp.ones((2, 4)), rngs=nnx.Rngs(0)).shape
      (2, 4)
      >>> dropout.eval()
      >>> dropout(jnp.ones(3))
      Array([1., 1., 1.], dtype=float32)

    Source: Srivastava et al. 2014; DLB 7.12.
    """

    def __init__(self, rate: float, *, stream: str = "dropout"):
        if not 0 <= rate <= 1:
            raise ValueError(f"Dropout(rate=...) must lie in [0, 1], got {rate}")
        self.rate = rate
        self.stream = stream
        self.deterministic = False

    def __call__(self, x: Array, *, rngs: nnx.Rngs | nnx.RngStream | Array | None = None) -> Array:
        """Drop units of x, shape (batch, ...)."""
        if self.deterministic or self.rate == 0:
            return x
        if self.rate == 1:  # x / 0 would be infinite
            return jnp.zeros_like(x)
        keep = 1 - self.rate
        mask = bernoulli(draw(rngs, self.stream), keep, x.shape)
        return jnp.where(mask, x / keep, 0).astype(x.dtype)


def bernoulli(keys: Array, probability: float, shape: tuple[int, ...]) -> Array:
    """Draw a 0/1 mask for a batch from one key, or the mask of each example from its own key.

    Args:
      keys: typed PRNG keys of shape () or (b,).
      probability: of True.
      shape: of the mask, (b, ...).

    Returns:
      A bool array.

    Raises:
      ValueError: when there is not one key for each example.

    Example:
      >>> bernoulli(jax.random.split(jax.random.key(0), 2), 1.0, (2, 3)).tolist()
      [[True, True, True], [True, True, True]]
    """
    p = jnp.float32(probability)  # so that the same bits are drawn when x64 is enabled
    if keys.ndim == 0:
        return jax.random.bernoulli(keys, p, shape)
    if keys.shape != shape[:1]:
        raise ValueError(
            f"one key or one for each of {shape[:1]} examples is needed, got {keys.shape}"
        )
    return jax.vmap(lambda key: jax.random.bernoulli(key, p, shape[1:]))(keys)


class BatchNorm(nnx.Module):
    """Normalise each feature to mean 0 and variance 1 over the batch, then scale and shift it.

    y = scale * (x - mean) / sqrt(var + epsilon) + bias

    In training mean and var are those of all examples (and positions) of the batch, over all
    devices of `axis_name`; their running averages, momentum * old + (1 - momentum) * new, take
    their place when the model is used. var is the mean over devices of the mean of (x - mean)^2,
    mean being the common one, so that splitting a batch over devices changes nothing, gradients
    included. Statistics are kept in float32 at least. A bias before this layer has no effect: leave
    it out.

    Differs from `nnx.BatchNorm`: where no axis `axis_name` is bound it is the layer for one device,
    not an error; and var is never E[x^2] - E[x]^2, which cancels.

    Attributes:
      use_running_average: True after `module.eval()`, False after `module.train()`.

    Args:
      features: size of the last axis.
      affine: whether there are a scale and a bias, which are learned; without them y has mean 0 and
        variance 1.
      momentum: weight of the old running average, in [0, 1); PyTorch's momentum is 1 less this.
      epsilon: added to the variance, > 0, in the squared unit of x.
      axis_name: the named axis over which the batch is spread; None is this device alone.
      unbiased_running_var: multiply the variance that enters the running average (not the one in
        use) by n / (n - 1), n being the number of values, as PyTorch does.
      dtype: of the result; that of x if None.

    Raises:
      ValueError: when x has another number of features, or one single value of each in training.

    Example:
      >>> norm = BatchNorm(1, epsilon=1e-12)
      >>> [round(float(y), 3) for y in norm(jnp.array([[1.0], [3.0], [5.0]]))[:, 0]]
      [-1.225, 0.0, 1.225]

    Source: Ioffe and Szegedy 2015, arXiv 1502.03167; DLB 8.7.1, equation 8.35.
    """

    def __init__(
        self,
        features: int,
        *,
        affine: bool = True,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        axis_name: str | None = None,
        unbiased_running_var: bool = False,
        dtype: DTypeLike | None = None,
    ):
        if not 0 <= momentum < 1:
            raise ValueError(f"BatchNorm(momentum=...) must lie in [0, 1), got {momentum}")
        if not epsilon > 0:
            raise ValueError(f"BatchNorm(epsilon=...) must be > 0, got {epsilon}")
        self.scale = nnx.data(nnx.Param(jnp.ones(features, jnp.float32)) if affine else None)
        self.bias = nnx.data(nnx.Param(jnp.zeros(features, jnp.float32)) if affine else None)
        self.mean = nnx.BatchStat(jnp.zeros(features, jnp.float32))
        self.var = nnx.BatchStat(jnp.ones(features, jnp.float32))
        self.features = features
        self.momentum = momentum
        self.epsilon = epsilon
        self.axis_name = axis_name
        self.unbiased_running_var = unbiased_running_var
        self.dtype = dtype
        self.use_running_average = False

    def __call__(self, x: Array, *, mask: Array | None = None) -> Array:
        """Normalise x, shape (batch, ..., features).

        Args:
          x: floating point.
          mask: which examples, shape (batch,), or positions, shape (batch, ...), count in the
            statistics of training; those that fill up a batch must not. None: all.
        """
        if x.ndim < 2 or x.shape[-1] != self.features:
            raise ValueError(f"BatchNorm needs shape (batch, ..., {self.features}), got {x.shape}")
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
            y = (wide - _row(mean, x)) * _row(jax.lax.rsqrt(var + self.epsilon), x)
        else:
            y = self._normalise(wide, mask)
        if self.scale is not None and self.bias is not None:
            y = y * _row(self.scale[...], x) + _row(self.bias[...], x)
        return y.astype(self.dtype or x.dtype)

    def _normalise(self, x: Array, mask: Array | None) -> Array:
        """Normalise by the batch and move the running averages towards its mean and variance."""
        counted, count = _counted(x, mask, self.axis_name)
        y, mean, var = _standardise(self.axis_name, self.epsilon, x, counted, count)
        correction = count / jnp.maximum(count - 1, 1) if self.unbiased_running_var else 1
        for running, new in ((self.mean, mean), (self.var, var * correction)):
            old = running[...]
            running[...] = self.momentum * old + (1 - self.momentum) * new.astype(old.dtype)
        return y


def _counted(x: Array, mask: Array | None, axis: str | None) -> tuple[Array | None, Array | int]:
    """Return which values count, a bool for each position, and how many of each feature do."""
    if mask is None:
        count = math.prod(x.shape[:-1]) * axes.size(axis)
        if count < 2:
            raise ValueError("BatchNorm needs at least 2 values of each feature in training, got 1")
        return None, count
    if mask.shape != x.shape[: mask.ndim] or mask.ndim == x.ndim:
        raise ValueError(f"BatchNorm(mask=...) must be of shape {x.shape[:-1]}, got {mask.shape}")
    mask = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)).astype(bool)
    here = jnp.broadcast_to(mask, (*x.shape[:-1], 1)).sum(dtype=x.dtype)
    return mask, jnp.maximum(axes.total(here, axis), 1)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _standardise(
    axis: str | None, epsilon: float, x: Array, counted: Array | None, count: Array | int
) -> tuple[Array, Array, Array]:
    """Return (x - mean) / sqrt(var + epsilon), mean and var of the values that count."""
    mean = _average(x, counted, count, axis)
    var = _average(jnp.square(x - _row(mean, x)), counted, count, axis)
    return (x - _row(mean, x)) * _row(jax.lax.rsqrt(var + epsilon), x), mean, var


@_standardise.defjvp
def _standardise_jvp(
    axis: str | None, epsilon: float, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> Any:
    """Return the outputs y, mean, var and their tangents, with s = sqrt(var + epsilon).

    d_mean = average(dx),  d_var = 2 s average(y dx),  dy = (dx - d_mean - y average(y dx)) / s

    It is what JAX derives, in two sums instead of four, and a third of the time on a CPU.
    """
    x, counted, count = primals
    dx = tangents[0]
    y, mean, var = _standardise(axis, epsilon, x, counted, count)
    slope = jax.lax.rsqrt(var + epsilon)
    d_mean = _average(dx, counted, count, axis)
    along = _average(y * dx, counted, count, axis)
    dy = (dx - _row(d_mean, x) - y * _row(along, x)) * _row(slope, x)
    return (y, mean, var), (dy, d_mean, 2 * along / slope)


def _average(x: Array, counted: Array | None, count: Array | int, axis: str | None) -> Array:
    over = tuple(range(x.ndim - 1))
    if counted is None:
        return axes.mean(x.mean(over), axis)
    return axes.total(jnp.where(counted, x, 0).sum(over), axis) / count


def _row(features: Array, x: Array) -> Array:
    return features.reshape((1,) * (x.ndim - 1) + features.shape)
