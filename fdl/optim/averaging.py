"""Polyak averaging: the mean of the iterates, gathered as the last link of a chain."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fdl import tree
from fdl.optim import objective
from fdl.optim.hyperparams import require
from fdl.types import Array, Params, PyTree

Kind = Literal["uniform", "ema", "swa"]


class AverageState(NamedTuple):
    """State of `polyak_average`.

    Attributes:
      count: updates seen, int32 scalar.
      members: iterates in the average, int32 scalar.
      average: their average, float32 at least; the latest iterate while there are none.
    """

    count: Array  # type: ignore[assignment]
    members: Array
    average: PyTree


def polyak_average(
    start: int = 0,
    every: int = 1,
    kind: Kind = "uniform",
    *,
    decay: float = 0.999,
    debias: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Average the iterates theta_t = params + updates; the updates pass unchanged.

    With t_n = start + n every, n = 1, 2, ..., the iterates that count:

        "uniform"   (1/N) sum_n theta_{t_n}
        "swa"       the same and theta_start, the point that averaging starts from
        "ema"       sum_n decay^{N-n} theta_{t_n} / sum_n decay^{N-n}

    An iterate that wanders around a minimum has an average nearer to it, as if the learning rate
    were smaller; "uniform" from some start is Polyak's, optimal for convex problems, "ema" forgets
    the early path by itself and is what deep networks want. `averaged_params` gives the average:
    evaluate with that, go on training with the parameters. `optax.ema` averages updates instead.

    Costs one more tree in memory and one pass over it. Batch-normalisation statistics belong to the
    iterates, not to their average: recompute them before evaluating it.

    Args:
      start: updates before averaging begins, >= 0.
      every: average one iterate in so many, >= 1.
      kind: see above.
      decay: of "ema", in [0, 1): the mean reaches back some 1 / (1 - decay) members.
      debias: of "ema": False starts it at its first member with weight 1 instead of dividing by
        the sum of the weights, as is often done.

    Returns:
      A transformation, to be the last of a chain; `update` needs `params`.

    Raises:
      ValueError: for arguments that are out of range or an unknown kind; from `update` when
        `params` are missing.

    Example:
      >>> tx = optax.chain(optax.sgd(0.5), polyak_average())
      >>> theta, state = jnp.float32(1.0), tx.init(jnp.float32(1.0))
      >>> for _ in range(2):
      ...     u, state = tx.update(theta, state, theta)  # the gradient of theta^2 / 2
      ...     theta = theta + u  # 0.5, 0.25
      >>> float(averaged_params(state))
      0.375

    Source: DLB 8.7.3; Polyak and Juditsky 1992; Izmailov et al. 2018, arXiv 1803.05407 ("swa").
    """
    require("polyak_average(start=...)", start, ">= 0", lambda s: s >= 0)
    require("polyak_average(every=...)", every, ">= 1", lambda e: e >= 1)
    require("polyak_average(decay=...)", decay, "in [0, 1)", lambda d: 0 <= d < 1)
    if kind not in ("uniform", "ema", "swa"):
        raise ValueError(f"polyak_average(kind=...) must be uniform, ema or swa, got {kind!r}")
    before = 0 if kind == "swa" else 1  # whether theta_start itself is a member

    def init(params: Params) -> AverageState:
        none = jnp.zeros((), jnp.int32)
        members = none + ((none >= start) & (before == 0))
        return AverageState(none, members, jax.tree.map(_widen, params))

    def update(
        updates: PyTree, state: AverageState, params: Params | None = None, **extra_args: Any
    ) -> tuple[PyTree, AverageState]:
        del extra_args
        if params is None:
            raise ValueError("polyak_average: update(params=...) must be given")
        count = optax.safe_increment(state.count)
        since = count - start
        counts = (since >= before) & (since % every == 0)
        members = jnp.where(counts, optax.safe_increment(state.members), state.members)
        weight = jnp.where(counts, _weight(members.astype(tree.dtype(params))), members == 0)
        # what apply_updates will make of it: in few bits the iterate is not the sum
        iterate = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda a, p: _towards(a, p, weight), state.average, iterate)
        return updates, AverageState(count, members.astype(jnp.int32), average)

    def _weight(members: Array) -> Array:
        if kind != "ema":
            return 1 / members
        # 1 - decay^n without cancellation
        one, whole = (-jnp.expm1(n * jnp.log(decay)) for n in (1, members))
        return one / whole if debias else jnp.where(members == 1, 1.0, one)

    return optax.GradientTransformationExtraArgs(init, update)


def averaged_params(state: PyTree, params: Params | None = None) -> Params:
    """Return the averaged parameters, to evaluate and to save.

    Args:
      state: of `polyak_average`, alone or anywhere inside the state of a chain, a partition or a
        wrapper.
      params: the parameters that belong to it. They fill what was not averaged
        (`optax.masked`), and give the average their types; without them it is float32 at least.

    Returns:
      A tree like the parameters; the latest iterate as long as nothing was averaged.

    Raises:
      ValueError: for a state without an average, or with hidden leaves and no `params`.

    Example:
      >>> tx = polyak_average()
      >>> averaged_params(tx.init({"w": jnp.ones(2, jnp.bfloat16)}))["w"].dtype
      dtype('float32')
    """
    leaves = jax.tree.leaves(state, is_leaf=lambda s: isinstance(s, AverageState))
    found = [s.average for s in leaves if isinstance(s, AverageState)]
    if not found:
        raise ValueError("averaged_params(state=...) must hold a polyak_average, got none in it")
    if params is None:
        if len(found) > 1 or objective.masked(found[0]):
            raise ValueError("averaged_params(params=...) must be given where leaves are hidden")
        return found[0]
    for average in found:
        params = jax.tree.map(
            lambda a, p: p if _hidden(a) else a.astype(jnp.result_type(p)),
            average,
            params,
            is_leaf=_hidden,
        )
    return params


def _hidden(leaf: Any) -> bool:
    return leaf is None or isinstance(leaf, optax.MaskedNode)


def _widen(p: Array) -> Array:
    # a copy: the iterate may be donated
    return jnp.array(p, jnp.promote_types(jnp.result_type(p), jnp.float32))


def _towards(average: Array, iterate: Array, weight: Array) -> Array:
    """Return (1 - w) average + w iterate; with w = 0 or 1 the other one is not even looked at."""
    w, iterate = weight.astype(jnp.finfo(average.dtype).dtype), iterate.astype(average.dtype)
    moved = average + w * (iterate - average)
    return jnp.where(w == 1, iterate, jnp.where(w == 0, average, moved))
