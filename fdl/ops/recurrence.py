"""A recurrent cell's run over time, with sequences of different lengths."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fdl.ops.lstm_scan import lstm_scan
from fdl.ops.recurrent import CellStep, CellWeights, lstm_step, project
from fdl.types import Array, PyTree


def recur(
    step: CellStep,
    weights: CellWeights,
    x: Array,
    carry: PyTree,
    *,
    lengths: Array | None = None,
    reverse: bool = False,
    hoist: bool | None = None,
    chunk: int | None = None,
) -> tuple[Array, PyTree]:
    """Run a cell over time.

    carry_t, y_t = step(weights, carry_{t-1}, x_t)

    A sequence shorter than the others is one of itself: behind its end the carry stays and outputs
    are 0. A reverse run begins at each sequence's own last step. What stands in the padding has no
    effect, not even where it is not finite.

    Args:
      step: `lstm_step`, `gru_step`, `elman_step` or another function of their form.
      weights: of the cell.
      x: shape (B, T, D).
      carry: before the first step; arrays with B as their first axis.
      lengths: steps of each sequence, integers in [0, T] of shape (B,); all T if None.
      reverse: from the last step to the first; y_t still belongs to x_t.
      hoist: compute x W + b of all steps in one product before the scan, rather than step by step
        in it. None: where that is faster, on all platforms but the CPU.
      chunk: keep for the backward pass only the carry of every so many steps and compute the rest
        again; about sqrt(T) makes memory grow with sqrt(T). None keeps all.

    Returns:
      (y, carry): y of shape (B, T, H); the carry after the last step of each sequence (the first
      step's, for a reverse run).

    Raises:
      ValueError: when shapes do not fit or `chunk` < 1.

    Example:
      >>> from fdl.ops.recurrent import elman_step
      >>> weights = CellWeights(jnp.ones((1, 1)), jnp.ones((1, 1)))
      >>> adder = lambda weights, h, x: elman_step(weights, h, x, unit=lambda a: a)
      >>> x = jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])[..., None]
      >>> y, h = recur(adder, weights, x, jnp.zeros((2, 1)), lengths=jnp.array([3, 2]))
      >>> y[..., 0].tolist(), h[:, 0].tolist()
      ([[1.0, 3.0, 6.0], [4.0, 9.0, 0.0]], [6.0, 9.0])

    Source: DLB 10.2; Chen et al. 2016, arXiv 1604.06174, for the memory.
    """
    _check(x, carry, lengths, chunk)
    if hoist is None:
        hoist = jax.default_backend() != "cpu"
    mask = None
    if lengths is not None:
        mask = (jnp.arange(x.shape[1])[:, None] < lengths[None, :])[..., None]  # (T, B, 1)
        x = jnp.where(mask.swapaxes(0, 1), x, 0)  # 0 * nan would reach the gradients
    if hoist:
        x = project(weights, x)
        weights = weights._replace(kernel_in=None, bias=None)

    if step is lstm_step and chunk is None:
        y, carry = lstm_scan(weights, x.swapaxes(0, 1), carry, mask, reverse=reverse)
        return y.swapaxes(0, 1), carry

    def body(carry: PyTree, at: tuple[Array, Array | None]) -> tuple[PyTree, Array]:
        x_t, real = at
        new, y = step(weights, carry, x_t)
        if real is not None:
            new = jax.tree.map(lambda now, old: jnp.where(real, now, old), new, carry)
            y = jnp.where(real, y, 0)
        return new, y

    carry, y = _scan(body, carry, (x.swapaxes(0, 1), mask), reverse=reverse, chunk=chunk)
    return y.swapaxes(0, 1), carry


def _scan(
    body: Callable[..., Any], carry: PyTree, xs: PyTree, *, reverse: bool, chunk: int | None
) -> tuple[PyTree, Array]:
    """`lax.scan`, in chunks that are computed again in the backward pass."""
    if chunk is None:
        return jax.lax.scan(body, carry, xs, reverse=reverse)
    blocks, rest = _split(xs, chunk)

    @jax.checkpoint
    def run(carry: PyTree, block: PyTree) -> tuple[PyTree, Array]:
        return jax.lax.scan(body, carry, block, reverse=reverse)

    if reverse:
        carry, last = run(carry, rest)
    carry, first = jax.lax.scan(run, carry, blocks, reverse=reverse)
    if not reverse:
        carry, last = run(carry, rest)
    return carry, jnp.concatenate([first.reshape(-1, *first.shape[2:]), last])


def _split(xs: PyTree, chunk: int) -> tuple[PyTree, PyTree]:
    """Cut the leading axis into whole chunks and a rest."""
    time = jax.tree.leaves(xs)[0].shape[0]
    whole = time - time % chunk
    blocks = jax.tree.map(lambda a: a[:whole].reshape(-1, chunk, *a.shape[1:]), xs)
    return blocks, jax.tree.map(lambda a: a[whole:], xs)


def _check(x: Array, carry: PyTree, lengths: Array | None, chunk: int | None) -> None:
    if x.ndim != 3:
        raise ValueError(f"recur(x) must be of shape (batch, time, features), got {x.shape}")
    if any(leaf.shape[:1] != x.shape[:1] for leaf in jax.tree.leaves(carry)):
        shapes = [leaf.shape for leaf in jax.tree.leaves(carry)]
        raise ValueError(f"recur(carry) must be of {x.shape[0]} sequences as x, got {shapes}")
    if lengths is not None and lengths.shape != x.shape[:1]:
        raise ValueError(f"recur(lengths) must be of shape {x.shape[:1]}, got {lengths.shape}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"recur(chunk=...) must be >= 1, got {chunk}")
