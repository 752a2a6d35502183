"""A linear classifier on fixed features: how easily what they hold can be read."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl import losses, optim, regularizers
from fdl.types import Array


class LinearProbe(NamedTuple):
    """A linear classifier; itself a function of features that returns logits.

    Attributes:
      kernel: (features, classes).
      bias: (classes,).
    """

    kernel: Array
    bias: Array

    def __call__(self, x: ArrayLike) -> Array:
        """Return the logits (n, classes) of features (n, d)."""
        return jnp.asarray(x) @ self.kernel + self.bias[None]


def fit_linear_probe(
    x: ArrayLike,
    labels: ArrayLike,
    l2: float | Array,
    *,
    classes: int,
    gtol: float = 1e-5,
    max_iter: int = 400,
) -> LinearProbe:
    """Fit softmax regression to fixed features, to the end: by L-BFGS, from weights of zero.

    mean_i cross_entropy(softmax(x_i W + b), y_i) + l2 / 2 |W|^2

    The problem is convex, and for l2 > 0 there is one W: nothing depends on a seed. Features of
    very different scales make it slow; standardise them first.

    Args:
      x: features, (n, d), floating point.
      labels: (n,), integers in 0..classes - 1.
      l2: strength of weight decay, >= 0; the bias has none.
      classes: how many; also those that no example has.
      gtol: it ends when no entry of the gradient is larger,
      max_iter: or after so many updates.

    Returns:
      `LinearProbe(kernel, bias)`; it can be called.

    Raises:
      ValueError: when the shapes do not fit, there are no examples, `classes` is less than 2
        or `l2` a negative number.

    Example:
      >>> x = jnp.array([[0.0], [1.0], [4.0], [5.0]])
      >>> probe = fit_linear_probe(x, jnp.array([0, 0, 1, 1]), 1e-3, classes=2)
      >>> probe(x).argmax(-1).tolist()
      [0, 0, 1, 1]

    Source: DLB 5.7.1, 6.2.2.3; Alain and Bengio 2016, Understanding intermediate layers using
    linear classifier probes.
    """
    x, labels = jnp.asarray(x), jnp.asarray(labels)
    if x.ndim != 2 or labels.shape != x.shape[:1] or not len(x):
        raise ValueError(
            "fit_linear_probe(x, labels) must be (n >= 1, d) and (n,), "
            f"got {x.shape} and {labels.shape}"
        )
    if classes < 2:
        raise ValueError(f"fit_linear_probe(classes=...) must be >= 2, got {classes}")

    def objective(probe: LinearProbe) -> Array:
        loss = losses.softmax_cross_entropy(probe(x), labels)
        return loss.mean() + regularizers.l2({"kernel": probe.kernel}, l2)

    start = LinearProbe(jnp.zeros((x.shape[1], classes), x.dtype), jnp.zeros(classes, x.dtype))
    return optim.minimize(optim.lbfgs(), objective, start, gtol=gtol, max_iter=max_iter).params
