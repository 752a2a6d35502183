"""Texts from any sequence decoder, in one compiled loop."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.errors import InputError
from fdl.ops.sampling import penalise_repetition, sample_logits, top_k_logits, top_p_logits
from fdl.types import Apply, Array, Extra, Params, PyTree


class Generated(NamedTuple):
    """What was generated behind each prompt.

    Attributes:
      tokens: int32, shape (B, max_new_tokens); behind a stop token padding.
      lengths: int32, shape (B,): new tokens of each row, its stop token included.
    """

    tokens: Array
    lengths: Array


def generate(
    apply: Apply,
    params: Params,
    extra: Extra,
    prompts: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    max_new_tokens: int,
    key: Array | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop_tokens: Sequence[int] = (),
    pad_token: int = 0,
) -> Generated:
    """Go on with prompts, token by token.

    x_t ~ softmax(filter(penalise(logits_t) / temperature)),  filter = top_p of top_k

    The loop ends when each row has met a stop token, or after `max_new_tokens`. It is compiled once
    for a decoder, the shape of the prompts, `max_new_tokens`, the number of stop tokens, and
    whether there is a `top_k` and a `top_p`; everything else may change without a compilation.

    Args:
      apply: a decoder as a pure function, such as `fdl.pure` makes of a module; called with
        `method="init_cache"` and (B, T + max_new_tokens), `method="prefill"` and (tokens, cache,
        lengths=...), `method="decode_step"` and (tokens, cache). Keep it: another function, even of
        an equal module, is compiled again.
      params: of the decoder.
      extra: of the decoder.
      prompts: integers, shape (B, T) with T >= 1, shorter ones filled up on the right.
      lengths: tokens of each prompt, shape (B,), in [1, T]; None: all T.
      max_new_tokens: >= 1.
      key: one typed PRNG key, or one for each row, shape (B,). Row i of one key draws with
        fold_in(key, i), at its t-th new token with fold_in(that, t): what it draws does not depend
        on the other rows. Only at temperature 0 may it be None.
      temperature: >= 0; 0 takes the most likely token.
      top_k: keep the k most likely tokens, >= 1; None: all.
      top_p: keep the most likely tokens that have this probability together, in (0, 1]; None: all.
      repetition_penalty: > 0, for tokens of the prompt or generated; 1 is none.
      stop_tokens: after any of these a row ends.
      pad_token: what stands behind the end of a row.

    Returns:
      Generated(tokens, lengths).

    Raises:
      InputError: an option is out of range, lengths are not in [1, T], or the key is missing.
      ValueError: prompts, lengths or keys have another shape.

    Example:
      >>> from flax import nnx
      >>> from fdl.models import RNNLM, RNNLMConfig
      >>> from fdl.pure import pure
      >>> apply, params, extra = pure(RNNLM(RNNLMConfig.tiny(), rngs=nnx.Rngs(0)))
      >>> prompts = jnp.array([[3, 1, 4], [1, 0, 0]])
      >>> tokens, lengths = generate(
      ...     apply, params, extra, prompts, lengths=[3, 1], max_new_tokens=5, temperature=0.0)
      >>> tokens.shape, lengths.tolist()
      ((2, 5), [5, 5])
    """
    prompts = jnp.asarray(prompts)
    if prompts.ndim != 2 or 0 in prompts.shape or not jnp.issubdtype(prompts.dtype, jnp.integer):
        raise ValueError(
            "generate(prompts) must be integers of shape (B, T), B and T >= 1, "
            f"got {prompts.dtype} {prompts.shape}"
        )
    _check_options(max_new_tokens, temperature, top_k, top_p, repetition_penalty)
    return _loop(
        apply,
        params,
        extra,
        prompts.astype(jnp.int32),
        _checked_lengths(lengths, prompts),
        _row_keys(key, len(prompts), temperature),
        _Options(
            jnp.float32(temperature),
            None if top_k is None else jnp.int32(min(top_k, 2**31 - 1)),
            None if top_p is None else jnp.float32(top_p),
            jnp.float32(repetition_penalty),
            jnp.array(stop_tokens, jnp.int32).reshape(-1),
            jnp.int32(pad_token),
        ),
        max_new_tokens=max_new_tokens,
    )


class _Options(NamedTuple):
    temperature: Array
    top_k: Array | None
    top_p: Array | None
    repetition_penalty: Array
    stop_tokens: Array
    pad_token: Array


class _State(NamedTuple):
    made: Array  # tokens of the longest row
    tokens: Array  # (B, max_new_tokens)
    newest: Array  # (B,) also drawn for rows that have ended: the decoder has to read something
    lengths: Array  # (B,)
    ended: Array  # (B,)
    seen: Array  # (B, V)
    cache: PyTree


@partial(jax.jit, static_argnums=0, static_argnames="max_new_tokens")
def _loop(
    apply: Apply,
    params: Params,
    extra: Extra,
    prompts: Array,
    lengths: Array,
    keys: Array,
    options: _Options,
    *,
    max_new_tokens: int,
) -> Generated:
    rows, width = prompts.shape

    def call(method: str, *args: Any, **kwargs: Any) -> Any:
        return apply(params, extra, *args, method=method, **kwargs)[0]

    def go_on(state: _State) -> Array:
        return (state.made < max_new_tokens) & ~state.ended.all()

    def body(state: _State) -> _State:
        logits, cache = call("decode_step", state.newest, state.cache)
        return _append(state._replace(cache=cache), logits, keys, options)

    cache = call("init_cache", rows, width + max_new_tokens)
    logits, cache = call("prefill", prompts, cache, lengths=lengths)
    start = _State(
        made=jnp.int32(0),
        tokens=jnp.full((rows, max_new_tokens), options.pad_token),
        newest=jnp.zeros(rows, jnp.int32),
        lengths=jnp.zeros(rows, jnp.int32),
        ended=jnp.zeros(rows, bool),
        seen=_seen(prompts, lengths, logits.shape[-1]),
        cache=cache,
    )
    end = jax.lax.while_loop(go_on, body, _append(start, logits, keys, options))
    return Generated(end.tokens, end.lengths)


def _append(state: _State, logits: Array, keys: Array, options: _Options) -> _State:
    """Draw one token of each row and put it behind the others."""
    logits = penalise_repetition(logits, state.seen, options.repetition_penalty)
    # at temperature 0 the filters do not matter: all keep the most likely token
    warm = jnp.where(options.temperature > 0, options.temperature, 1)
    cooled = logits / warm.astype(logits.dtype)
    if options.top_k is not None:
        cooled = top_k_logits(cooled, options.top_k)
    if options.top_p is not None:
        cooled = top_p_logits(cooled, options.top_p)
    now = jax.vmap(jax.random.fold_in, (0, None))(keys, state.made)
    token = sample_logits(now, cooled, jnp.sign(options.temperature))  # the division is done
    shown = jnp.where(state.ended, options.pad_token, token)
    stops = (token[:, None] == options.stop_tokens.reshape(1, -1)).any(-1)
    return state._replace(
        made=state.made + 1,
        tokens=jax.lax.dynamic_update_index_in_dim(state.tokens, shown, state.made, axis=1),
        newest=token,
        lengths=state.lengths + ~state.ended,
        ended=state.ended | stops,
        seen=state.seen.at[jnp.arange(len(token)), token].set(True),
    )


def _seen(prompts: Array, lengths: Array, vocabulary: int) -> Array:
    rows, width = prompts.shape
    real = jnp.arange(width).reshape(1, -1) < lengths.reshape(-1, 1)
    empty = jnp.zeros((rows, vocabulary), bool)
    return empty.at[jnp.arange(rows).reshape(-1, 1), prompts].max(real)


def _check_options(
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    repetition_penalty: float,
) -> None:
    rules = {
        "max_new_tokens": (max_new_tokens, max_new_tokens >= 1, ">= 1"),
        "temperature": (temperature, 0 <= temperature < float("inf"), "finite and >= 0"),
        "top_k": (top_k, top_k is None or top_k >= 1, ">= 1"),
        "top_p": (top_p, top_p is None or 0 < top_p <= 1, "in (0, 1]"),
        "repetition_penalty": (
            repetition_penalty,
            0 < repetition_penalty < float("inf"),
            "finite and > 0",
        ),
    }
    for name, (value, holds, rule) in rules.items():
        if not holds:
            raise InputError(f"generate({name}=...) must be {rule}, got {value}")


def _checked_lengths(lengths: ArrayLike | None, prompts: Array) -> Array:
    rows, width = prompts.shape
    if lengths is None:
        return jnp.full(rows, width, jnp.int32)
    array = jnp.asarray(lengths)
    if array.shape != (rows,) or not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(
            f"generate(lengths=...) must be integers of shape ({rows},), "
            f"got {array.dtype} {array.shape}"
        )
    if not ((array >= 1) & (array <= width)).all():
        raise InputError(f"generate(lengths=...) must lie in [1, {width}], got {array.tolist()}")
    return array.astype(jnp.int32)


def _row_keys(key: Array | None, rows: int, temperature: float) -> Array:
    if key is None:
        if temperature > 0:
            raise InputError(f"generate(key=...) is needed at a temperature of {temperature}")
        key = jax.random.key(0)  # drawn from, and not used
    if key.ndim == 0:
        return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(rows))
    if key.shape != (rows,):
        raise ValueError(f"generate(key=...) must be one key or ({rows},) keys, got {key.shape}")
    return key
