"""Train the members of an ensemble at once, each device some of them."""

import jax

from fdl import axes
from fdl.errors import InputError
from fdl.train import metrics as metric
from fdl.types import Array, Batch, Metrics, PyTree, Step


def members_step(step: Step, *, axis: str = axes.DATA) -> Step:
    """Make one update of each of k members from the update of one.

    state_j, metrics_j = step(state_j, batch_j),   j = 1, ..., k

    Lifted by `fdl.train.lift`, which spreads the batch along its first axis, here the members, each
    of n devices computes k/n members as if they were alone, then all exchange what they computed:
    every device holds all members, as a checkpoint does. That is one all-gather of the state in
    each step, no more than spreading the examples would exchange; memory must hold k states.

    Args:
      step: the update of one member that knows no devices: `make_step(objective, tx, axis=None)`.
        Whatever it does to the whole tree (a norm, a line search) it does for each member alone;
        batch normalisation needs `axis_name=None`, or it would mix the members.
      axis: the axis name over which the members are spread.

    Returns:
      A step whose state has leaves of shape (k, ...), such as
      `averaging.stack_members([init_state(...), ...])`, and whose batch has leaves of shape
      (k, b, ...), on each device k/n of them, as `fdl.data.members_batch` gives it. Its metrics are
      those of all members together.

    Raises:
      InputError: at tracing, when batch and state are not of the same number of members.

    Example:
      >>> import jax.numpy as jnp
      >>> def step(state, batch):
      ...     return state + batch["x"].sum(), {"loss": state}
      >>> state, metrics = members_step(step)(jnp.array([0.0, 10.0]), {"x": jnp.eye(2)})
      >>> state.tolist(), float(metrics["loss"])
      ([1.0, 11.0], 5.0)
    """

    def step_of_all(state: PyTree, batch: Batch) -> tuple[PyTree, Metrics]:
        k, own = _length(state), _length(batch)
        if k != own * axes.size(axis):
            raise InputError(
                f"members_step: a state of {k} members needs a batch of as many, "
                f"got {own * axes.size(axis)}"
            )
        begin = axes.index(axis) * own
        mine = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, begin, own), state)
        mine, metrics = jax.vmap(step)(mine, batch)
        metrics = metric.over_devices(metric.over_steps(metrics), axis)
        return jax.tree.map(lambda a: _gathered(a, axis), mine), metrics

    return step_of_all


def _length(tree: PyTree) -> int:
    return len(jax.tree.leaves(tree)[0])


def _gathered(a: Array, axis: str) -> Array:
    return jax.lax.all_gather(a, axis, tiled=True) if axes.bound(axis) else a
