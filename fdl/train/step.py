"""One update of the parameters from one batch, the same on one device and on many."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from fdl import axes
from fdl.errors import InputError
from fdl.train import metrics as metric
from fdl.train.parallel import mean_over_devices, shared
from fdl.train.per_example import all_rows, is_per_example, own_rows
from fdl.train.state import State
from fdl.types import Array, Batch, DTypeLike, Extra, Metrics, Objective, Params, PyTree, Step


def make_step(
    objective: Objective,
    tx: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    grad_norm: bool = False,
    axis: str | None = axes.DATA,
) -> Step:
    """Build `step(state, batch) -> (state, metrics)` that makes one update.

    With L the objective averaged over the whole batch, wherever its examples are:
    g = dL/dparams;  updates, opt_state = tx(g, opt_state, params);  params <- params + updates.

    The step is a pure function. It runs under plain `jax.jit`; lifted by `fdl.train.lift` (or
    inside any mapping that names `axis`) it takes this device's share of the batch, and all devices
    get the result of the whole batch.

    Args:
      objective: `(params, extra, batch, key) -> (loss, (extra, metrics))`. `key` holds one key for
        each example, a function of (seed, step, index in the global batch), so random draws do not
        depend on the number of devices; `key[0]` is a single key that differs between devices. The
        loss is a scalar mean over examples, or a `Ratio` whose count does not depend on the
        parameters.
      tx: an optax transformation; line searches and second-order ones are handed `value`, `grad`
        and `value_fn`, all of the whole batch.
      accumulate: split the batch into so many parts, one after another in memory, >= 1; k parts of
        B/k examples give the gradient of B (batch statistics are then those of the parts).
      grad_norm: add the global norm of the gradient to the metrics.
      axis: the axis name over which the examples are spread.

    Returns:
      The step. Its metrics are the objective's and "loss", combined over devices and parts.

    Raises:
      InputError: for an `accumulate` below 1, and at tracing for one that does not divide the
        batch or that would split a `PerExample` state.
      ValueError: at tracing, for a loss that is not a scalar or a batch whose arrays differ in
        length.

    Example:
      >>> from fdl.train.state import init_state
      >>> def objective(params, extra, batch, key):
      ...     return ((params["w"] * batch["x"] - batch["y"]) ** 2).mean(), (extra, {})
      >>> tx = optax.sgd(0.25)
      >>> state = init_state({"w": jnp.float32(0.0)}, {}, tx)
      >>> batch = {"x": jnp.ones(4), "y": jnp.full(4, 3.0)}
      >>> state, metrics = jax.jit(make_step(objective, tx))(state, batch)
      >>> float(state.params["w"]), float(metrics["loss"])
      (1.5, 9.0)

    Source: DLB algorithm 8.1, with any optimizer in place of its last line.
    """
    if accumulate < 1:
        raise InputError(f"make_step(accumulate=...) must be >= 1, got {accumulate}")
    tx = optax.with_extra_args_support(tx)

    def step(state: State, batch: Batch) -> tuple[State, Metrics]:
        key = jax.random.wrap_key_data(state.key)
        keys = example_keys(key, state.step, _batch_size(batch), axis)
        parts = _split((batch, keys), accumulate)
        if accumulate > 1 and _carries(state.extra):
            raise InputError(f"make_step(accumulate={accumulate}) cannot split a PerExample state")
        part = _part_loss(objective, axis)
        value, grads, extra, metrics = _value_and_grad(part, state, parts, accumulate, axis)
        updates, opt_state = tx.update(
            grads,
            state.opt_state,
            state.params,
            value=value,
            grad=grads,
            value_fn=_value_fn(part, state.extra, parts, accumulate, axis, value.dtype),
        )
        params = optax.apply_updates(state.params, updates)
        metrics = metric.over_devices(metrics, axis) | {"loss": value}
        if grad_norm:
            metrics["grad_norm"] = optax.tree.norm(grads)
        return State(state.step + 1, params, extra, opt_state, state.key), metrics

    return step


def example_keys(key: Array, step: Array | int, size: int, axis: str | None = axes.DATA) -> Array:
    """Derive one PRNG key for each example of a batch: fold_in(fold_in(key, step), global index).

    Args:
      key: the typed key of the run, scalar.
      step: the number of the step.
      size: b, examples on this device.
      axis: the axis name; device i holds the examples i b, ..., (i + 1) b - 1 of the global batch.

    Returns:
      Typed keys, shape (b,).

    Example:
      >>> key = jax.random.key(0)
      >>> one = example_keys(key, 5, 4)
      >>> two = jax.vmap(lambda _: example_keys(key, 5, 2), axis_name="data")(jnp.ones(2))
      >>> bool((one.reshape(2, 2) == two).all())
      True
    """
    indices = axes.index(axis) * size + jnp.arange(size)
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, step), indices)


def _batch_size(batch: Batch) -> int:
    sizes = {name: jnp.shape(a)[:1] for name, a in batch.items()}
    if len(set(sizes.values())) != 1 or () in sizes.values():
        raise ValueError(f"make_step: all arrays of a batch must have one length, got {sizes}")
    return next(iter(sizes.values()))[0]


def _split(tree: PyTree, parts: int) -> PyTree:
    """Give every leaf a leading axis of `parts`; nothing to do for one part."""
    if parts == 1:
        return tree

    def split(a: Array) -> Array:
        if len(a) % parts:
            raise InputError(
                f"make_step(accumulate={parts}) must divide the examples on a device, got {len(a)}"
            )
        return a.reshape(parts, len(a) // parts, *a.shape[1:])

    return jax.tree.map(split, tree)


PartLoss = Callable[[Params, Extra, PyTree], tuple[Array, tuple[Array, Extra, Metrics]]]


def _part_loss(objective: Objective, axis: str | None) -> PartLoss:
    """Return loss(params, extra, (batch, keys)) -> (total, (count, extra, metrics)).

    total and count are means over devices, extra too; metrics are still those of this device.
    """

    def loss(
        params: Params, extra: Extra, part: PyTree
    ) -> tuple[Array, tuple[Array, Extra, Metrics]]:
        value, (extra, metrics) = objective(params, own_rows(extra, axis), *part)
        total, count = value if isinstance(value, metric.Ratio) else (value, 1.0)
        if jnp.shape(total) != ():
            raise ValueError(
                f"the loss of an objective must be a scalar, got shape {jnp.shape(total)}"
            )
        total, count = jnp.asarray(total), jax.lax.stop_gradient(jnp.asarray(count, total.dtype))
        total, count = mean_over_devices((total, count), axis)
        extra = jax.tree.map(combined, extra, is_leaf=is_per_example)
        return total, (count, extra, metrics)

    def combined(node: PyTree) -> PyTree:
        if is_per_example(node):
            return all_rows(node, axis)
        # counters are integers: equal on all devices already, and without a mean
        return axes.mean(node, axis) if jnp.issubdtype(jnp.result_type(node), jnp.inexact) else node

    return loss


def _carries(extra: Extra) -> bool:
    return any(map(is_per_example, jax.tree.leaves(extra, is_leaf=is_per_example)))


def _value_and_grad(
    part_loss: PartLoss, state: State, parts: PyTree, accumulate: int, axis: str | None
) -> tuple[Array, PyTree, Extra, Metrics]:
    # pull is the mean over devices, applied once to the accumulated gradient
    params, pull = jax.vjp(lambda p: shared(p, axis), state.params)
    grad_fn = jax.value_and_grad(part_loss, has_aux=True)
    if accumulate == 1:
        (total, (count, extra, metrics)), grads = grad_fn(params, state.extra, parts)
    else:

        def body(carry: PyTree, part: PyTree) -> tuple[PyTree, PyTree]:
            extra, grads = carry
            (total, (count, extra, metrics)), new = grad_fn(params, extra, part)
            return (extra, jax.tree.map(jnp.add, grads, new)), (total, count, metrics)

        zeros = jax.tree.map(jnp.zeros_like, params)
        carry, each = jax.lax.scan(body, (state.extra, zeros), parts)
        extra, grads = carry
        total, count, metrics = each
        total, count, metrics = total.sum(), count.sum(), metric.over_steps(metrics)
    (grads,) = pull(jax.tree.map(lambda g: g / count.astype(g.dtype), grads))
    return total / count, grads, extra, metrics


def _value_fn(
    part_loss: PartLoss,
    extra: Extra,
    parts: PyTree,
    accumulate: int,
    axis: str | None,
    dtype: DTypeLike,
) -> Callable[[Params], Array]:
    """Return the loss of the whole batch as a function of the parameters, for line searches."""

    def value_fn(params: Params) -> Array:
        params = shared(params, axis)
        if accumulate == 1:
            total, (count, _extra, _metrics) = part_loss(params, extra, parts)
            return total / count

        @jax.checkpoint  # keep no activations of the parts: that is why the batch was split
        def body(carry: PyTree, part: PyTree) -> tuple[PyTree, None]:
            carried, total, count = carry
            new_total, (new_count, carried, _) = part_loss(params, carried, part)
            return (carried, total + new_total, count + new_count), None

        zero = jnp.zeros((), dtype)
        (_, total, count), _ = jax.lax.scan(body, (extra, zero, zero), parts)
        return total / count

    return value_fn
