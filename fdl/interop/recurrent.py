"""Recurrent networks in PyTorch's names: `weight_ih_l0`, `bias_hh_l1_reverse`, ..."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fdl.errors import InputError
from fdl.interop import fields
from fdl.interop.form import Form
from fdl.interop.table import TRANSPOSED, Layout, Names, Row
from fdl.models.rnn import RNN, Cell, RNNConfig, elman, gru, lstm

FREE = ("kernel_init", "recurrent_init", "bias_init", "hoist", "chunk", "dtype")
_SUMMED = Layout(lambda ih, hh: ih + hh, lambda bias: (bias, bias * 0))
_UNITS = {"tanh": jnp.tanh, "relu": jax.nn.relu}
_CELLS = {"torch.nn.RNN": "elman", "torch.nn.LSTM": "lstm", "torch.nn.GRU": "gru"}


def rnn_names(*, hidden_bias: bool = True, prefix: str = "") -> Names:
    """Make the table of the names that torch.nn.RNN, LSTM and GRU give to their arrays.

    Gates stand in the same order as ours; torch's kernels are (G H, D), ours (D, G H).

    Args:
      hidden_bias: our network has torch's two biases. Otherwise its one is the sum of them, and
        written as the first; the GRU, whose candidate needs the second, has to have both.
      prefix: what stands before the names, such as "encoder.".

    Returns:
      A table for `fdl.interop.load_weights` and `save_weights`.

    Example:
      >>> from fdl.interop.table import places
      >>> places(rnn_names(), {"layers.1.backward.kernel_in": (3, 8)})
      ... # doctest: +ELLIPSIS
      {'layers.1.backward.kernel_in': Place(names=('weight_ih_l1_reverse',), ...
    """
    rows = []
    for direction, end in (("forward", ""), ("backward", "_reverse")):
        ours, theirs = f"layers.{{i}}.{direction}.", f"l{{i}}{end}"
        ih, hh = f"{prefix}bias_ih_{theirs}", f"{prefix}bias_hh_{theirs}"
        rows += [
            Row(f"{ours}kernel_in", f"{prefix}weight_ih_{theirs}", TRANSPOSED),
            Row(f"{ours}kernel_hidden", f"{prefix}weight_hh_{theirs}", TRANSPOSED),
        ]
        if hidden_bias:
            rows += [Row(f"{ours}bias", ih), Row(f"{ours}bias_hidden", hh)]
        else:
            rows += [Row(f"{ours}bias", (ih, hh), _SUMMED)]
    return Names(tuple(rows))


def read_rnn(config: Mapping[str, Any]) -> RNNConfig:
    """Read a `config.json` whose keys are the arguments of torch's class, its `model_type`."""
    if not fields.flag(config, "bias", True):
        raise InputError("config.json: bias must be true: a network here has biases")
    if config.get("proj_size", 0) != 0:
        raise InputError("config.json: proj_size must be 0: outputs are not projected here")
    name = fields.word(config, "nonlinearity", "tanh", tuple(_UNITS))
    kinds: dict[str, Cell] = {"elman": elman(_UNITS[name]), "lstm": lstm(), "gru": gru()}
    dropout = fields.number(config, "dropout", 0.0)
    return RNNConfig.torch(
        fields.integer(config, "input_size", 1),
        fields.integer(config, "hidden_size", 1),
        fields.integer(config, "num_layers", 1),
        cell=kinds[_CELLS[config["model_type"]]],
        bidirectional=fields.flag(config, "bidirectional", False),
        dropout=dropout,
        hidden_bias=not fields.flag(config, "one_bias", False),
    )


def write_rnn(config: RNNConfig) -> dict[str, Any] | None:
    """Write the arguments of torch's class; None if torch has no such cell."""
    unit = _unit(config.cell)
    if unit is None:
        return None
    out = {
        "model_type": next(kind for kind, name in _CELLS.items() if name == config.cell.name),
        "input_size": config.features_in,
        "hidden_size": config.units,
        "num_layers": config.layers,
        "bidirectional": config.bidirectional,
        "dropout": config.dropout,
    }
    if config.cell.name == "elman":
        out["nonlinearity"] = unit
    return out if config.hidden_bias else out | {"one_bias": True}


def _unit(cell: Cell) -> str | None:
    """Return the name of the nonlinearity of a cell of torch's; None for another cell."""
    options = cell.step.keywords if isinstance(cell.step, functools.partial) else {}
    if cell.name == "elman":
        named = (name for name, unit in _UNITS.items() if options.get("unit") is unit)
        return next(named, None)
    known = cell.name == "lstm" or (cell.name == "gru" and options.get("reset_after", False))
    return "tanh" if known else None


def _form(hidden_bias: bool) -> Form:
    return Form(
        name="torch",
        kind=RNN,
        config=RNNConfig,
        free=FREE,
        layers=lambda config: config.layers,
        recognises=lambda config: (
            config.get("model_type") in _CELLS
            and (config.get("one_bias", False) is True) is not hidden_bias
        ),
        read=read_rnn,
        write=write_rnn,
        fits=lambda config: (
            config.hidden_bias is hidden_bias
            and _unit(config.cell) is not None
            and (hidden_bias or config.cell.name != "gru")
        ),
        names=rnn_names(hidden_bias=hidden_bias),
    )


FORMS = (_form(True), _form(False))
