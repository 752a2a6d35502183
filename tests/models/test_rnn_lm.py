"""A recurrent language model: pieces, steps and prompts of unequal length agree with the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fdl.errors import InputError
from fdl.models import RNNLM, RNNLMConfig, elman, gru, lstm
from fdl.pure import pure

TOKENS = jnp.asarray(np.random.default_rng(0).integers(4, 11, (3, 8)))
CELLS = [lstm(), gru(), elman()]


def model_of(**changes):
    return RNNLM(RNNLMConfig.tiny(**changes), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("cell", CELLS, ids=["lstm", "gru", "elman"])
def test_prompts_of_unequal_length_and_steps_agree_with_the_parallel_form(cell):
    apply, params, extra = pure(model_of(cell=cell))
    whole, _ = apply(params, extra, TOKENS)
    lengths = jnp.array([5, 2, 1])
    prompts = jnp.where(jnp.arange(5)[None] < lengths[:, None], TOKENS[:, :5], 7)

    @jax.jit
    def start(prompts, lengths):
        cache, _ = apply(params, extra, 3, 8, method="init_cache")
        return apply(params, extra, prompts, cache, lengths=lengths, method="prefill")[0]

    @jax.jit
    def step(tokens, cache):
        return apply(params, extra, tokens, cache, method="decode_step")[0]

    logits, cache = start(prompts, lengths)
    rows = jnp.arange(3)
    for t in range(3):
        np.testing.assert_allclose(logits, whole[rows, lengths - 1 + t], rtol=1e-5, atol=1e-6)
        logits, cache = step(TOKENS[rows, lengths + t], cache)
    assert step._cache_size() == 1


def test_a_text_in_pieces_with_carried_state_is_the_whole_text():
    model = model_of()
    whole = model(TOKENS)
    first, cache = model(TOKENS[:, :3], return_cache=True)
    second = model(TOKENS[:, 3:], cache)
    np.testing.assert_allclose(jnp.concatenate([first, second], axis=1), whole, rtol=1e-5)


def test_a_token_costs_the_same_at_any_position():
    """What is carried has one size, and one program advances it at position 10 and 10,000."""
    apply, params, extra = pure(model_of())

    @jax.jit
    def advance(cache, count):
        def body(_, carried):
            logits, cache = carried
            token = jnp.argmax(logits, -1)
            return apply(params, extra, token, cache, method="decode_step")[0]

        return jax.lax.fori_loop(0, count, body, (jnp.zeros((3, 11), jnp.float32), cache))[1]

    short, _ = apply(params, extra, 3, 10, method="init_cache")
    long, _ = apply(params, extra, 3, 10_000, method="init_cache")
    assert jax.tree.map(jnp.shape, short) == jax.tree.map(jnp.shape, long)
    early, late = advance(short, 10), advance(long, 10_000)
    assert jax.tree.map(jnp.shape, early) == jax.tree.map(jnp.shape, late)
    assert advance._cache_size() == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(late))


def test_tied_weights_are_one_array_that_both_ends_learn():
    model = model_of(tied=True, embedding=6)
    apply, params, extra = pure(model)
    assert "kernel" not in params

    @jax.jit
    def run(embedding):
        def loss(embedding):
            logits, _ = apply(params | {"embedding": embedding}, extra, TOKENS)
            return logits[..., 3].sum(), logits

        return jax.grad(loss, has_aux=True)(embedding)

    gradient, logits = run(params["embedding"])
    seen = {3, *TOKENS.ravel().tolist()}  # 3 by the output alone, if it is not read
    assert len(seen) < 11
    for token in range(11):
        assert (np.abs(gradient[token]).max() > 0) == (token in seen)
    moved = run(params["embedding"].at[3].add(1.0))[1]
    assert not (TOKENS == 3).any()
    np.testing.assert_array_equal(np.delete(moved, 3, -1), np.delete(logits, 3, -1))
    y, _ = model.rnn(params["embedding"][TOKENS])
    np.testing.assert_allclose(moved[..., 3] - logits[..., 3], y.sum(-1), rtol=1e-4, atol=1e-6)


def test_logits_are_single_precision_where_products_are_half():
    logits = model_of(dtype=jnp.bfloat16)(TOKENS)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, model_of()(TOKENS), atol=0.03)


def test_options_out_of_range_are_refused():
    for changes in ({"vocabulary": 0}, {"dropout": -0.1}, {"tied": True}):
        with pytest.raises(InputError, match=next(iter(changes))):
            RNNLMConfig.tiny(**changes)
    with pytest.raises(ValueError, match="tokens of shape"):
        model_of()(TOKENS[0])
