"""Recurrent networks: Elman, LSTM and GRU, stacked and in both directions."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fdl import initializers, ops
from fdl.errors import InputError
from fdl.models.layers import Dropout
from fdl.types import Array, DTypeLike, PyTree


@dataclasses.dataclass(frozen=True)
class Cell:
    """A kind of recurrent cell: see `elman`, `lstm` and `gru`.

    Attributes:
      name: "elman", "lstm", "gru" or that of your own.
      step: `(weights, carry, x) -> (carry, y)`, as `fdl.ops.lstm_step`.
      gates: G, blocks of width H in its kernels.
      candidate_bias: whether the last gate always has a bias of its own behind h U.
      bias_init: the biases that suit it.
      carry: makes the carry of a beginning from h, (..., H).
    """

    name: str
    step: ops.CellStep
    gates: int
    candidate_bias: bool = False
    bias_init: initializers.Initializer = initializers.zeros
    carry: Callable[[Array], PyTree] = lambda h: h


def elman(unit: Callable[[Array], Array] = jnp.tanh) -> Cell:
    """Choose the simple recurrent net, h' = g(x W + h U + b).

    Args:
      unit: g, elementwise.

    Example:
      >>> elman(ops.relu).gates
      1
    """
    return Cell("elman", functools.partial(ops.elman_step, unit=unit), 1)


def lstm() -> Cell:
    """Choose the LSTM; its forget gate begins open, at bias 1.

    Example:
      >>> lstm().bias_init(jax.random.key(0), (8,), jnp.float32).tolist()
      [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]

    Source: Jozefowicz et al. 2015 for the bias.
    """
    return Cell(
        "lstm",
        ops.lstm_step,
        4,
        bias_init=initializers.gate_bias(0, 1, 0, 0),
        carry=lambda h: ops.LSTMCarry(h, jnp.zeros_like(h)),
    )


def gru(*, reset_after: bool = True) -> Cell:
    """Choose the GRU.

    Args:
      reset_after: the form of cuDNN and PyTorch, or else that of Bahdanau et al.; see
        `fdl.ops.gru_step`.

    Example:
      >>> gru().gates
      3
    """
    step = functools.partial(ops.gru_step, reset_after=reset_after)
    return Cell("gru", step, 3, candidate_bias=reset_after)


@dataclasses.dataclass(frozen=True)
class RNNConfig:
    """What a recurrent network is made of.

    Attributes:
      features_in: D, size of an input at one time.
      units: H, of each layer in each direction.
      layers: number of layers, one on top of the other.
      cell: `lstm()`, `gru()`, `elman()`.
      bidirectional: each layer also reads from the end; its outputs, width 2 H, are those of the
        forward and of the backward run side by side.
      dropout: rate between two layers, in [0, 1): of the connections that are not recurrent.
      hidden_bias: a second bias, behind h U, as PyTorch has; one bias for each gate otherwise. The
        GRU that resets after the product always has that of its candidate.
      kernel_init: of the input kernels, for each gate.
      recurrent_init: of the (H, H) kernel from h to each gate.
      bias_init: of the biases, (G H,); what suits the cell if None.
      hoist: compute the products with the inputs before the scan; None: not on CPUs.
      chunk: compute so many steps again in the backward pass, to save memory; see `fdl.ops.recur`.
      dtype: in which products are computed; that of parameters and input if None. Parameters are
        float32, and states at least that.

    Raises:
      InputError: when a size or a rate is out of range.

    Example:
      >>> RNNConfig(3, 64, cell=gru(), bidirectional=True).directions
      2
    """

    features_in: int
    units: int
    layers: int = 1
    _: dataclasses.KW_ONLY
    cell: Cell = lstm()
    bidirectional: bool = False
    dropout: float = 0.0
    hidden_bias: bool = False
    kernel_init: initializers.Initializer = initializers.glorot_uniform()
    recurrent_init: initializers.Initializer = initializers.orthogonal()
    bias_init: initializers.Initializer | None = None
    hoist: bool | None = None
    chunk: int | None = None
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        for name in ("features_in", "units", "layers"):
            if getattr(self, name) < 1:
                raise InputError(f"RNNConfig({name}=...) must be >= 1, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"RNNConfig(dropout=...) must lie in [0, 1), got {self.dropout}")
        if self.chunk is not None and self.chunk < 1:
            raise InputError(f"RNNConfig(chunk=...) must be >= 1, got {self.chunk}")

    @property
    def directions(self) -> int:
        """2 when it is bidirectional, 1 otherwise."""
        return 2 if self.bidirectional else 1

    @classmethod
    def tiny(cls, **changes: Any) -> "RNNConfig":
        """3 inputs, 2 layers of 4 units: for tests."""
        return dataclasses.replace(cls(3, 4, 2), **changes)

    @classmethod
    def irnn(cls, features_in: int, units: int, **changes: Any) -> "RNNConfig":
        """Rectifiers that begin as the identity of their state (Le et al. 2015, arXiv 1504.00941).

        Input weights are N(0, 0.001^2), biases 0.
        """
        config = cls(
            features_in,
            units,
            cell=elman(jax.nn.relu),
            kernel_init=initializers.normal(0.001),
            recurrent_init=initializers.identity(),
        )
        return dataclasses.replace(config, **changes)

    @classmethod
    def torch(cls, features_in: int, units: int, layers: int = 1, **changes: Any) -> "RNNConfig":
        """PyTorch's layout and start: two biases, everything U(-1 / sqrt(H), 1 / sqrt(H))."""
        init = initializers.symmetric_uniform(units**-0.5)
        config = cls(
            features_in,
            units,
            layers,
            hidden_bias=True,
            kernel_init=init,
            recurrent_init=init,
            bias_init=init,
        )
        return dataclasses.replace(config, **changes)


