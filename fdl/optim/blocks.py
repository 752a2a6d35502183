"""A part of the parameters at a time: `blockwise`, and coordinate descent over blocks."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fdl import tree
from fdl.optim import coordinate, objective
from fdl.optim.hyperparams import require
from fdl.types import Array, Params, PyTree

Order = Literal["cyclic", "random", "gauss_southwell"]


def blockwise(
    inner: optax.GradientTransformation, mask: PyTree | Callable[[Params], PyTree]
) -> optax.GradientTransformationExtraArgs:
    """Optimise only the leaves under a mask, the others held where they are.

    `optax.masked` hides the other leaves from the inner transformation, which then cannot evaluate
    `value_fn`: line searches fail. Here the inner one sees a tree with None for the others, and a
    `value_fn` (and `grad`) of that tree, which puts them back. So anything works on a part of the
    parameters: a line search, BFGS, Newton.

    Args:
      inner: any transformation. It is a step for its block alone: curvature and searches see
        nothing of the other parameters' updates.
      mask: a tree of bools, or a prefix of one, or a function that makes it of the parameters.

    Returns:
      A transformation whose updates are zero outside the mask; it needs `params` in `update`. To
      optimise two parts at once, each by a transformation with a line search, alternate between
      them with `coordinate_descent`.

    Raises:
      ValueError: from `update` when `params` are missing.

    Example:
      >>> f = lambda p: ((p["a"] - 1.0) ** 2 + p["a"] * p["b"]).sum()
      >>> tx = blockwise(optax.lbfgs(), {"a": True, "b": False})
      >>> p = {"a": jnp.zeros(2), "b": jnp.ones(2)}
      >>> state = tx.init(p)
      >>> for _ in range(3):
      ...     value, grad = jax.value_and_grad(f)(p)
      ...     u, state = tx.update(grad, state, p, value=value, grad=grad, value_fn=f)
      ...     p = optax.apply_updates(p, u)
      >>> [round(float(x), 4) for x in (*p["a"], *p["b"])]
      [0.5, 0.5, 1.0, 1.0]

    Source: DLB 8.7.2 (block coordinate descent), for one block.
    """
    inner = optax.with_extra_args_support(inner)

    def chosen(params: Params) -> PyTree:
        given = mask(params) if callable(mask) else mask
        return _broadcast(given, params)

    def init(params: Params) -> PyTree:
        if not jax.tree.leaves(params):  # nothing to choose from; no mask need fit it
            return inner.init(params)
        return inner.init(_part(params, chosen(params)))

    def update(
        updates: PyTree, state: PyTree, params: Params | None = None, **extra_args: Any
    ) -> tuple[PyTree, PyTree]:
        if params is None:
            raise ValueError("blockwise: update(params=...) must be given")
        if not jax.tree.leaves(params):
            return inner.update(updates, state, params, **extra_args)
        on = chosen(params)
        moved, state = inner.update(
            _part(updates, on), state, _part(params, on), **_restrict(extra_args, params, on)
        )
        still = jax.tree.map(jnp.zeros_like, updates)
        return _merge(moved, still, on), state

    return optax.GradientTransformationExtraArgs(init, update)


def _broadcast(mask: PyTree, params: Params) -> PyTree:
    """Repeat what stands for a whole branch for each leaf below."""
    return jax.tree.map(lambda on, below: jax.tree.map(lambda _: on, below), mask, params)


def _part(params: PyTree, on: PyTree) -> PyTree:
    return jax.tree.map(lambda chosen, p: p if chosen else None, on, params)


def _merge(part: PyTree, others: PyTree, on: PyTree) -> PyTree:
    """Put the leaves of a part, in which None stands for the others, back among the others."""
    leaves = iter(jax.tree.leaves(part))
    return jax.tree.map(lambda chosen, other: next(leaves) if chosen else other, on, others)


def _restrict(extra_args: dict[str, Any], params: Params, on: PyTree) -> dict[str, Any]:
    """Make the objective, its gradient and products with its curvature those of the part."""
    extra, grad = dict(extra_args), extra_args.get("grad")
    if grad is not None:
        extra["grad"] = _part(objective.reform(grad, params), on)
    if extra.get("value_fn") is not None and not objective.masked(params):
        whole = objective.bind(extra["value_fn"], params, grad, extra_args)
        assert whole is not None  # it is None for masked parameters only
        extra["value_fn"] = _replace(
            extra["value_fn"], lambda part: whole(_merge(part, params, on))
        )
        still = jax.tree.map(jnp.zeros_like, params)
        for name in {"hvp_fn", "gnvp_fn"} & {n for n, arg in extra.items() if arg is not None}:
            extra[name] = lambda part, v, product=extra[name]: _part(
                product(_merge(part, params, on), _merge(v, still, on)), on
            )
    return extra


def _replace(value_fn: objective.ValueFn, bound: Callable[[Params], Array]) -> objective.ValueFn:
    """Stand in for an objective: same signature, since optax refuses keywords that have no taker.

    The data are bound already.
    """

    @functools.wraps(value_fn)
    def value(params: Params, **data: Any) -> Array:
        del data
        return bound(params)

    return value


class CoordinateDescentState(NamedTuple):
    """State of `coordinate_descent`.

    Attributes:
      count: updates made, int32 scalar.
      inner: for blocks of leaves a tuple with the state of the inner transformation for each
        block; for coordinates one state whose arrays have a leading axis of coordinates.
    """

    count: Array  # type: ignore[assignment]
    inner: PyTree


def coordinate_descent(
    inner: optax.GradientTransformation | None = None,
    *,
    blocks: PyTree | Callable[[Params], PyTree] = "coordinates",
    order: Order = "cyclic",
    l1: PyTree = 0.0,
    seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
    """Minimise over one block of the parameters at a time, the others held fixed.

    Without `inner` each step minimises exactly over one coordinate x_i the objective

        J(x) + sum_i l1_i |x_i|

    where J is what `value_fn` computes. With h = J'' along the coordinate a quadratic J takes one
    Newton step and a soft threshold, x_i <- S(x_i - J'/h, l1_i/h), S(a, t) = sign(a) max(|a| - t,
    0), which gives exact zeros; any other J takes several, with backtracking. The cost is a few
    forward passes, and does not depend on how many parameters there are; a sweep over n coordinates
    takes n steps. A non-smooth part is safe here because it is a sum over coordinates: coordinate
    descent on |x - y| + |x + y| would stop where it is.

    With `inner` any transformation makes one step on a block, such as `newton()` or
    `chain(sgd(...), proximal_l1(...))`; each block has a state of its own. What a quasi-Newton
    method remembers of its block has the steps of the others in it: prefer one without memory.

    Args:
      inner: None for the exact minimum over coordinates.
      blocks: "coordinates": each number is a block. "leaves": each leaf is. Otherwise labels: a
        tree of hashable values, or a prefix of one, or a function that makes it of the parameters;
        leaves of one label are a block.
      order: "cyclic": one after another. "random": drawn with equal chances. "gauss_southwell": the
        one with the largest gradient (of smallest norm, where the l1 part has a kink).
      l1: strengths >= 0 of the L1 norm for the exact minimum; a number or a prefix of the tree, so
        that {"w": 0.1, "b": 0.0} leaves biases alone. `value_fn` must not contain that norm.
      seed: of the random order.

    Returns:
      A complete optimizer; `update` needs `params` and, without `inner`, `value_fn`. Under
      `optax.masked` and `optax.partition`, which hide the other parameters, the objective cannot be
      evaluated: an exact step is then a gradient step of the coordinate, with a warning.

    Raises:
      ValueError: for an unknown order, negative strengths, or strengths or blocks that do not fit
        `inner`; from `update` when `params` are missing.

    Example:
      >>> f = lambda x: (x[0] - 2.0) ** 2 + (x[1] - 0.1) ** 2
      >>> tx = coordinate_descent(l1=0.4)
      >>> x = jnp.ones(2)
      >>> state = tx.init(x)
      >>> for _ in range(2):
      ...     u, state = tx.update(jax.grad(f)(x), state, x, value_fn=f)
      ...     x = x + u
      >>> [round(float(c), 4) for c in x]
      [1.8, 0.0]

    Source: DLB 8.7.2; Wright 2015, arXiv 1502.04759; Friedman et al. 2007 (the lasso); Nutini et
      al. 2015, arXiv 1506.00552 (Gauss-Southwell).
    """
    if order not in ("cyclic", "random", "gauss_southwell"):
        rule = "cyclic, random or gauss_southwell"
        raise ValueError(f"coordinate_descent(order=...) must be {rule}, got {order!r}")
    coordinate.check_strengths(l1)
    if inner is not None:
        inner = optax.with_extra_args_support(inner)
    if isinstance(blocks, str) and blocks not in ("coordinates", "leaves"):
        rule = "coordinates, leaves or labels of the parameters"
        raise ValueError(f"coordinate_descent(blocks=...) must be {rule}, got {blocks!r}")
    each = isinstance(blocks, str) and blocks == "coordinates"
    if inner is None and not each:
        rule = "coordinates where no inner transformation is given"
        raise ValueError(f"coordinate_descent(blocks=...) must be {rule}, got {blocks!r}")
    if inner is not None:
        for strength in jax.tree.leaves(l1):
            rule = "0 where an inner transformation is given"
            require("coordinate_descent(l1=...)", strength, rule, lambda s: s == 0)
    pick = _Pick(order, seed)
    return _over_coordinates(inner, pick, l1) if each else _over_leaves(inner, blocks, pick)


class _Pick(NamedTuple):
    """Which block is next."""

    order: Order
    seed: int

    def __call__(self, count: Array, gradients: Array) -> Array:
        """Return its index, from the size of the gradient of each block."""
        blocks = len(gradients)
        if self.order == "cyclic":
            return (count % blocks).astype(jnp.int32)
        if self.order == "random":
            key = jax.random.fold_in(jax.random.key(self.seed), count)
            return jax.random.randint(key, (), 0, blocks, jnp.int32)
        return jnp.argmax(gradients).astype(jnp.int32)


def _over_leaves(
    inner: optax.GradientTransformationExtraArgs,
    blocks: PyTree | Callable[[Params], PyTree],
    pick: _Pick,
) -> optax.GradientTransformationExtraArgs:
    def parts(params: Params) -> list[PyTree]:
        """Return a mask for each block."""
        labels = _labels(blocks, params)
        names = list(dict.fromkeys(jax.tree.leaves(labels)))
        return [jax.tree.map(lambda label, n=name: label == n, labels) for name in names]

    def init(params: Params) -> CoordinateDescentState:
        none = jnp.zeros((), jnp.int32)
        if not jax.tree.leaves(params):  # no block, or optax asks where in the state they stand
            return CoordinateDescentState(none, params)
        states = [blockwise(inner, mask).init(params) for mask in parts(params)]
        return CoordinateDescentState(none, tuple(states))

    def update(
        updates: PyTree,
        state: CoordinateDescentState,
        params: Params | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, CoordinateDescentState]:
        if params is None:
            raise ValueError("coordinate_descent: update(params=...) must be given")
        count = optax.safe_increment(state.count)
        if not jax.tree.leaves(params):
            return updates, CoordinateDescentState(count, state.inner)
        masks = parts(params)

        def step(k: int) -> Callable[[], tuple[PyTree, PyTree]]:
            def run() -> tuple[PyTree, PyTree]:
                tx = blockwise(inner, masks[k])
                moved, new = tx.update(updates, state.inner[k], params, **extra_args)
                new = optax.tree.cast_like(new, state.inner[k])
                return _like(moved, params), (*state.inner[:k], new, *state.inner[k + 1 :])

            return run

        sizes = jnp.stack([tree.norm(_part(updates, mask)) for mask in masks])
        chosen = pick(state.count, sizes)
        moved, inner_state = jax.lax.switch(chosen, [step(k) for k in range(len(masks))])
        return moved, CoordinateDescentState(count, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _labels(blocks: PyTree | Callable[[Params], PyTree], params: Params) -> PyTree:
    if isinstance(blocks, str) and blocks == "leaves":
        leaves, structure = jax.tree.flatten(params)
        return jax.tree.unflatten(structure, range(len(leaves)))
    given = blocks(params) if callable(blocks) else blocks
    return _broadcast(given, params)


def _over_coordinates(
    inner: optax.GradientTransformationExtraArgs | None, pick: _Pick, l1: PyTree
) -> optax.GradientTransformationExtraArgs:
    def init(params: Params) -> CoordinateDescentState:
        x, _ = tree.ravel(params)
        states = () if inner is None else jax.vmap(inner.init)(x[:, None])
        return CoordinateDescentState(jnp.zeros((), jnp.int32), states)

    def update(
        updates: PyTree,
        state: CoordinateDescentState,
        params: Params | None = None,
        *,
        value_fn: objective.ValueFn | None = None,
        grad: PyTree | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, CoordinateDescentState]:
        if params is None:
            raise ValueError("coordinate_descent: update(params=...) must be given")
        if inner is None and value_fn is None:
            raise ValueError("coordinate_descent: update(value_fn=...) must be given")
        count = optax.safe_increment(state.count)
        x, unravel = tree.ravel(params)
        if not x.size:
            return updates, CoordinateDescentState(count, state.inner)
        g, _ = tree.ravel(updates)
        strengths = coordinate.strengths(l1, params)
        i = pick(state.count, jnp.abs(coordinate.smallest_subgradient(x, g, strengths)))
        along = None
        if value_fn is not None and not (inner is not None and objective.masked(params)):
            along = _along(objective.bind(value_fn, params, grad, extra_args), x, unravel, i)
        if inner is None:
            moved, new = coordinate.minimise(along, x[i], g[i], strengths[i]) - x[i], ()
        else:
            extra = dict(extra_args)
            if grad is not None:
                conj = jax.tree.map(jnp.conj, objective.reform(grad, params))
                extra["grad"] = tree.ravel(conj)[0][i, None]
            if value_fn is not None and along is not None:
                extra["value_fn"] = _replace(value_fn, lambda z: along(z[0]))
            own = jax.tree.map(lambda s: s[i], state.inner)
            (moved,), own = inner.update(g[i, None], own, x[i, None], **extra)
            new = jax.tree.map(lambda s, o: s.at[i].set(o.astype(s.dtype)), state.inner, own)
        step = jnp.zeros_like(x).at[i].set(moved)
        return unravel(step), CoordinateDescentState(count, new)

    return optax.GradientTransformationExtraArgs(init, update)


def _along(
    whole: Callable[[Params], Array] | None,
    x: Array,
    unravel: Callable[[Array], Params],
    i: Array,
) -> Callable[[Array], Array] | None:
    """Restrict an objective to one coordinate."""
    return None if whole is None else lambda z: whole(unravel(x.at[i].set(z)))


def _like(moved: PyTree, params: Params) -> PyTree:
    return jax.tree.map(lambda m, p: jnp.asarray(m, jnp.result_type(p)), moved, params)
