"""A recurrent language model: which token comes next?"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import nnx

from fdl import initializers
from fdl.errors import InputError
from fdl.models.layers import Dropout
from fdl.models.rnn import RNN, Cell, RNNConfig, lstm
from fdl.types import Array, DTypeLike, PyTree


@dataclasses.dataclass(frozen=True)
class RNNLMConfig:
    """What a recurrent language model is made of.

    Attributes:
      vocabulary: number of tokens.
      embedding: features of a token.
      units: of each recurrent layer.
      layers: number of recurrent layers.
      cell: `lstm()`, `gru()`, `elman()`.
      dropout: rate at the embedded tokens, between layers and before the output, in [0, 1).
      tied: the output layer uses the embedding's weights; units must equal embedding.
      embedding_init: of the embedding. With tied weights these are the output's, too.
      chunk: compute so many steps again in the backward pass, to save memory; None: none.
      dtype: in which products are computed; that of the parameters if None.

    Raises:
      InputError: when a size or a rate is out of range, or sizes cannot be tied.

    Example:
      >>> RNNLMConfig(256, 64, 128, layers=2, dropout=0.2).layers
      2
    """

    vocabulary: int
    embedding: int
    units: int
    layers: int = 1
    _: dataclasses.KW_ONLY
    cell: Cell = lstm()
    dropout: float = 0.0
    tied: bool = False
    embedding_init: initializers.Initializer = initializers.normal(0.1)
    chunk: int | None = None
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        for name in ("vocabulary", "embedding", "units", "layers"):
            if getattr(self, name) < 1:
                raise InputError(f"RNNLMConfig({name}=...) must be >= 1, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"RNNLMConfig(dropout=...) must lie in [0, 1), got {self.dropout}")
        if self.tied and self.units != self.embedding:
            raise InputError(
                f"RNNLMConfig(tied=True) must have units = embedding, got {self.units} and"
                f" {self.embedding}"
            )

    @classmethod
    def tiny(cls, **changes: Any) -> "RNNLMConfig":
        """11 tokens, 2 layers of 6 units: for tests."""
        return dataclasses.replace(cls(11, 5, 6, 2), **changes)

    @classmethod
    def zaremba_medium(cls, **changes: Any) -> "RNNLMConfig":
        """10,000 words, 2 LSTM layers of 650 units (Zaremba et al. 2014, arXiv 1409.2329)."""
        config = cls(10_000, 650, 650, 2, dropout=0.5)
        return dataclasses.replace(config, **changes)

    @classmethod
    def zaremba_large(cls, **changes: Any) -> "RNNLMConfig":
        """10,000 words, 2 LSTM layers of 1500 units (Zaremba et al. 2014, arXiv 1409.2329)."""
        config = cls(10_000, 1500, 1500, 2, dropout=0.65)
        return dataclasses.replace(config, **changes)


class RNNLM(nnx.Module):
    """A recurrent language model.

    logits_t = W h_t + b,  h_t = rnn(h_{t-1}, embedding[token_t])

    The logits at t are of the token at t + 1. The state, of a size that does not grow, is all it
    knows of the past: a token costs the same at any position.

    Args:
      config: what it is made of.
      rngs: for the parameters.

    Raises:
      ValueError: from the call, when tokens are not of shape (batch, time); when dropout is on and
        `rngs` is missing.

    Example:
      >>> model = RNNLM(RNNLMConfig.tiny(), rngs=nnx.Rngs(0))
      >>> tokens = jnp.array([[3, 1, 4, 1], [5, 9, 2, 6]])
      >>> logits = model(tokens)
      >>> logits.shape
      (2, 4, 11)
      >>> last, cache = model.prefill(tokens[:, :3], model.init_cache(2, 4))
      >>> next_logits, cache = model.decode_step(tokens[:, 3], cache)
      >>> bool(jnp.allclose(next_logits, logits[:, 3], atol=1e-6))
      True

    Source: Mikolov et al. 2010; DLB 10.2.3 and 12.4; tied weights: Press and Wolf 2016, arXiv
    1608.05859.
    """

    def __init__(self, config: RNNLMConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.embedding = nnx.Param(
            config.embedding_init(rngs.params(), (config.vocabulary, config.embedding), jnp.float32)
        )
        self.dropout = Dropout(config.dropout)
        self.rnn = RNN(
            RNNConfig(
                config.embedding,
                config.units,
                config.layers,
                cell=config.cell,
                dropout=config.dropout,
                chunk=config.chunk,
                dtype=config.dtype,
            ),
            rngs=rngs,
        )
        self.kernel = nnx.data(
            None
            if config.tied
            else nnx.Param(
                initializers.lecun_normal()(
                    rngs.params(), (config.units, config.vocabulary), jnp.float32
                )
            )
        )
        self.bias = nnx.Param(jnp.zeros(config.vocabulary, jnp.float32))

    def __call__(
        self,
        tokens: Array,
        cache: PyTree | None = None,
        *,
        lengths: Array | None = None,
        return_cache: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Array | tuple[Array, PyTree]:
        """Compute the logits of all next tokens.

        Args:
          tokens: integers in [0, vocabulary), shape (batch, time).
          cache: the state before them, to go on with a text; that of a beginning if None.
          lengths: real tokens of each row, (batch,), which stand first; all if None.
          return_cache: also return the state behind them.
          rngs: for dropout, in training; with a key for each example or with one.

        Returns:
          Shape (batch, time, vocabulary); with `return_cache`, a pair of that and the state.
        """
        if tokens.ndim != 2:
            raise ValueError(f"RNNLM needs tokens of shape (batch, time), got {tokens.shape}")
        x = self.dropout(self.embedding[...][tokens], rngs=rngs)
        y, cache = self.rnn(x, cache, lengths=lengths, rngs=rngs)
        logits = self._output(self.dropout(y, rngs=rngs))
        return (logits, cache) if return_cache else logits

    def init_cache(self, batch: int, length: int) -> PyTree:
        """Return the state of a beginning.

        Args:
          batch: number of texts.
          length: of the longest text to come; the size of the state does not depend on it.

        Returns:
          Arrays with `batch` as their first axis, float32.
        """
        del length
        return self.rnn.init_state(batch)

    def prefill(
        self, tokens: Array, cache: PyTree, *, lengths: Array | None = None
    ) -> tuple[Array, PyTree]:
        """Read prompts.

        Args:
          tokens: shape (batch, time), padded on the right.
          cache: the state before them.
          lengths: real tokens of each row, (batch,), >= 1; all if None.

        Returns:
          (logits behind each row's last real token, (batch, vocabulary); the state there).
        """
        y, cache = self.rnn(self.embedding[...][tokens], cache, lengths=lengths)
        last = y[:, -1] if lengths is None else y[jnp.arange(len(y)), lengths - 1]
        return self._output(last), cache

    def decode_step(self, tokens: Array, cache: PyTree) -> tuple[Array, PyTree]:
        """Read one token a row, shape (batch,), and return (logits (batch, vocabulary), state)."""
        y, cache = self.rnn.step(self.embedding[...][tokens], cache)
        return self._output(y), cache

    def _output(self, y: Array) -> Array:
        kernel = self.embedding[...].T if self.kernel is None else self.kernel[...]
        logits = (y @ kernel.astype(y.dtype)).astype(jnp.promote_types(y.dtype, jnp.float32))
        bias = self.bias[...].reshape((1,) * (y.ndim - 1) + (-1,))
        return logits + bias.astype(logits.dtype)
