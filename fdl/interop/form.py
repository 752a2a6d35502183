"""What must be known of a reference to read and write its checkpoints of one architecture."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flax import nnx

from fdl.interop.table import Names


class Form(NamedTuple):
    """A reference's files of one architecture.

    Attributes:
      name: of the reference, as `save_pretrained(names=...)` takes it.
      kind: our module, made by `kind(config, rngs=...)`, with an attribute `config`.
      config: the class of its configuration.
      free: fields of it on which the network does not depend once it has its weights.
      layers: number of layers of a network, which have a tensor each at least.
      recognises: whether a `config.json` is of this form.
      read: a `config.json` as our configuration; raises InputError.
      write: our configuration as a `config.json`, and None where the reference has no such network.
      fits: whether the table has all names of a network, be it one of the reference's or not.
      names: the table.
    """

    name: str
    kind: Callable[..., nnx.Module]
    config: type
    free: tuple[str, ...]
    layers: Callable[[Any], int]
    recognises: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any]], Any]
    write: Callable[[Any], dict[str, Any] | None]
    fits: Callable[[Any], bool]
    names: Names
