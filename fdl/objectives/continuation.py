"""Continuation: from an objective that is easy to the one that is meant, along a level in [0, 1].

The level is a number that the loop computes from the step (`fdl.data.linear_pacing(0, steps)`
does) and hands on as data, so that one compiled step serves all levels and a resumed run goes on
at its own. For smoothing by noise on all parameters see `fdl.optim.graduated`.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array

Unit = Callable[[Array], Array]


def homotopy(unit: Unit, level: float | Array) -> Unit:
    """Bend the identity into a hidden unit: z -> (1 - l) z + l g(z).

    At l = 0 a network of such units is linear, and with one hidden layer of sufficient width its
    squared error has no local minima but global ones (Baldi and Hornik 1989); at l = 1 it is the
    network that is meant.

    Args:
      unit: g, elementwise.
      level: l in [0, 1].

    Returns:
      A function of arrays of any shape.

    Raises:
      ValueError: a level outside [0, 1].

    Example:
      >>> [round(float(homotopy(jnp.tanh, l)(jnp.array(2.0))), 3) for l in (0.0, 0.5, 1.0)]
      [2.0, 1.482, 0.964]

    Source: DLB 8.7.6; Mollifying networks (Gulcehre et al. 2017, arXiv 1608.04980) for the idea.
    """
    if isinstance(level, float | int) and not 0 <= level <= 1:
        raise ValueError(f"homotopy(level=...) must lie in [0, 1], got {level}")
    return lambda z: (1 - level) * z + level * unit(z)


def smoothed_polynomial(coefficients: ArrayLike, sigma: float | Array) -> Array:
    """Smooth a polynomial by a Gaussian, in closed form.

    J_s(x) = E J(x + s z), z ~ N(0, 1)  =  sum_k (s^2 / 2)^k / k! J^(2k)(x)

    the heat equation at time s^2 / 2, whose series ends with the degree.

    Args:
      coefficients: of J, highest power first, shape (n,), as `jax.numpy.polyval` takes them.
      sigma: s >= 0.

    Returns:
      The coefficients of J_s, shape (n,).

    Raises:
      ValueError: coefficients of another shape, or a negative sigma.

    Example:
      >>> smoothed_polynomial(jnp.array([1.0, 0.0, 0.0]), 2.0).tolist()  # x^2 becomes x^2 + 4
      [1.0, 0.0, 4.0]

    Source: Mobahi and Fisher 2015, "A theoretical analysis of optimization by Gaussian
    continuation"; DLB 8.7.6.
    """
    c = jnp.asarray(coefficients)
    if c.ndim != 1 or c.size == 0:
        raise ValueError(f"smoothed_polynomial(coefficients) must be (n,), n >= 1, got {c.shape}")
    if isinstance(sigma, float | int) and not sigma >= 0:
        raise ValueError(f"smoothed_polynomial(sigma=...) must be >= 0, got {sigma}")
    c = c.astype(jnp.promote_types(c.dtype, jnp.float32))
    smooth, term = c, c
    for k in range(1, (c.size - 1) // 2 + 1):
        power = jnp.arange(c.size - 1, -1, -1, dtype=c.dtype)
        twice = jnp.concatenate([jnp.zeros(2, c.dtype), (term * power * (power - 1))[:-2]])
        term = twice * sigma**2 / (2 * k)
        smooth = smooth + term
    return smooth
