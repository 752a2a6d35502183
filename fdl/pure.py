"""The door between a Flax module and its pure function."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fdl.types import Apply, Array, DTypeLike, Extra, Params, PyTree


class Pure(NamedTuple):
    """A model as a pure function and the values it starts from.

    Attributes:
      apply: `(params, extra, *args, key=None, train=False, **kwargs) -> (out, extra)`.
      params: plain nested dict of the trained parameters.
      extra: plain nested dict of all other state: running statistics.
    """

    apply: Apply
    params: Params
    extra: Extra


def pure(module: nnx.Module) -> Pure:
    """Take a Flax NNX module apart into a pure function and its initial values.

    out, extra' = apply(params, extra, *args, key=key, train=train)

    `train` switches the module as `module.train()` and `module.eval()` do (dropout on, batch
    statistics in use). `key` seeds whatever is random in this call. It is one typed PRNG key, or
    one for each example, shape (b,), as the step hands them to an objective: layers of `fdl.models`
    then draw for each example from its own key, Flax's own layers for all from the first.

    A call that is not training returns `extra` as it was given.

    Args:
      module: any NNX module, built outside of a transformation. It is not changed and shares no
        memory with what is returned. A module that takes `rngs=` in its call gets `nnx.Rngs(key)`;
        streams that it holds itself are reseeded from `key`.

    Returns:
      `Pure(apply, params, extra)`; `params` and `extra` are plain dicts: any optax transformation,
      checkpoint or `jax.tree` function takes them. `apply(..., method="encode")` calls that method
      of the module in place of `__call__`. With `capture=("stages.0", "output")` it returns a pair
      in place of its output: that, and by name what those parts of the module returned in this
      call, the last time if they were called more than once. What is called in a loop of `jax.lax`
      or under `nnx.remat` has no output that could leave it.

    Raises:
      ValueError: from `apply`, naming the leaf, when `params` or `extra` do not fit the module, or
        the module has no such method, or when it has no part of a name to capture, or did not
        call it.

    Example:
      >>> apply, params, extra = pure(nnx.Linear(2, 1, rngs=nnx.Rngs(0)))
      >>> out, extra = apply(params, extra, jnp.ones((4, 2)))
      >>> out.shape, sorted(params)
      ((4, 1), ['bias', 'kernel'])
      >>> layers = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.relu)
      >>> apply, params, extra = pure(layers)
      >>> (out, seen), extra = apply(params, extra, jnp.ones((4, 2)), capture=("layers.0",))
      >>> bool((out == nnx.relu(seen["layers.0"])).all())
      True
    """
    graphs = {}
    for train in (True, False):
        copy = nnx.clone(module)
        copy.train() if train else copy.eval()
        graphs[train], params, own_rngs, extra = _split(copy)
    expected = jax.eval_shape(lambda: (params, extra))

    def apply(
        params: Params,
        extra: Extra,
        *args: Any,
        key: Array | None = None,
        train: bool = False,
        method: str = "__call__",
        capture: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, Extra]:
        _check_structure(expected, (params, extra))
        rngs = own_rngs if key is None else _reseeded(own_rngs, key)
        model = nnx.merge(graphs[train], params, rngs, extra, copy=True)
        function = _method(model, method)
        if key is not None and "rngs" in inspect.signature(function).parameters:
            kwargs["rngs"] = _streams(key)
        with _captured(model, capture or ()) as seen:
            out = function(*args, **kwargs)
        if train:
            extra = _split(model)[3]
        return (out if capture is None else (out, _all_seen(seen, capture))), extra

    return Pure(apply, *jax.tree.map(lambda a: jnp.array(a, copy=True), (params, extra)))


def in_precision(apply: Apply, dtype: DTypeLike, *, output: DTypeLike = jnp.float32) -> Apply:
    """Compute a model in a lower precision while its parameters stay in theirs.

    out = float32(apply(dtype(params), extra, dtype(args))): parameters, gradients and optimizer
    state keep their type, matrix products and activations take `dtype`, and losses and penalties
    are again computed in `output`. bfloat16 has float32's range, so no loss scaling is needed.

    Args:
      apply: a pure model.
      dtype: of the computation, such as `jnp.bfloat16`.
      output: of floating-point outputs.

    Returns:
      A pure model of the same signature; `extra` keeps its types, and so do arguments that are not
      floating-point arrays.

    Example:
      >>> apply, params, extra = pure(nnx.Linear(2, 1, rngs=nnx.Rngs(0)))
      >>> out, _ = in_precision(apply, jnp.bfloat16)(params, extra, jnp.ones((4, 2)))
      >>> out.dtype.name
      'float32'

    Source: Micikevicius et al. 2018, Mixed Precision Training, section 3.1.
    """

    def lowered(
        params: Params,
        extra: Extra,
        *args: Any,
        key: Array | None = None,
        train: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, Extra]:
        params, args, kwargs = _cast((params, args, kwargs), dtype)
        out, new = apply(params, extra, *args, key=key, train=train, **kwargs)
        kept = jax.tree.map(lambda a, old: a.astype(old.dtype), new, extra)
        return _cast(out, output), kept

    return lowered


def _cast(tree: PyTree, dtype: DTypeLike) -> PyTree:
    def cast(a: Any) -> Any:
        array = isinstance(a, jax.Array | np.ndarray)
        return jnp.asarray(a, dtype) if array and jnp.issubdtype(a.dtype, jnp.floating) else a

    return jax.tree.map(cast, tree)


def _split(module: nnx.Module) -> tuple[nnx.GraphDef, PyTree, nnx.State, PyTree]:
    """Return the graph, the parameters, the random streams and all other state."""
    parts: Any = nnx.split(module, nnx.Param, nnx.RngState, ...)
    graph, params, rngs, extra = parts
    return graph, nnx.to_pure_dict(params), rngs, nnx.to_pure_dict(extra)


def _method(model: nnx.Module, name: str) -> Callable[..., Any]:
    function = getattr(model, name, None)
    if not callable(function):
        raise ValueError(f"apply(method=...): {type(model).__name__} has no method {name!r}")
    return function


_SEEN: dict[int, dict[int, Any]] = {}  # of a module with that id: where to note its output


@contextlib.contextmanager
def _captured(model: nnx.Module, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Collect what the modules of these names return; it is there when the block has run."""
    parts = _parts(model, names)
    kinds = {id(part): (part, type(part)) for part in parts.values()}  # one may have two names
    noted: dict[int, Any] = {}
    seen: dict[str, Any] = {}
    for part, kind in kinds.values():
        _SEEN[id(part)] = noted
        part.__class__ = _watched(kind)
    try:
        yield seen
        seen |= {name: noted[id(part)] for name, part in parts.items() if id(part) in noted}
    finally:
        for part, kind in kinds.values():
            part.__class__ = kind
            _SEEN.pop(id(part), None)


