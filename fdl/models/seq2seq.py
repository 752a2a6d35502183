"""Encoder and decoder: one sequence into another, with attention."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from fdl import initializers, ops
from fdl.errors import InputError
from fdl.models.attention import Attention, additive
from fdl.models.layers import Dropout
from fdl.models.rnn import RNN, Cell, RecurrentCell, RNNConfig, gru
from fdl.types import Array, DTypeLike, PyTree


@dataclasses.dataclass(frozen=True)
class Seq2SeqConfig:
    """What an encoder-decoder is made of.

    Attributes:
      vocabulary: number of tokens, of the source and of the target together.
      embedding: features of a token; both sides share them.
      units: H, of the encoder in each direction and of the decoder.
      layers: of the encoder.
      cell: of both: `gru()`, `lstm()`, `elman()`.
      bidirectional: whether the encoder also reads from the end.
      attention: `additive(units)`, `dot()`, `general()`; None: the encoder's final states are all
        that the decoder is given, at every step.
      input_feeding: Luong's order: the decoder's new state attends, and what came out of it is fed
        to the next step. Otherwise Bahdanau's: the old state attends, then the cell advances.
      dropout: rate of embedded tokens, between layers of the encoder and before the output.
      hidden_bias: a second bias in each cell, as PyTorch has.
      start_token: what the decoder reads first.
      dtype: in which products are computed; that of the parameters if None.

    Raises:
      InputError: when a size, a rate or the start token is out of range.

    Example:
      >>> Seq2SeqConfig(20, 16, 32, attention=None).bidirectional
      True
    """

    vocabulary: int
    embedding: int
    units: int
    layers: int = 1
    _: dataclasses.KW_ONLY
    cell: Cell = gru()
    bidirectional: bool = True
    attention: Attention | None = additive(64)
    input_feeding: bool = False
    dropout: float = 0.0
    hidden_bias: bool = False
    start_token: int = 0
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        for name in ("vocabulary", "embedding", "units", "layers"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"Seq2SeqConfig({name}=...) must be >= 1, got {getattr(self, name)}"
                )
        if not 0 <= self.dropout < 1:
            raise InputError(f"Seq2SeqConfig(dropout=...) must lie in [0, 1), got {self.dropout}")
        if not 0 <= self.start_token < self.vocabulary:
            raise InputError(
                f"Seq2SeqConfig(start_token=...) must lie in [0, {self.vocabulary}), got"
                f" {self.start_token}"
            )

    @property
    def memory(self) -> int:
        """Features of an encoder's output."""
        return self.units * (2 if self.bidirectional else 1)

    @classmethod
    def tiny(cls, **changes: Any) -> "Seq2SeqConfig":
        """11 tokens, 4 units: for tests."""
        config = cls(11, 3, 4, attention=additive(5))
        return dataclasses.replace(config, **changes)

    @classmethod
    def rnnsearch(cls, **changes: Any) -> "Seq2SeqConfig":
        """1000 units a direction, 620 features a word (RNNsearch: Bahdanau et al. 2014, A.2)."""
        config = cls(30_000, 620, 1000, cell=gru(reset_after=False), attention=additive(1000))
        return dataclasses.replace(config, **changes)


class DecoderCache(NamedTuple):
    """What decoding carries from token to token; the batch is every leaf's first axis.

    Attributes:
      carry: of the decoder's cell.
      fed: with input feeding the last output, (batch, H).
      summary: the encoder's final states, (batch, K).
      keys: of the source, (batch, S, A).
      values: the encoder's outputs, (batch, S, K).
      mask: True for real source tokens, (batch, S).
    """

    carry: PyTree
    fed: Array
    summary: Array
    keys: Array
    values: Array
    mask: Array