class RecurrentCell(nnx.Module):
    """The parameters of one layer in one direction.

    Args:
      config: what it is made of; `layers` and `features_in` are not read.
      features_in: D.
      rngs: for the parameters.

    Example:
      >>> cell = RecurrentCell(RNNConfig(3, 4), 3, rngs=nnx.Rngs(0))
      >>> cell.kernel_in.shape, cell.kernel_hidden.shape, cell.bias.shape
      ((3, 16), (4, 16), (16,))
    """

    def __init__(self, config: RNNConfig, features_in: int, *, rngs: nnx.Rngs):
        gates, units = config.cell.gates, config.units
        bias_init = config.bias_init or config.cell.bias_init
        self.kernel_in = nnx.Param(
            _each_gate(config.kernel_init, rngs.params(), gates, (features_in, units))
        )
        self.kernel_hidden = nnx.Param(
            _each_gate(config.recurrent_init, rngs.params(), gates, (units, units))
        )
        self.bias = nnx.Param(bias_init(rngs.params(), (gates * units,), jnp.float32))
        hidden = gates * units if config.hidden_bias else units * config.cell.candidate_bias
        # a second bias that opened gates again would open them twice
        init = config.bias_init or initializers.zeros
        self.bias_hidden = nnx.data(
            nnx.Param(init(rngs.params(), (hidden,), jnp.float32)) if hidden else None
        )
        self.config = config

    def weights(self, dtype: DTypeLike) -> ops.CellWeights:
        """Return the parameters as `fdl.ops` takes them."""
        hidden = self.bias_hidden
        return ops.CellWeights(
            self.kernel_in[...].astype(dtype),
            self.kernel_hidden[...].astype(dtype),
            self.bias[...].astype(dtype),
            None if hidden is None else hidden[...].astype(dtype),
        )


class RNNLayer(nnx.Module):
    """The cells of one layer, forward and perhaps backward; `RNN` runs them.

    Args:
      config: what they are made of.
      features_in: D.
      rngs: for the parameters.
    """

    def __init__(self, config: RNNConfig, features_in: int, *, rngs: nnx.Rngs):
        self.forward = RecurrentCell(config, features_in, rngs=rngs)
        both = config.bidirectional
        self.backward = nnx.data(RecurrentCell(config, features_in, rngs=rngs) if both else None)

    def cells(self) -> list[RecurrentCell]:
        """Return the forward cell, then the backward one."""
        return [self.forward] if self.backward is None else [self.forward, self.backward]


