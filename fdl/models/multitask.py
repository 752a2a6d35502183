"""One network for several tasks: shared layers below, a head for each task above."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast

from flax import nnx

from fdl import ops
from fdl.errors import InputError
from fdl.models.mlp import MLP, MLPConfig
from fdl.types import Array


@dataclasses.dataclass(frozen=True)
class MultiTaskConfig:
    """What a MultiTaskMLP is made of.

    Attributes:
      trunk: the shared layers; its `features_out` units are the last of them.
      heads: task -> the layers above; `features_in` is that of the trunk's end.
      unit: applied to the trunk's end, as its output layer is linear.

    Raises:
      InputError: when there is no head, or a head does not fit the trunk.

    Example:
      >>> config = MultiTaskConfig.linear(64, (128, 32), {"digit": 10, "slant": 1})
      >>> config.trunk.features_out, config.heads["digit"].hidden
      (32, ())
    """

    trunk: MLPConfig
    heads: Mapping[str, MLPConfig]
    _: dataclasses.KW_ONLY
    unit: Callable[[Array], Array] = ops.relu

    def __post_init__(self) -> None:
        if not self.heads:
            raise InputError("MultiTaskConfig(heads=...) must hold a task, got none")
        for task, head in self.heads.items():
            if head.features_in != self.trunk.features_out:
                raise InputError(
                    f"MultiTaskConfig(heads=...) must take the trunk's {self.trunk.features_out} "
                    f"units, got {head.features_in} for {task!r}"
                )

    @classmethod
    def linear(
        cls, features_in: int, hidden: tuple[int, ...], outputs: Mapping[str, int], **options: Any
    ) -> "MultiTaskConfig":
        """Share all hidden layers (one or more) of rectifiers; the heads are linear.

        Args:
          features_in: size of an input.
          hidden: widths of the shared layers.
          outputs: task -> number of outputs.
          options: of the trunk, as `MLPConfig` takes them.
        """
        if not hidden:
            raise InputError("MultiTaskConfig.linear(hidden=...) must hold a width, got ()")
        options = {"output_init": MLPConfig.kernel_init} | options
        trunk = MLPConfig(features_in, hidden[:-1], hidden[-1], **options)
        return cls(trunk, {task: MLPConfig(hidden[-1], (), n) for task, n in outputs.items()})

    @classmethod
    def tiny(cls) -> "MultiTaskConfig":
        """6 inputs, shared layers of 5 and 4 units, tasks of 3 and 1 outputs: for tests."""
        return cls.linear(6, (5, 4), {"class": 3, "amount": 1})


class MultiTaskMLP(nnx.Module):
    """Solve several tasks by one network whose lower layers all of them share.

    h = g(trunk(x)),  output_t = head_t(h)

    The gradient of the trunk is the sum over tasks: what several tasks need is learned from all of
    their examples. A task that needs something else takes room away.

    Args:
      config: what it is made of.
      rngs: for the parameters.

    Raises:
      ValueError: from the call, when the input has another size.

    Example:
      >>> import jax.numpy as jnp
      >>> config = MultiTaskConfig.linear(64, (32,), {"digit": 10, "slant": 1})
      >>> model = MultiTaskMLP(config, rngs=nnx.Rngs(0))
      >>> {task: out.shape for task, out in model(jnp.ones((2, 8, 8))).items()}
      {'digit': (2, 10), 'slant': (2, 1)}

    Source: DLB 7.7, figure 7.2; Caruana 1997.
    """

    def __init__(self, config: MultiTaskConfig, *, rngs: nnx.Rngs):
        self.trunk = MLP(config.trunk, rngs=rngs)
        self.heads = nnx.Dict({task: MLP(head, rngs=rngs) for task, head in config.heads.items()})
        self.unit = config.unit

    def __call__(self, x: Array, *, rngs: nnx.Rngs | None = None) -> dict[str, Array]:
        """Compute the outputs of all tasks for a batch.

        Args:
          x: shape (batch, ...), flattened behind the first axis.
          rngs: for dropout, in training.

        Returns:
          Task -> (batch, outputs).
        """
        shared = self.unit(cast(Array, self.trunk(x, rngs=rngs)))
        return {task: cast(Array, head(shared, rngs=rngs)) for task, head in self.heads.items()}
