"""The contract of output units: raw outputs -> a distribution of the target."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from jax.typing import ArrayLike

from fdl.types import Array


class Distribution(Protocol):
    """A distribution of a target for each example: a named tuple of arrays, and so a pytree.

    With parameters for a batch of shape (...,) a target has shape (..., d), classes (...,). Further
    axes in front are independent targets: `nll` takes what `sample` gives.
    """

    def nll(self, y: ArrayLike) -> Array:
        """Return -log p(y) in nats, summed over the target's dimensions: shape (...,)."""
        ...

    def mean(self) -> Array:
        """Return the expected target; of classes their probabilities, shape (..., classes)."""
        ...

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        """Draw independent targets: `shape` goes in front of the batch's."""
        ...


class OutputUnit(NamedTuple):
    """What the last layer of a network computes: the parameters of a distribution.

    The loss of maximum likelihood is then one line whatever the target is,
    `unit.distribution(raw).nll(y).mean()`, with raw from a linear layer of `unit.size` outputs.

    Attributes:
      size: raw outputs that an example needs.
      distribution: raw outputs (..., size) -> the distribution of each example's target. At least
        float32 whatever the raw outputs are. Raises ValueError for another last axis.
      fit: targets (n, ...) -> the raw outputs, shape (size,), that make a sample likeliest when
        nothing else is known. `unit.distribution(unit.fit(y))` is the plain distribution fitted by
        maximum likelihood, and `unit.fit(y)` the bias with which an output layer starts there.

    Example:
      >>> import jax.numpy as jnp
      >>> from fdl.outputs.gaussian import heteroscedastic
      >>> unit = heteroscedastic(1)
      >>> plain = unit.distribution(unit.fit(jnp.array([[1.0], [3.0]])))
      >>> [round(float(a[0]), 4) for a in (plain.mean(), plain.variance())]
      [2.0, 1.0]

    Source: DLB 6.2.2; the bias: 8.4.
    """

    size: int
    distribution: Callable[[ArrayLike], "Distribution"]
    fit: Callable[[ArrayLike], Array]
