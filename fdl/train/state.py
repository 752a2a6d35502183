"""All that changes between steps, in one plain pytree."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fdl.types import Array, Extra, Params, PyTree


class State(NamedTuple):
    """What one step takes and gives back; a checkpoint of it is the whole run.

    Attributes:
      step: how many updates were made, int32 scalar.
      params: what is learned.
      extra: what the model carries besides: running statistics.
      opt_state: the state of the optax transformation.
      key: the PRNG key of the run as raw data (`jax.random.key_data`), uint32; never changes, each
        step folds its number in.
    """

    step: Array
    params: Params
    extra: Extra
    opt_state: PyTree
    key: Array


def init_state(
    params: Params, extra: Extra, tx: optax.GradientTransformation, *, seed: int = 0
) -> State:
    """Make the state before the first step.

    Args:
      params: initial parameters.
      extra: initial other state of the model, `{}` if it has none.
      tx: the optax transformation.
      seed: of all randomness during training: dropout, augmentation, noise.

    Returns:
      A `State` at step 0.

    Example:
      >>> state = init_state({"w": jnp.ones(2)}, {}, optax.sgd(0.1))
      >>> int(state.step)
      0
    """
    # raw: a typed key among the results keeps a call from jit's fast path, 0.1 ms each step
    key = jax.random.key_data(jax.random.key(seed))
    return State(jnp.zeros((), jnp.int32), params, extra, tx.init(params), key)
