"""Outputs for binary targets, classes and counts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jax.typing import ArrayLike

from fdl.losses.classification import sigmoid_cross_entropy, softmax_cross_entropy
from fdl.losses.counts import poisson as poisson_loss
from fdl.outputs.raw import against, at_least_float32, check_options, sample_of, split
from fdl.outputs.unit import OutputUnit
from fdl.types import Array


class Bernoulli(NamedTuple):
    """Independent binary variables: p(y_i = 1) = sigmoid(z_i).

    -log p(y) = sum_i softplus((1 - 2 y_i) z_i)

    Attributes:
      logits: z, shape (..., d), floating point.

    Example:
      >>> coins = Bernoulli(jnp.array([0.0, 1e4]))
      >>> coins.mean(), round(float(coins.nll(jnp.array([1, 0]))), 4)
      (Array([0.5, 1. ], dtype=float32), 10000.6934)

    Source: DLB 6.2.2.2.
    """

    logits: Array

    def nll(self, y: ArrayLike) -> Array:
        """Return -log p(y) in nats, shape (...,), for y of shape (..., d), 0 or 1."""
        y, logits = against("Bernoulli.nll", y, *self)
        return sigmoid_cross_entropy(logits, y).sum(-1)

    def mean(self) -> Array:
        """Return the probabilities of 1."""
        return jax.nn.sigmoid(self.logits)

    def mode(self) -> Array:
        """Return 1 where that is likelier than 0, int32."""
        return (self.logits > 0).astype(jnp.int32)

    def variance(self) -> Array:
        """Return p (1 - p)."""
        return jax.nn.sigmoid(self.logits) * jax.nn.sigmoid(-self.logits)

    def entropy(self) -> Array:
        """Return the expected -log p(y) in nats, shape (...,)."""
        return sigmoid_cross_entropy(self.logits, self.mean()).sum(-1)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        """Draw 0 or 1, int32, shape (*shape, ..., d)."""
        shape = (*shape, *self.logits.shape)
        p = jnp.broadcast_to(self.mean(), shape)
        return jax.random.bernoulli(key, p, shape).astype(jnp.int32)


class Multinoulli(NamedTuple):
    """One of k classes: p(y) = softmax(z)_y.

    -log p(y) = logsumexp(z) - z_y

    Attributes:
      logits: z, shape (..., k), floating point; a constant added to all changes nothing.

    Example:
      >>> die = Multinoulli(jnp.zeros(6))
      >>> round(float(die.nll(3)), 4), round(float(die.entropy()), 4)
      (1.7918, 1.7918)

    Source: DLB 6.2.2.3.
    """

    logits: Array

    def nll(self, y: ArrayLike) -> Array:
        """Return -log p(y) in nats, shape (...,), for integer classes y of shape (...,)."""
        y, shape = jnp.asarray(y), self.logits.shape[:-1]
        if not jnp.issubdtype(y.dtype, jnp.integer) or y.shape[y.ndim - len(shape) :] != shape:
            raise ValueError(
                f"Multinoulli.nll(y) must be integers of a shape that ends with {shape}, "
                f"got {y.dtype} of shape {y.shape}"
            )
        return softmax_cross_entropy(
            jnp.broadcast_to(self.logits, (*y.shape, self.logits.shape[-1])), y
        )

    def mean(self) -> Array:
        """Return the probabilities of the classes, the mean of y one-hot: shape (..., k)."""
        return jax.nn.softmax(self.logits)

    def mode(self) -> Array:
        """Return the likeliest class, shape (...,)."""
        return self.logits.argmax(-1)

    def variance(self) -> Array:
        """Return p (1 - p) of each class, the variance of y one-hot: shape (..., k)."""
        p = self.mean()
        return p * (1 - p)

    def entropy(self) -> Array:
        """Return the expected -log p(y) in nats, shape (...,)."""
        return softmax_cross_entropy(self.logits, self.mean())

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        """Draw classes, integers of shape (*shape, ...)."""
        return jax.random.categorical(key, self.logits, shape=(*shape, *self.logits.shape[:-1]))


class Poisson(NamedTuple):
    """Independent counts of rate exp(z_i).

    -log p(y) = sum_i exp(z_i) - y_i z_i + log y_i!

    Attributes:
      log_rate: z, shape (..., d), floating point.

    Example:
      >>> round(float(Poisson(jnp.log(jnp.array([2.0]))).nll(jnp.array([2]))), 4)
      1.3069

    Source: DLB 6.2.2.4; McCullagh and Nelder 1989, Generalized Linear Models, chapter 6.
    """

    log_rate: Array

    def nll(self, y: ArrayLike) -> Array:
        """Return -log p(y) in nats, shape (...,), for counts y of shape (..., d)."""
        y, log_rate = against("Poisson.nll", y, *self)
        return (poisson_loss(log_rate, y) + gammaln(y + 1)).sum(-1)

    def mean(self) -> Array:
        """Return exp(z)."""
        return jnp.exp(self.log_rate)

    def mode(self) -> Array:
        """Return the likeliest count; of two the larger, as floating point."""
        return jnp.floor(jnp.exp(self.log_rate))

    def variance(self) -> Array:
        """Return exp(z), which is the mean."""
        return jnp.exp(self.log_rate)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        """Draw counts, integers of shape (*shape, ..., d)."""
        shape = (*shape, *self.log_rate.shape)
        return jax.random.poisson(key, jnp.broadcast_to(self.mean(), shape), shape)


def bernoulli(dimensions: int = 1) -> OutputUnit:
    """Make sigmoid units: raw = the logits of independent binary targets.

    `fit` gives the logit of the frequency of 1; one of 0 or 1 is taken as machine precision short
    of it, so that a bias stays finite.

    Args:
      dimensions: d of the target, >= 1.

    Returns:
      A unit of d raw outputs.

    Raises:
      ValueError: when d is below 1.

    Example:
      >>> unit = bernoulli()
      >>> unit.distribution(unit.fit(jnp.array([[1], [0], [0], [0]]))).mean()
      Array([0.25], dtype=float32)

    Source: DLB 6.2.2.2.
    """
    check_options("bernoulli", dimensions=dimensions)

    def distribution(raw: ArrayLike) -> Bernoulli:
        return Bernoulli(*split("bernoulli", raw, dimensions))

    def fit(y: ArrayLike) -> Array:
        p = _inside(sample_of("bernoulli", y, dimensions).mean(0))
        return jnp.log(p) - jnp.log1p(-p)

    return OutputUnit(dimensions, distribution, fit)


def multinoulli(classes: int) -> OutputUnit:
    """Make softmax units: raw = the logits of one of k classes; targets are integers (n,).

    `fit` gives the logarithms of the frequencies, at least that of machine precision.

    Args:
      classes: k >= 1.

    Returns:
      A unit of k raw outputs.

    Raises:
      ValueError: when k is below 1.

    Example:
      >>> unit = multinoulli(3)
      >>> unit.distribution(unit.fit(jnp.array([0, 0, 2, 1]))).mean()
      Array([0.5 , 0.25, 0.25], dtype=float32)

    Source: DLB 6.2.2.3.
    """
    check_options("multinoulli", classes=classes)

    def distribution(raw: ArrayLike) -> Multinoulli:
        return Multinoulli(*split("multinoulli", raw, classes))

    def fit(y: ArrayLike) -> Array:
        y = jnp.asarray(y)
        if not jnp.issubdtype(y.dtype, jnp.integer) or y.ndim != 1 or not len(y):
            raise ValueError(
                f"multinoulli(...).fit(y) must be integers of shape (n >= 1,), "
                f"got {y.dtype} of shape {y.shape}"
            )
        return jnp.log(_inside(at_least_float32(jax.nn.one_hot(y, classes)).mean(0)))

    return OutputUnit(classes, distribution, fit)


def poisson(dimensions: int = 1) -> OutputUnit:
    """Make units for counts: raw = the logarithm of the rate.

    `fit` gives the logarithm of the mean; a mean of 0 is taken as machine precision.

    Args:
      dimensions: d of the target, >= 1.

    Returns:
      A unit of d raw outputs.

    Raises:
      ValueError: when d is below 1.

    Example:
      >>> unit = poisson()
      >>> unit.distribution(unit.fit(jnp.array([[1], [4]]))).mean()
      Array([2.5], dtype=float32)

    Source: DLB 6.2.2.4.
    """
    check_options("poisson", dimensions=dimensions)

    def distribution(raw: ArrayLike) -> Poisson:
        return Poisson(*split("poisson", raw, dimensions))

    def fit(y: ArrayLike) -> Array:
        rate = sample_of("poisson", y, dimensions).mean(0)
        return jnp.log(jnp.maximum(rate, jnp.finfo(rate.dtype).eps))

    return OutputUnit(dimensions, distribution, fit)


def _inside(p: Array) -> Array:
    eps = jnp.finfo(p.dtype).eps
    return jnp.clip(p, eps, 1 - eps)
