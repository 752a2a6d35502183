"""Recurrent cells as pure functions of one step.

Letters: B batch, D features of an input, H units, G gates (1 Elman, 3 GRU, 4 LSTM).
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from fdl.types import Array, DTypeLike


class CellWeights(NamedTuple):
    """The weights of a cell, its gates side by side along the last axis.

    Attributes:
      kernel_in: W, shape (D, G H); None when the step is handed x W + b in place of x.
      kernel_hidden: U, shape (H, G H).
      bias: b, shape (G H,), added to x W; None is 0.
      bias_hidden: b', shape (G H,), added to h U; None is 0. The GRU takes shape (H,) too: that
        of the candidate alone.
    """

    kernel_in: Array | None
    kernel_hidden: Array
    bias: Array | None = None
    bias_hidden: Array | None = None


class LSTMCarry(NamedTuple):
    """What an LSTM carries from step to step: its output h and its memory c, (B, H) each."""

    h: Array
    c: Array


CellStep: TypeAlias = Callable[[CellWeights, Any, Array], tuple[Any, Array]]


def elman_step(
    weights: CellWeights,
    carry: Array,
    x: Array,
    *,
    unit: Callable[[Array], Array] = jnp.tanh,
) -> tuple[Array, Array]:
    """Advance a simple recurrent net by one step.

    h' = g(x W + b + h U + b')

    Args:
      weights: with G = 1.
      carry: h, shape (B, H).
      x: shape (B, D).
      unit: g, elementwise.

    Returns:
      (h', h'), of the types of `carry` and of `x`.

    Example:
      >>> weights = CellWeights(jnp.eye(2), 0.5 * jnp.eye(2))
      >>> elman_step(weights, jnp.ones((1, 2)), jnp.zeros((1, 2)), unit=jax.nn.relu)[0]
      Array([[0.5, 0.5]], dtype=float32)

    Source: Elman 1990; DLB equation 10.8.
    """
    h = unit((project(weights, x) + recurrent(weights, carry, x.dtype)).astype(carry.dtype))
    return h, h.astype(x.dtype)


def lstm_step(weights: CellWeights, carry: LSTMCarry, x: Array) -> tuple[LSTMCarry, Array]:
    """Advance a long short-term memory by one step.

    i, f, g, o = split(x W + b + h U + b')
    c' = sigmoid(f) c + sigmoid(i) tanh(g),   h' = sigmoid(o) tanh(c')

    c runs in a constant error carousel: with the forget gate f open and the input gate i shut,
    value and gradient stay as they are for any number of steps.

    Args:
      weights: with G = 4, in PyTorch's order i, f, g, o.
      carry: (h, c), of shape (B, H) each.
      x: shape (B, D).

    Returns:
      ((h', c'), h'), the carry in its own type, h' in that of `x`.

    Example:
      >>> shut = CellWeights(jnp.zeros((3, 8)), jnp.zeros((2, 8)), jnp.repeat(
      ...     jnp.array([-50.0, 50.0, 0.0, 0.0]), 2))
      >>> carry, y = lstm_step(shut, LSTMCarry(jnp.zeros((1, 2)), jnp.ones((1, 2))),
      ...     jnp.ones((1, 3)))
      >>> carry.c
      Array([[1., 1.]], dtype=float32)

    Source: Hochreiter and Schmidhuber 1997; Gers et al. 2000 (forget gate); DLB 10.10.1.
    """
    gates = (project(weights, x) + recurrent(weights, carry.h, x.dtype)).astype(carry.c.dtype)
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f) * carry.c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return LSTMCarry(h, c), h.astype(x.dtype)


def gru_step(
    weights: CellWeights, carry: Array, x: Array, *, reset_after: bool = True
) -> tuple[Array, Array]:
    """Advance a gated recurrent unit by one step.

    r = sigmoid(x W_r + b_r + h U_r + b'_r),   z = sigmoid(x W_z + b_z + h U_z + b'_z)
    after:  n = tanh(x W_n + b_n + r * (h U_n + b'_n)),   h' = (1 - z) n + z h
    before: n = tanh(x W_n + b_n + (r * h) U_n + b'_n),   h' = (1 - z) h + z n

    "After" is the form of cuDNN and PyTorch: one product h U serves all gates. "Before" is that of
    Bahdanau et al. (appendix A) and Chung et al.; z plays the opposite role there. Cho et al. and
    Keras reset before, too, but write z h + (1 - z) n: negate the weights of z to convert.

    Args:
      weights: with G = 3, in PyTorch's order r, z, n.
      carry: h, shape (B, H).
      x: shape (B, D).
      reset_after: whether the reset gate acts behind the product with U_n or before it.

    Returns:
      (h', h'), of the types of `carry` and of `x`.

    Example:
      >>> kept = CellWeights(jnp.zeros((1, 6)), jnp.zeros((2, 6)), jnp.repeat(
      ...     jnp.array([0.0, 50.0, 9.0]), 2))
      >>> gru_step(kept, jnp.full((1, 2), 0.5), jnp.ones((1, 1)))[0]
      Array([[0.5, 0.5]], dtype=float32)

    Source: Cho et al. 2014, arXiv 1406.1078; Bahdanau et al. 2014, arXiv 1409.0473; Chung et al.
    2014, arXiv 1412.3555; DLB equations 10.45 to 10.47.
    """
    units = carry.shape[-1]
    x_gates, x_n = jnp.split(project(weights, x), [2 * units], axis=-1)
    weights = weights._replace(bias_hidden=_gru_bias(weights, units))
    if reset_after:
        h_gates, h_n = jnp.split(recurrent(weights, carry, x.dtype), [2 * units], axis=-1)
    else:
        h_gates = recurrent(_columns(weights, slice(None, 2 * units)), carry, x.dtype)
    r, z = jnp.split(jax.nn.sigmoid((x_gates + h_gates).astype(carry.dtype)), 2, axis=-1)
    if not reset_after:
        h_n = recurrent(_columns(weights, slice(2 * units, None)), r * carry, x.dtype)
        n = jnp.tanh((x_n + h_n).astype(carry.dtype))
        h = (1 - z) * carry + z * n
    else:
        n = jnp.tanh(x_n.astype(carry.dtype) + r * h_n.astype(carry.dtype))
        h = (1 - z) * n + z * carry
    return h, h.astype(x.dtype)


def project(weights: CellWeights, x: Array) -> Array:
    """Compute x W + b, the part of a step that needs no state; x itself where W is None.

    Args:
      weights: of any cell.
      x: shape (..., D).

    Returns:
      Shape (..., G H).

    Example:
      >>> weights = CellWeights(jnp.ones((2, 3)), jnp.zeros((3, 3)), jnp.arange(3.0))
      >>> project(weights, jnp.ones((1, 2)))
      Array([[2., 3., 4.]], dtype=float32)
    """
    if weights.kernel_in is not None:
        x = x @ weights.kernel_in
    return x if weights.bias is None else x + _row(weights.bias, x)


def recurrent(weights: CellWeights, h: Array, dtype: DTypeLike) -> Array:
    """Compute h U + b', the part of a step that comes from the state.

    Args:
      weights: of any cell.
      h: shape (..., H).
      dtype: in which the product is computed.

    Returns:
      Shape (..., G H).

    Example:
      >>> weights = CellWeights(None, 2 * jnp.eye(2))
      >>> recurrent(weights, jnp.ones((1, 2)), jnp.float32)
      Array([[2., 2.]], dtype=float32)
    """
    out = h.astype(dtype) @ weights.kernel_hidden
    return out if weights.bias_hidden is None else out + _row(weights.bias_hidden, out)


def _gru_bias(weights: CellWeights, units: int) -> Array | None:
    bias = weights.bias_hidden
    if bias is None or bias.shape[-1] != units:
        return bias
    return jnp.concatenate([jnp.zeros((2 * units,), bias.dtype), bias])


def _columns(weights: CellWeights, columns: slice) -> CellWeights:
    bias = weights.bias_hidden
    return weights._replace(
        kernel_hidden=weights.kernel_hidden[:, columns],
        bias_hidden=None if bias is None else bias[columns],
    )


def _row(features: Array, x: Array) -> Array:
    return features.reshape((1,) * (x.ndim - 1) + features.shape)
