"""Deep Learning (Goodfellow, Bengio, Courville) and what came after, as pure functions for JAX.

Each name below is a room that can be used without the others; `import fdl` itself loads none of
them, so that `fdl.optim` works where Flax is absent and `fdl.losses` where optax is.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

__all__ = [
    "averaging",
    "axes",
    "data",
    "errors",
    "generate",
    "initializers",
    "interop",
    "linear_probe",
    "losses",
    "models",
    "objectives",
    "ops",
    "optim",
    "outputs",
    "plots",
    "pure",
    "regularizers",
    "run",
    "train",
    "types",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"fdl.{name}")
    raise AttributeError(f"module 'fdl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