class RNN(nnx.Module):
    """A stack of recurrent layers.

    h^l_t = cell^l(h^l_{t-1}, h^{l-1}_t),  h^0 = x;  backward: h^l_t = cell(h^l_{t+1}, h^{l-1}_t)

    Args:
      config: what it is made of.
      rngs: for the parameters.

    Raises:
      ValueError: from the call, when the input or the state has another size; when dropout is on
        and `rngs` is missing.

    Example:
      >>> model = RNN(RNNConfig(3, 8, 2, bidirectional=True), rngs=nnx.Rngs(0))
      >>> y, (h, c) = model(jnp.ones((5, 7, 3)), lengths=jnp.array([7, 1, 3, 4, 2]))
      >>> y.shape, h.shape
      ((5, 7, 16), (5, 4, 8))

    Source: DLB 10.2, 10.3 (bidirectional), 10.5 (deep), 10.10; dropout: Zaremba et al. 2014, arXiv
    1409.2329.
    """

    def __init__(self, config: RNNConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.dropout = Dropout(config.dropout)
        widths = [config.features_in, *[config.units * config.directions] * (config.layers - 1)]
        self.layers = nnx.List(RNNLayer(config, width, rngs=rngs) for width in widths)

    def init_state(self, batch: int) -> PyTree:
        """Return the state before the first step: zeros.

        Args:
          batch: number of sequences.

        Returns:
          h, or (h, c) for the LSTM, of shape (batch, layers * directions, units) each; layer by
          layer, the forward direction first. At least float32.
        """
        return self._zeros(batch, self.config.dtype or self._kernel().dtype)

    def __call__(
        self,
        x: Array,
        state: PyTree | None = None,
        *,
        lengths: Array | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> tuple[Array, PyTree]:
        """Run over whole sequences.

        Args:
          x: shape (batch, time, features_in).
          state: before the first step, as `init_state` gives; zeros if None.
          lengths: of the sequences, (batch,); all of x if None. Outputs behind a sequence's end are
            0; the backward direction begins at it.
          rngs: for dropout, in training; with a key for each example or with one.

        Returns:
          (y, state): the last layer's outputs, (batch, time, directions * units), and the states
          after the last step of each sequence (backward: after its first).
        """
        x, carries = self._begin(x, state, ndim=3)
        finals: list[PyTree] = []
        for i, layer in enumerate(self.layers):
            if i:
                x = self.dropout(x, rngs=rngs)
            ys = []
            for cell in layer.cells():
                y, final = ops.recur(
                    self.config.cell.step,
                    cell.weights(x.dtype),
                    x,
                    carries[len(finals)],
                    lengths=lengths,
                    reverse=cell is layer.backward,
                    hoist=self.config.hoist,
                    chunk=self.config.chunk,
                )
                ys.append(y)
                finals.append(final)
            x = jnp.concatenate(ys, axis=-1) if len(ys) > 1 else ys[0]
        return x, _stack(finals)

    def step(self, x: Array, state: PyTree) -> tuple[Array, PyTree]:
        """Advance by one step; the same as a call with a sequence of length 1, without dropout.

        Args:
          x: shape (batch, features_in).
          state: as `init_state` gives.

        Returns:
          (y, state): y of shape (batch, units).

        Raises:
          ValueError: for a bidirectional network, which must see the end first.
        """
        if self.config.bidirectional:
            raise ValueError("RNN.step needs a network of one direction, got a bidirectional one")
        x, carries = self._begin(x, state, ndim=2)
        finals = []
        for layer, carry in zip(self.layers, carries, strict=True):
            final, x = self.config.cell.step(layer.forward.weights(x.dtype), carry, x)
            finals.append(final)
        return x, _stack(finals)

    def _begin(self, x: Array, state: PyTree | None, ndim: int) -> tuple[Array, list[PyTree]]:
        """Check, choose the types, and take the state apart by layers."""
        features = self.config.features_in
        if x.ndim != ndim or x.shape[-1] != features:
            axes = "(batch, time, " if ndim == 3 else "(batch, "
            raise ValueError(f"RNN needs an input of shape {axes}{features}), got {x.shape}")
        dtype = self.config.dtype or jnp.result_type(x, self._kernel())
        zeros = self._zeros(x.shape[0], dtype)
        if state is None:
            state = zeros
        expected, got = (jax.tree.map(jnp.shape, tree) for tree in (zeros, state))
        if expected != got:
            raise ValueError(f"RNN(state=...) must be of shapes {expected}, got {got}")
        carries = [
            jax.tree.map(lambda a, zero: a[:, i].astype(zero.dtype), state, zeros)  # noqa: B023
            for i in range(self.config.layers * self.config.directions)
        ]
        return x.astype(dtype), carries

    def _zeros(self, batch: int, dtype: DTypeLike) -> PyTree:
        shape = (batch, self.config.layers * self.config.directions, self.config.units)
        return self.config.cell.carry(jnp.zeros(shape, jnp.promote_types(dtype, jnp.float32)))

    def _kernel(self) -> Array:
        return self.layers[0].forward.kernel_in[...]


def _stack(carries: list[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *carries)


def _each_gate(
    init: initializers.Initializer, key: Array, gates: int, shape: tuple[int, int]
) -> Array:
    """Draw the kernel of each gate by itself: fans and orthogonality are those of one gate."""
    keys = jax.random.split(key, gates)
    return jnp.concatenate([init(key, shape, jnp.float32) for key in keys], axis=-1)
