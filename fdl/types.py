"""Type names that the rooms share; nothing here runs."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import jax
from jax.typing import ArrayLike, DTypeLike

__all__ = [
    "Apply",
    "Array",
    "Batch",
    "DTypeLike",
    "Extra",
    "Metrics",
    "Objective",
    "Params",
    "PyTree",
    "Step",
]

Array: TypeAlias = jax.Array
PyTree: TypeAlias = Any  # a nest of dicts, lists and (named) tuples with arrays as leaves
Params: TypeAlias = PyTree  # what is differentiated
Extra: TypeAlias = PyTree  # what a model carries besides: running statistics
Batch: TypeAlias = Mapping[str, ArrayLike]  # named arrays, each with the examples along axis 0
Metrics: TypeAlias = dict[str, Any]  # name -> scalar or `fdl.train.metrics.Ratio`

Step: TypeAlias = Callable[[PyTree, Batch], tuple[PyTree, Metrics]]


class Apply(Protocol):
    """A model as a pure function: the same arguments give the same result, nothing is changed."""

    def __call__(
        self,
        params: Params,
        extra: Extra,
        *args: Any,
        key: Array | None = None,
        train: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, Extra]:
        """Return (outputs, extra after the call)."""
        ...


class Objective(Protocol):
    """What is minimised, on the examples of one batch.

    `key` holds one typed PRNG key for each example, shape (b,). The loss is a scalar mean over the
    examples, or a `Ratio(sum, count)` where examples count differently; metrics likewise.
    """

    def __call__(
        self, params: Params, extra: Extra, batch: Batch, key: Array
    ) -> tuple[Any, tuple[Extra, Metrics]]:
        """Return (loss, (extra after the call, metrics))."""
        ...