class Seq2Seq(nnx.Module):
    """An encoder-decoder network, with attention or without.

    h = encoder(source),  s_0 = tanh(W_init [h_forward_last; h_backward_first] + b)
    a_t, c_t = attend(score(s_{t-1}, h), h),   s_t = cell([embedding(y_{t-1}); c_t], s_{t-1})
    logits_t = W_o [s_t; c_t; embedding(y_{t-1})] + b_o

    Without attention c_t is [h_forward_last; h_backward_first] at all t. With input feeding
    s_t = cell([embedding(y_{t-1}); o_{t-1}], s_{t-1}), s_t attends, o_t = tanh(W_c [c_t; s_t]) and
    logits_t = W_o o_t + b_o.

    It is a sequence decoder whose prompt is the source: `prefill` reads a source and gives the
    logits of the first target token, so that `fdl.generate` translates.

    Differs from the paper: the output layer is linear where Bahdanau's has maxout units, and s_0
    sees the last state of both directions, not of the backward one alone.

    Args:
      config: what it is made of.
      rngs: for the parameters.

    Raises:
      ValueError: from the call, when tokens have another rank; when dropout is on and `rngs` is
        missing.

    Example:
      >>> model = Seq2Seq(Seq2SeqConfig.tiny(), rngs=nnx.Rngs(0))
      >>> source, target = jnp.array([[3, 1, 4, 1]]), jnp.array([[0, 5, 9]])
      >>> logits, maps = model(source, target, maps=True)
      >>> logits.shape, maps.shape
      ((1, 3, 11), (1, 3, 4))

    Source: Sutskever et al. 2014, arXiv 1409.3215; Cho et al. 2014, arXiv 1406.1078; Bahdanau et
    al. 2014, arXiv 1409.0473; Luong et al. 2015, arXiv 1508.04025; DLB 10.4 and 12.4.5.1.
    """

    def __init__(self, config: Seq2SeqConfig, *, rngs: nnx.Rngs):
        self.config = config
        embedding, units, memory = config.embedding, config.units, config.memory
        self.embedding = nnx.Param(
            initializers.normal(0.1)(rngs.params(), (config.vocabulary, embedding), jnp.float32)
        )
        self.dropout = Dropout(config.dropout)
        encoder = RNNConfig(
            embedding,
            units,
            config.layers,
            cell=config.cell,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
            hidden_bias=config.hidden_bias,
            dtype=config.dtype,
        )
        self.encoder = RNN(encoder, rngs=rngs)
        self.start = nnx.Linear(memory, units, dtype=config.dtype, rngs=rngs)
        attention = config.attention
        self.scores = nnx.data(None if attention is None else attention(units, memory, rngs=rngs))
        fed = units if config.input_feeding else memory
        self.decoder = RecurrentCell(encoder, embedding + fed, rngs=rngs)
        combine = config.input_feeding
        self.combine = nnx.data(
            nnx.Linear(memory + units, units, use_bias=False, dtype=config.dtype, rngs=rngs)
            if combine
            else None
        )
        width = units if combine else units + memory + embedding
        self.output = nnx.Linear(width, config.vocabulary, dtype=config.dtype, rngs=rngs)

    def __call__(
        self,
        source: Array,
        target: Array,
        *,
        lengths: Array | None = None,
        maps: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Array | tuple[Array, Array]:
        """Compute the logits of all target tokens, the right ones before each being given.

        Args:
          source: integers, (batch, S), shorter ones filled up on the right.
          target: what the decoder reads: the start token, then the target without its last token;
            integers, (batch, T).
          lengths: of the sources, (batch,), in [1, S]; all S if None.
          maps: also return the attention, a_t.
          rngs: for dropout, in training; with a key for each example or with one.

        Returns:
          Shape (batch, T, vocabulary); with `maps`, a pair of that and (batch, T, S).
        """
        if target.ndim != 2:
            raise ValueError(f"Seq2Seq needs a target of shape (batch, time), got {target.shape}")
        cache = self.encode(source, lengths=lengths, rngs=rngs)
        embedded = self.dropout(self._embed(target), rngs=rngs)

        def body(state: PyTree, token: Array) -> tuple[PyTree, tuple[Array, Array]]:
            carry, fed = state  # not the source, which the backward pass would keep for each step
            state, features, weights = self._advance(cache._replace(carry=carry, fed=fed), token)
            return state, (features, weights)

        _, (features, weights) = jax.lax.scan(
            body, (cache.carry, cache.fed), embedded.swapaxes(0, 1)
        )
        logits = self._logits(self.dropout(features.swapaxes(0, 1), rngs=rngs))
        return (logits, weights.swapaxes(0, 1)) if maps else logits

    def encode(
        self, source: Array, *, lengths: Array | None = None, rngs: nnx.Rngs | None = None
    ) -> DecoderCache:
        """Read the source; the cache before the first target token.

        Args:
          source: integers, (batch, S), filled up on the right.
          lengths: real tokens of each row, (batch,); all if None.
          rngs: for dropout, in training.

        Returns:
          `values` in it are the encoder's outputs, (batch, S, K).
        """
        if source.ndim != 2:
            raise ValueError(f"Seq2Seq needs a source of shape (batch, time), got {source.shape}")
        embedded = self.dropout(self._embed(source), rngs=rngs)
        values, state = self.encoder(embedded, lengths=lengths, rngs=rngs)
        last = _output(state)[:, -self.encoder.config.directions :]
        summary = last.reshape(len(source), -1).astype(values.dtype)
        h = jnp.tanh(self.start(summary)).astype(last.dtype)
        if lengths is None:
            mask = jnp.ones(source.shape, bool)
        else:
            mask = jnp.arange(source.shape[1])[None, :] < lengths[:, None]
        keys = values[..., :0] if self.scores is None else self.scores.keys(values)
        fed = jnp.zeros(h.shape if self.combine is not None else (len(h), 0), values.dtype)
        return DecoderCache(self.config.cell.carry(h), fed, summary, keys, values, mask)

    def init_cache(self, batch: int, length: int) -> DecoderCache:
        """Return an empty cache for sources of at most `length` tokens.

        Args:
          batch: number of sources.
          length: upper limit of their lengths.

        Returns:
          The cache's arrays, filled with zeros.
        """
        tokens = jax.ShapeDtypeStruct((batch, length), jnp.int32)
        shapes = jax.eval_shape(self.encode, tokens)
        return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)

    def prefill(
        self, tokens: Array, cache: DecoderCache, *, lengths: Array | None = None
    ) -> tuple[Array, DecoderCache]:
        """Read sources, and the start token after them.

        Args:
          tokens: the sources, (batch, S), filled up on the right.
          cache: an empty one for at least S tokens.
          lengths: real tokens of each source, (batch,), >= 1; all if None.

        Returns:
          (logits of the first target token, (batch, vocabulary); the cache).
        """
        spare = cache.mask.shape[1] - tokens.shape[1]
        if spare < 0:
            raise ValueError(
                f"Seq2Seq.prefill(tokens) must be of at most {cache.mask.shape[1]} tokens, the"
                f" length of the cache, got {tokens.shape[1]}"
            )
        if lengths is None:
            lengths = jnp.full(len(tokens), tokens.shape[1])
        new = self.encode(tokens, lengths=lengths)
        pad = ((0, 0), (0, spare))
        new = new._replace(
            keys=jnp.pad(new.keys, (*pad, (0, 0))),
            values=jnp.pad(new.values, (*pad, (0, 0))),
            mask=jnp.pad(new.mask, pad),
        )
        return self.decode_step(jnp.full(len(tokens), self.config.start_token), new)

    def decode_step(self, tokens: Array, cache: DecoderCache) -> tuple[Array, DecoderCache]:
        """Read one target token a row, (batch,); return (logits (batch, vocabulary), cache)."""
        (carry, fed), features, _ = self._advance(cache, self._embed(tokens))
        return self._logits(features), cache._replace(carry=carry, fed=fed)

    def _advance(self, cache: DecoderCache, token: Array) -> tuple[PyTree, Array, Array]:
        """Read embedded tokens, (batch, E): (carry, fed), what the output is made of, weights."""
        weights, step = self.decoder.weights(token.dtype), self.config.cell.step
        if self.combine is None:
            query = _output(cache.carry).astype(token.dtype)
            context, attention = self._attend(query, cache)
            x = jnp.concatenate([token, context], axis=-1)
            carry, s = step(weights, cache.carry, x)
            return (carry, cache.fed), jnp.concatenate([s, context, token], -1), attention
        x = jnp.concatenate([token, cache.fed], axis=-1)
        carry, s = step(weights, cache.carry, x)
        context, attention = self._attend(s, cache)
        out = jnp.tanh(self.combine(jnp.concatenate([context, s], axis=-1)))
        return (carry, out), out, attention

    def _attend(self, query: Array, cache: DecoderCache) -> tuple[Array, Array]:
        """Return the context and the weights; without attention the summary and zeros."""
        if self.scores is None:
            return cache.summary, jnp.zeros(cache.mask.shape, query.dtype)
        return ops.attend(self.scores(query, cache.keys), cache.values, cache.mask)

    def _embed(self, tokens: Array) -> Array:
        embedded = self.embedding[...][tokens]
        return embedded if self.config.dtype is None else embedded.astype(self.config.dtype)

    def _logits(self, features: Array) -> Array:
        logits = self.output(features)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def _output(carry: PyTree) -> Array:
    """Return h of a cell's carry."""
    return carry.h if isinstance(carry, ops.LSTMCarry) else carry
