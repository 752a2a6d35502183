"""Whole checkpoints: a folder with `config.json` and safetensors files, to a module and back."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import nnx

from fdl.errors import InputError
from fdl.interop import fields, files, own, recurrent, resnet_huggingface, resnet_timm
from fdl.interop.form import Form
from fdl.interop.weights import load_weights, save_weights
from fdl.types import DTypeLike

FORMS: tuple[Form, ...] = (
    *resnet_huggingface.FORMS,
    *resnet_timm.FORMS,
    *recurrent.FORMS,
)
_OWN = "fdl"  # key of a config.json for what no reference can say


def load_pretrained(
    folder: str | os.PathLike[str], *, dtype: DTypeLike | None = None, **changes: Any
) -> Any:
    """Read a checkpoint of a reference implementation as a module of ours.

    `config.json` says which architecture it is: that of transformers by its `model_type` ("resnet",
    "bit"), that of timm by its `architecture` ("resnet50", "resnetv2_50", "resnetv2_50x1_bit"), and
    what `save_pretrained` wrote. Nothing is fetched and nothing in the folder is run. All names and
    shapes are compared before an array is made.

    Args:
      folder: with `config.json` and `model.safetensors`, or shards and their index.
      dtype: of the arrays; as they were saved if None. Take `jnp.float32` to train what was saved
        in half precision.
      **changes: of the configuration, such as `axis_name=None` or `momentum=0.99`.

    Returns:
      A module, ready for `fdl.pure.pure`. Its `config` says what it is made of.

    Raises:
      InputError: when a file is missing, damaged or hostile, the architecture is unknown, an option
        is not supported, or names and shapes are not those of the model.

    Example:
      >>> import tempfile
      >>> from fdl.models import ResNet, ResNetConfig
      >>> model = ResNet(ResNetConfig.tiny(), rngs=nnx.Rngs(0))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_pretrained(model, folder)
      ...     load_pretrained(folder).config.widths
      (4, 8)
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    form, config = _read(folder / "config.json")
    with files.Tensors(folder) as tensors:
        if form.layers(config) > min(len(tensors.entries), fields.MOST_LAYERS):
            raise InputError(
                f"{folder}: config.json asks for {form.layers(config)} layers, which the"
                f" {len(tensors.entries)} tensors there cannot be"
            )
    config = dataclasses.replace(config, **changes)
    module: nnx.Module = nnx.eval_shape(lambda: form.kind(config, rngs=nnx.Rngs(0)))
    return load_weights(module, folder, names=form.names, dtype=dtype)


def save_pretrained(
    module: Any,
    folder: str | os.PathLike[str],
    *,
    names: str | None = None,
    dtype: DTypeLike | None = None,
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """Write a module as the checkpoint of a reference implementation.

    The reference reads it if it has such a network. Where none has, `config.json` holds our
    configuration under the key "fdl", and `load_pretrained` alone knows what the network is; the
    names of the arrays are the reference's all the same.

    Args:
      module: of a class that `load_pretrained` returns, with its `config`.
      folder: must be empty or not there yet; it appears when all is complete.
      names: whose names: "huggingface" or "timm"; None takes the first that has such a network.
      dtype: of the arrays in the file, such as `jnp.bfloat16`; as they are if None.
      max_shard_bytes: size at which a next file is begun.

    Raises:
      InputError: when the folder is not empty, or nobody's names fit the module.
      DiskError: when the folder cannot be written.

    Example:
      >>> import tempfile
      >>> from fdl.models import ResNet, ResNetConfig
      >>> config = ResNetConfig.resnet18(5, widths=(4, 4, 4, 4), stem_width=64)
      >>> model = ResNet(config, rngs=nnx.Rngs(0))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_pretrained(model, folder, names="timm")
      ...     sorted(os.listdir(folder))
      ['config.json', 'model.safetensors']
    """
    form, config = _written(module, names)
    save_weights(
        module,
        folder,
        names=form.names,
        dtype=dtype,
        config=config,
        max_shard_bytes=max_shard_bytes,
    )


def _read(path: Path) -> tuple[Form, Any]:
    """Return the form of a checkpoint and our configuration of its network."""
    given = files.read_json(path)
    if _OWN in given:
        return _read_own(given[_OWN])
    told = {key: given[key] for key in ("model_type", "architecture") if key in given}
    for form in FORMS if all(isinstance(name, str) for name in told.values()) else ():
        if form.recognises(given):
            return form, form.read(given)
    raise InputError(f"{path} names no architecture that is known here: {told!r:.120}")


def _read_own(given: Any) -> tuple[Form, Any]:
    if not isinstance(given, dict) or not isinstance(given.get("config"), dict):
        raise InputError(f"config.json: {_OWN} must be an object with a config, got {given!r:.80}")
    for form in FORMS:
        if (form.config.__name__, form.name) == (given.get("kind"), given.get("names")):
            config: Any = own.from_json(form.config, given["config"], form.free)
            if form.fits(config):
                return form, config
    raise InputError(f"config.json: {_OWN} names no kind that is known here")


def _written(module: Any, names: str | None) -> tuple[Form, Mapping[str, Any]]:
    """Return the form in which to write a module and its `config.json`."""
    config = getattr(module, "config", None)
    forms = [f for f in FORMS if isinstance(config, f.config) and names in (None, f.name)]
    for form in forms:
        if form.fits(config) and (written := form.write(config)) is not None:
            return form, written
    for form in forms:
        if form.fits(config):
            ours = own.to_json(config, form.free)
            about = {"kind": form.config.__name__, "names": form.name, "config": ours}
            return form, {_OWN: about}
    kind = type(module).__name__
    raise InputError(f"save_pretrained(names={names!r}): no table of names fits a {kind}")
