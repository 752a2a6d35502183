"""Collectives over a named axis that are the identity where no such axis exists.

One function body then serves one device (`jax.jit`), many devices (`jax.pmap`, `jax.shard_map`) and
the imitation of many devices on one (`jax.vmap(..., axis_name=...)`).
"""

import jax

from fdl.types import Array, PyTree

DATA = "data"  # the axis along which the examples of a batch are spread


def bound(axis: str | None) -> bool:
    """Tell whether the caller is being traced under a mapping that names `axis`.

    Args:
      axis: the axis name; None is never bound.

    Example:
      >>> bound("data")
      False
      >>> jax.vmap(lambda x: x * bound("data"), axis_name="data")(jax.numpy.ones(2))
      Array([1., 1.], dtype=float32)
    """
    if axis is None:
        return False
    try:
        jax.lax.axis_index(axis)
    except NameError:
        return False
    return True


def size(axis: str | None) -> int:
    """Return how many participants `axis` has; 1 where it is not bound.

    Example:
      >>> size("data")
      1
    """
    return int(jax.lax.psum(1, axis)) if bound(axis) else 1


def index(axis: str | None) -> Array | int:
    """Return the caller's position along `axis`; 0 where it is not bound.

    Example:
      >>> jax.vmap(lambda x: index("data") + 0 * x, axis_name="data")(jax.numpy.zeros(3, int))
      Array([0, 1, 2], dtype=int32)
    """
    return jax.lax.axis_index(axis) if bound(axis) else 0


def mean(tree: PyTree, axis: str | None) -> PyTree:
    """Average every leaf over `axis`: (1/n) sum_i x_i; the identity where it is not bound.

    Args:
      tree: arrays of any shape, floating point or complex.
      axis: the axis name.

    Returns:
      A tree of the same shapes, equal on all participants.

    Example:
      >>> jax.vmap(lambda x: mean(x, "data"), axis_name="data")(jax.numpy.array([1.0, 3.0]))
      Array([2., 2.], dtype=float32)
    """
    return jax.lax.pmean(tree, axis) if bound(axis) else tree


def total(tree: PyTree, axis: str | None) -> PyTree:
    """Sum every leaf over `axis`: sum_i x_i; the identity where it is not bound.

    Example:
      >>> jax.vmap(lambda x: total(x, "data"), axis_name="data")(jax.numpy.array([1.0, 3.0]))
      Array([4., 4.], dtype=float32)
    """
    return jax.lax.psum(tree, axis) if bound(axis) else tree
