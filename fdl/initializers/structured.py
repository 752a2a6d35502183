"""Weights that say something before training: sparse ones, the identity, open gates."""

import math

import jax
import jax.numpy as jnp

from fdl.initializers.form import Initializer, initializer
from fdl.types import Array, DTypeLike


def sparse(k: int = 15, stddev: float = 1.0) -> Initializer:
    """Give each unit exactly k incoming weights drawn from N(0, stddev^2), the others being 0.

    So the total input of a unit does not grow with the number of inputs, and units differ in what
    they look at. Kernels are (..., inputs, outputs).

    Args:
      k: non-zero weights of a unit, >= 1.
      stddev: of each.

    Returns:
      `(key, shape, dtype) -> array`.

    Raises:
      ValueError: for k < 1; from the initializer, for a shape of less than two axes or of fewer
        than k inputs.

    Example:
      >>> w = sparse(2)(jax.random.key(0), (10, 3), jnp.float32)
      >>> (w != 0).sum(0).tolist()
      [2, 2, 2]

    Source: Martens 2010, Deep learning via Hessian-free optimization, section 5; DLB 8.4.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"sparse(k=...) must be an integer >= 1, got {k!r}")

    def draw(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        inputs = math.prod(shape[:-1])
        if len(shape) < 2 or inputs < k:
            raise ValueError(f"sparse(k={k}) must have a shape of at least k inputs, got {shape}")
        where, size = jax.random.split(key)
        lots = jax.random.uniform(where, (inputs, shape[-1]))
        chosen = jnp.argsort(jnp.argsort(lots, axis=0), axis=0) < k
        wide = jnp.promote_types(dtype, jnp.float32)
        values = stddev * jax.random.normal(size, chosen.shape, wide)
        return jnp.where(chosen, values, 0).reshape(shape).astype(dtype)

    return initializer(draw)


def identity(scale: float = 1.0) -> Initializer:
    """Begin at scale times the identity: a recurrent net that remembers its state.

    With rectifiers and scale = 1 the gradient neither vanishes nor explodes at the beginning. For
    convolutions see `delta_orthogonal`.

    Args:
      scale: of the diagonal.

    Returns:
      `(key, shape, dtype) -> array`; the key is not used.

    Raises:
      ValueError: from the initializer, unless the shape is (n, n).

    Example:
      >>> identity(0.5)(jax.random.key(0), (2, 2), jnp.float32)
      Array([[0.5, 0. ],
             [0. , 0.5]], dtype=float32)

    Source: Le, Jaitly and Hinton 2015, arXiv 1504.00941.
    """

    def draw(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        del key
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(f"identity(shape) must be (n, n), got {shape}")
        return scale * jnp.eye(shape[0], dtype=dtype)

    return initializer(draw)


def gate_bias(*values: float) -> Initializer:
    """Give the biases of packed gates one value each: (0, 1, 0, 0) opens an LSTM's forget gate.

    A unit that other units multiply with should begin open: an LSTM whose forget gate is half shut
    (bias 0) halves its memory, and the gradient, at every step. The order of the gates is that of
    the layer: i, f, g, o in PyTorch.

    Args:
      *values: the bias of each gate.

    Returns:
      `(key, shape, dtype) -> array`; the key is not used.

    Raises:
      ValueError: without a value; from the initializer, for a shape that is not (gates * units,).

    Example:
      >>> gate_bias(0, 1, 0, 0)(jax.random.key(0), (8,), jnp.float32)
      Array([0., 0., 1., 1., 0., 0., 0., 0.], dtype=float32)

    Source: Jozefowicz et al. 2015; DLB 8.4 and 10.10.1.
    """
    if not values:
        raise ValueError("gate_bias(*values) must have a value for each gate, got none")

    def draw(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        del key
        if len(shape) != 1 or shape[0] % len(values):
            raise ValueError(f"gate_bias(shape) must be ({len(values)} * units,), got {shape}")
        return jnp.repeat(jnp.asarray(values, dtype), shape[0] // len(values))

    return initializer(draw)
