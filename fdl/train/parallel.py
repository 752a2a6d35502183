"""The one place that knows devices: gradients across them, and runners that lift a step to many.

A step differentiates `mean_over_devices(objective(shared(params), ...))`. `shared` is the identity
whose transpose is the mean over devices; the two together give every derivative (gradient, `jvp`,
Hessian-vector product in either order, a line search's own re-evaluations) the value that one
device with the whole batch would give, under `jax.vmap(axis_name=...)`, `jax.pmap` and
`jax.shard_map` with `check_vma` on or off. `jax.grad` of a local loss followed by `pmean` does not:
with `check_vma` on it is as many times too large as there are devices.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fdl import axes
from fdl.errors import InputError
from fdl.types import Array, PyTree, Step

How = Literal["none", "pmap", "shard_map"]

RUN_AHEAD = 8  # steps in flight; XLA on a CPU can abort when many more collectives are queued


# A custom_vjp has no forward mode and its reverse-over-reverse is silently wrong; a primitive that
# is linear, the identity, with the mean as its transpose, is right in every composition.
_shared_p = Primitive("shared")
_shared_p.def_impl(lambda x, *, axis: x)
_shared_p.def_abstract_eval(lambda x, *, axis: x)
mlir.register_lowering(_shared_p, lambda ctx, x, *, axis: [x])
ad.deflinear2(_shared_p, lambda cotangent, x, *, axis: [jax.lax.pmean(cotangent, axis)])
batching.defvectorized(_shared_p)


def shared(tree: PyTree, axis: str | None = axes.DATA) -> PyTree:
    """Mark values as equal on all devices: the identity, whose cotangents are averaged.

    Forwards y = x; backwards dx = (1/n) sum_i dy_i over the devices along `axis`. Wherever `axis`
    is not bound both are the identity.

    Args:
      tree: arrays of any shape; leaves that are not floating point pass through untouched.
      axis: the axis name over which the examples are spread.

    Returns:
      The same tree.

    Example:
      >>> def loss(w, x):  # each of two devices holds one example
      ...     return mean_over_devices(shared(w) * x)
      >>> grad = jax.vmap(jax.grad(loss), in_axes=(None, 0), axis_name="data")
      >>> grad(jnp.float32(2.0), jnp.array([1.0, 3.0], jnp.float32))
      Array([2., 2.], dtype=float32)
    """
    if not axes.bound(axis):
        return tree

    def mark(a: Array) -> Array:
        return _shared_p.bind(a, axis=axis) if jnp.issubdtype(a.dtype, jnp.inexact) else a

    return jax.tree.map(mark, tree)


def mean_over_devices(tree: PyTree, axis: str | None = axes.DATA) -> PyTree:
    """Average over the devices along `axis`; the identity where it is not bound.

    y = (1/n) sum_i x_i

    Args:
      tree: arrays of any shape.
      axis: the axis name over which the examples are spread.

    Returns:
      A tree of the same shapes, equal on all devices.

    Example:
      >>> jax.vmap(mean_over_devices, axis_name="data")(jnp.array([1.0, 3.0], jnp.float32))
      Array([2., 2.], dtype=float32)
    """
    return axes.mean(tree, axis)


class Runner(NamedTuple):
    """A step on the devices, and the way there and back.

    Attributes:
      step: `(state, batch) -> (state, metrics)`; the state given is donated, never use it again.
        The batch holds this process's part of the global batch as host arrays.
      put: host state -> state on every device, always a copy.
      get: what is on the devices -> one replica as host arrays of its own (typed PRNG keys stay
        keys).
      check: raises `RuntimeError` naming the leaf unless all replicas are bitwise equal.
      devices: how many devices share a global batch, over all processes.
    """

    step: Step
    put: Callable[[PyTree], PyTree]
    get: Callable[[PyTree], PyTree]
    check: Callable[[PyTree], None]
    devices: int


def lift(
    step: Step,
    how: How = "none",
    *,
    devices: Sequence[jax.Device] | int | None = None,
    axis: str = axes.DATA,
    check_vma: bool = False,
    donate: bool = True,
    ahead: int = RUN_AHEAD,
) -> Runner:
    """Compile a step for one device, or for all devices with the batch spread over them.

    Args:
      step: `(state, batch) -> (state, metrics)` as `make_step` builds it, or any function whose
        first argument and results are equal on all devices while the second is spread.
      how: "none" is `jax.jit` on one device; "pmap" is `jax.pmap`; "shard_map" is
        `jax.jit(jax.shard_map(...))`.
      devices: which devices, or how many of this process's; all by default.
      axis: the axis name that `step` uses.
      check_vma: as in `jax.shard_map`; has no meaning for the others.
      donate: reuse the memory of the first argument, when its result is a new state.
      ahead: how many steps may be in flight before the next one waits; bounds memory, and keeps
        collectives on a CPU from starving one another.

    Returns:
      A `Runner`.

    Raises:
      InputError: for an unknown `how`, more devices than there are, or "none" in a run of several
        processes; from the step, for a batch that the devices cannot share equally.
      ValueError: for `ahead` below 1.

    Example:
      >>> import numpy as np
      >>> def step(total, batch):
      ...     return total + mean_over_devices(batch["x"].mean()), {}
      >>> runner = lift(step, "shard_map", devices=1)
      >>> total, _ = runner.step(runner.put(np.float32(1.0)), {"x": np.array([1.0, 3.0], "f")})
      >>> float(runner.get(total))
      3.0
    """
    if ahead < 1:
        raise ValueError(f"lift(ahead=...) must be >= 1, got {ahead}")
    chosen = _choose(devices)
    donated = (0,) if donate else ()
    if how == "none":
        if jax.process_count() > 1:
            raise InputError(
                "--parallel none runs one process, got several; take pmap or shard_map"
            )
        return _one_device(jax.jit(step, donate_argnums=donated), chosen[0], ahead)
    if how == "pmap":
        lifted = jax.pmap(step, axis, donate_argnums=donated, devices=chosen)
        return _pmapped(lifted, chosen, ahead)
    if how == "shard_map":
        mesh = Mesh(np.array(chosen), (axis,), axis_types=(AxisType.Auto,))
        return _sharded(step, mesh, axis, check_vma, donated, ahead)
    raise InputError(f"--parallel must be none, pmap or shard_map, got {how!r}")


def _choose(devices: Sequence[jax.Device] | int | None) -> list[jax.Device]:
    everywhere = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
    if devices is None:
        return everywhere
    if not isinstance(devices, int):
        return list(devices)
    if not 1 <= devices <= jax.local_device_count():
        raise InputError(
            f"--devices must be from 1 to {jax.local_device_count()} here, got {devices}"
        )
    by_process: dict[int, list[jax.Device]] = {}
    for device in everywhere:
        by_process.setdefault(device.process_index, []).append(device)
    return [d for own in by_process.values() for d in own[:devices]]


def _one_device(step: Step, device: jax.Device, ahead: int) -> Runner:
    return Runner(
        step=_bounded(step, ahead),
        put=partial(jax.tree.map, lambda a: _on_host(a, lambda h: jax.device_put(h, device))),
        get=partial(jax.tree.map, _first_replica),
        check=lambda tree: None,
        devices=1,
    )


def _pmapped(step: Step, chosen: list[jax.Device], ahead: int) -> Runner:
    local = [d for d in chosen if d.process_index == jax.process_index()]
    n = len(local)
    mesh = Mesh(np.array(local), (axes.DATA,), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec(axes.DATA))

    def replicate(a: np.ndarray) -> jax.Array:
        return jax.device_put(np.broadcast_to(a, (n, *a.shape)), sharding)

    def split(a: Any) -> np.ndarray:
        _check_divisible(len(a), n)
        return np.reshape(a, (n, len(a) // n, *np.shape(a)[1:]))

    bounded = _bounded(step, ahead)
    return Runner(
        step=lambda state, batch: bounded(state, jax.tree.map(split, batch)),
        put=partial(jax.tree.map, lambda a: _on_host(a, replicate)),
        get=partial(jax.tree.map, lambda a: _first_replica(a, drop_axis=True)),
        check=check_replicas,
        devices=len(chosen),
    )


def _sharded(
    step: Step, mesh: Mesh, axis: str, check_vma: bool, donated: tuple[int, ...], ahead: int
) -> Runner:
    one, spread = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(axis))
    lifted = jax.jit(
        jax.shard_map(
            step,
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(axis)),
            out_specs=PartitionSpec(),
            check_vma=check_vma,
        ),
        in_shardings=(one, spread),
        donate_argnums=donated,
    )
    own = len(mesh.local_devices)

    def feed(a: Any) -> Any:
        _check_divisible(len(a), own)
        if mesh.size == own:
            return a
        return jax.make_array_from_process_local_data(spread, np.asarray(a))

    bounded = _bounded(lifted, ahead)
    return Runner(
        step=lambda state, batch: bounded(state, jax.tree.map(feed, batch)),
        put=partial(jax.tree.map, lambda a: _on_host(a, lambda h: jax.device_put(h, one))),
        get=partial(jax.tree.map, _first_replica),
        check=check_replicas,
        devices=mesh.size,
    )


def _bounded(step: Step, ahead: int) -> Step:
    """Let at most `ahead` steps be in flight, by waiting once every ahead / 2 steps.

    To wait costs two switches of threads: to do it each step makes a small step 8 % slower.
    """
    every = max(1, ahead // 2)
    ends: deque[jax.Array] = deque()  # a result of the last step of each block of `every` steps
    count = 0

    def call(state: PyTree, batch: Any) -> Any:
        nonlocal count
        if len(ends) >= ahead // every and count % every == 0:
            ends.popleft().block_until_ready()
        out = step(state, batch)
        count += 1
        if count % every == 0:
            # of the metrics, for the memory of the state is given to the next step
            results = jax.tree.leaves(out[1])
            if results:
                ends.append(results[-1])
            else:
                jax.block_until_ready(out)
        return out

    return call


def _check_divisible(size: int, devices: int) -> None:
    if size % devices:
        raise InputError(f"batch size {size} is not divisible by {devices} devices")


def _is_key(a: Any) -> bool:
    return isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jax.dtypes.prng_key)


def _on_host(a: Any, place: Callable[[np.ndarray], jax.Array]) -> jax.Array:
    """Place a private host copy of `a`: an array that is donated must not share its memory."""
    if _is_key(a):
        data = place(np.array(jax.random.key_data(a)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(a))
    return place(np.array(a))


def _first_replica(a: Any, *, drop_axis: bool = False) -> Any:
    if _is_key(a):
        data = _first_replica(jax.random.key_data(a), drop_axis=drop_axis)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(a))
    # a[0] of a pmap result would start a program on all devices; the first shard is already here
    local = np.array(a.addressable_shards[0].data if isinstance(a, jax.Array) else a)
    return np.asarray(local[0]) if drop_axis else local


def check_replicas(tree: PyTree) -> None:
    """Raise unless the copies of every leaf on the devices of this process are bitwise equal.

    Args:
      tree: results of a runner: replicated arrays, or arrays with a leading device axis as `pmap`
        gives them.

    Raises:
      RuntimeError: naming the first leaf whose copies differ, and the devices.

    Example:
      >>> check_replicas({"w": jnp.ones(3)})
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        leaf = jax.random.key_data(leaf) if _is_key(leaf) else leaf
        first, *others = leaf.addressable_shards
        expected = np.asarray(first.data).tobytes()  # bytes, for NaN is not equal to itself
        for shard in others:
            if np.asarray(shard.data).tobytes() != expected:
                name = jax.tree_util.keystr(path, simple=True, separator=".")
                raise RuntimeError(
                    f"replicas of {name} differ between {first.device} and {shard.device}:"
                    " the step used a value of one device without averaging it"
                )
