"""Where the minimum of a function of one variable is guessed to be, from what two points say."""

from typing import NamedTuple

import jax.numpy as jnp

from fdl.types import Array


class Point(NamedTuple):
    """What is known of phi(step) = f(x + step * u) at one step.

    Attributes:
      step: >= 0.
      value: phi(step).
      slope: phi'(step); NaN where it was not asked for.
    """

    step: Array
    value: Array
    slope: Array


def quadratic(a: Point, b: Point) -> Array:
    """Return the minimiser of the parabola with the value and slope of `a` and the value of `b`.

    Args:
      a: a point with a slope.
      b: another point.

    Returns:
      A step; not finite, or a maximiser, where the parabola has no minimum.

    Example:
      >>> a, b = Point(0.0, 4.0, -4.0), Point(1.0, 1.0, jnp.nan)  # (s - 2)^2
      >>> float(quadratic(a, b))
      2.0

    Source: Nocedal and Wright 2006, equation 3.58.
    """
    h = b.step - a.step
    return a.step - a.slope * h * h / (2 * (b.value - a.value - a.slope * h))


def secant(a: Point, b: Point) -> Array:
    """Return where the slope is zero if it is linear between two points.

    Example:
      >>> a, b = Point(0.0, 4.0, -4.0), Point(1.0, 1.0, -2.0)  # (s - 2)^2
      >>> float(secant(a, b))
      2.0

    Source: Hager and Zhang 2006, section 4.
    """
    return (a.step * b.slope - b.step * a.slope) / (b.slope - a.slope)


def cubic(a: Point, b: Point) -> Array:
    """Return the minimiser of the cubic with the values and slopes of two points.

    Args:
      a: a point with a slope.
      b: another one, before or behind it.

    Returns:
      A step; NaN where the cubic has no minimum.

    Example:
      >>> a, b = Point(0.0, 2.0, -3.0), Point(2.0, 4.0, 9.0)  # s^3 - 3 s + 2
      >>> float(cubic(a, b))
      1.0

    Source: Nocedal and Wright 2006, equation 3.59.
    """
    h = b.step - a.step
    d1 = a.slope + b.slope - 3 * (b.value - a.value) / h
    scale = jnp.maximum(jnp.abs(d1), jnp.maximum(jnp.abs(a.slope), jnp.abs(b.slope)))
    scale = jnp.where(scale > 0, scale, 1)  # squares of slopes overflow long before slopes do
    root = scale * jnp.sqrt((d1 / scale) ** 2 - (a.slope / scale) * (b.slope / scale))
    d2 = jnp.sign(h) * root
    return b.step - h * (b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2)
