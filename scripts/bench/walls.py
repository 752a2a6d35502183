"""Objectives that are not finite outside a region, where no solver may end or die.

Every other problem becomes NaN, the rest infinite, outside the box |x_i| <= 2 (1 + max|x0|).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from mgh import Problem
from other import Smooth

Array = jax.Array


def wall(problem: Problem, beyond: float) -> Smooth:
    edge = 2 * (1 + float(np.max(np.abs(problem.x0))))

    def value(x: Array) -> Array:
        inside = jnp.max(jnp.abs(x)) <= edge
        return jnp.where(inside, problem.value(x), beyond)

    return Smooth(problem.name, value, problem.x0, problem.best)


def walled(problems: Sequence[Problem]) -> list[Smooth]:
    return [wall(p, np.inf if i % 2 else np.nan) for i, p in enumerate(problems)]
