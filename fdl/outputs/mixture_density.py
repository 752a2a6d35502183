"""Mixture density outputs: several Gaussians, for targets with several right answers."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.outputs.expectation_maximization import fit_mixture
from fdl.outputs.mixture import Mixture
from fdl.outputs.raw import check_options, positive, raw_of, sample_of, split
from fdl.outputs.unit import OutputUnit
from fdl.types import Array


def mixture(dimensions: int, components: int, *, floor: float = 1e-6) -> OutputUnit:
    """Make mixture density units: raw = (k logits, k d locs, k d r), component by component.

    pi = softmax(logits),  sigma = softplus(r) + sqrt(floor)

    A component that finds one example alone would shrink without end: the floor stops it. Equal
    components stay equal, since they get equal gradients: start the output layer's bias at `fit`,
    which takes them apart (`fit_mixture`).

    Args:
      dimensions: d of the target, >= 1.
      components: k >= 1.
      floor: the smallest variance sigma^2, >= 0, in the target's unit squared.

    Returns:
      A unit of k (1 + 2 d) raw outputs.

    Raises:
      ValueError: when an argument is out of range.

    Example:
      >>> unit = mixture(1, 2)
      >>> plain = unit.distribution(unit.fit(jnp.array([[-3.1], [2.9], [3.1], [-2.9]])))
      >>> sorted(round(float(m), 3) for m in plain.loc[:, 0])
      [-3.0, 3.0]

    Source: DLB 6.2.2.4; Bishop 1994, Mixture density networks.
    """
    check_options("mixture", floor=floor, dimensions=dimensions, components=components)
    least, table = math.sqrt(floor), components * dimensions

    def distribution(raw: ArrayLike) -> Mixture:
        logits, loc, r = split("mixture", raw, components, table, table)
        loc, r = (a.reshape(*a.shape[:-1], components, dimensions) for a in (loc, r))
        return Mixture(jax.nn.log_softmax(logits), loc, positive(r, least))

    def fit(y: ArrayLike) -> Array:
        found = fit_mixture(sample_of("mixture", y, dimensions), components)
        raws = raw_of(found.scale, least)
        return jnp.concatenate([found.log_weights, found.loc.ravel(), raws.ravel()])

    return OutputUnit(components + 2 * table, distribution, fit)