def _parts(model: nnx.Module, names: Sequence[str]) -> dict[str, nnx.Module]:
    if isinstance(names, str):
        raise ValueError(f"apply(capture=...) must be a sequence of names, got {names!r}")
    if not names:  # every call comes here
        return {}
    parts = {".".join(map(str, path)): part for path, part in nnx.iter_modules(model)}
    found = {name: parts.get(name, _part(model, name)) for name in names}
    unknown = [name for name, part in found.items() if part is None]
    if unknown:
        known = ", ".join(sorted(filter(None, parts)))
        raise ValueError(f"apply(capture=...) must name parts of the model ({known}): {unknown}")
    return {name: part for name, part in found.items() if part is not None}


def _part(model: nnx.Module, name: str) -> nnx.Module | None:
    """Go down a path: Flax names a shared module once, though it may lie at the end of several."""
    node: Any = model
    for step in name.split("."):
        try:
            node = node[int(step)] if step.isdecimal() else getattr(node, step)
        except (AttributeError, LookupError, TypeError):
            return None
    return node if isinstance(node, nnx.Module) else None


@functools.cache
def _watched(kind: type) -> type:
    """Make the same kind of module, which notes down what it returns."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        out = kind.__call__(self, *args, **kwargs)  # type: ignore[operator]
        if id(self) in _SEEN:
            _SEEN[id(self)][id(self)] = out
        return out

    return type(kind.__name__, (kind,), {"__call__": functools.wraps(kind.__call__)(call)})


def _all_seen(seen: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    silent = [name for name in names if name not in seen]
    if silent:
        raise ValueError(
            f"apply(capture=...): the model did not call {silent}, or did so inside nnx.remat, "
            "nnx.jit or nnx.scan, from which nothing can be taken"
        )
    return {name: seen[name] for name in names}


class _ManyKeys(nnx.RngStream):
    """A stream with a key for each example, from which Flax's layers draw as if it had one."""

    def __call__(self) -> Array:
        key = jax.random.fold_in(self.key[...][0], self.count[...][0])
        self.count[...] += 1
        return key


def _streams(key: Array) -> nnx.Rngs:
    rngs = nnx.Rngs(key)
    if key.ndim:
        setattr(rngs, "default", _ManyKeys(key, tag="default"))  # noqa: B010
    return rngs


def _reseeded(rngs: nnx.State, key: Array) -> nnx.State:
    """Derive new streams from `key`, a different one for each stream the module holds."""
    key = key if key.ndim == 0 else key.reshape(-1)[0]
    leaves, treedef = jax.tree.flatten(rngs)
    fresh = [
        _like(leaf, jax.random.fold_in(key, i))
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else jnp.zeros_like(leaf)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(treedef, fresh)


def _like(leaf: Array, key: Array) -> Array:
    return key if leaf.ndim == 0 else jax.random.split(key, leaf.shape)


def _check_structure(expected: PyTree, given: PyTree) -> None:
    """Raise naming the leaf where two trees differ; Flax itself accepts wrong shapes silently."""
    want, got = _named(expected), _named(given)
    same = jax.tree.structure(expected) == jax.tree.structure(given)  # type: ignore[operator]
    if same:
        pairs = zip(want.items(), got.values(), strict=True)
        wrong = [
            f"{name} must have shape {e.shape}, got {jnp.shape(g)}"
            for (name, e), g in pairs
            if e.shape != jnp.shape(g)
        ]
    else:
        wrong = [f"{name} is missing" for name in want.keys() - got.keys()]
        wrong += [f"{name} is not in the model" for name in got.keys() - want.keys()]
        wrong = wrong or ["the trees have the same leaves in another arrangement"]
    if wrong:
        raise ValueError("apply(params, extra): " + "; ".join(sorted(wrong)))


def _named(tree: PyTree) -> dict[str, Any]:
    name = {"0": "params", "1": "extra"}
    paths = jax.tree_util.tree_leaves_with_path(tree)
    keys = [jax.tree_util.keystr(p, simple=True, separator=".").split(".", 1) for p, _ in paths]
    return {".".join([name[k[0]], *k[1:]]): leaf for k, (_, leaf) in zip(keys, paths, strict=True)}
