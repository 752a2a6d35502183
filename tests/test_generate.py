"""Generation from decoders whose distribution is known, and from a recurrent network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fdl.errors import InputError
from fdl.generate import generate
from fdl.models import RNNLM, RNNLMConfig
from fdl.pure import pure

# a chain that never comes back to 0: the probability of the next token, given the last
CHAIN = np.array(
    [
        [0.0, 0.5, 0.3, 0.2, 0.0],
        [0.0, 0.1, 0.2, 0.7, 0.0],
        [0.0, 0.6, 0.0, 0.0, 0.4],
        [0.0, 0.2, 0.2, 0.2, 0.4],
        [0.0, 0.25, 0.25, 0.5, 0.0],
    ]
)


class Decoder:
    """A bare function that obeys the contract of a decoder, and notes how it was used."""

    def __init__(self, length_limit=10**9):
        self.traces, self.lengths, self.length_limit = 0, [], length_limit

    def __call__(self, params, extra, *args, key=None, train=False, method="__call__", **kwargs):
        assert key is None and not train
        return getattr(self, method)(params, *args, **kwargs), extra

    def init_cache(self, params, batch, length):
        self.lengths.append((batch, length))
        return {"read": jnp.zeros(batch, jnp.int32)}

    def prefill(self, params, tokens, cache, *, lengths):
        last = tokens[jnp.arange(len(tokens)), lengths - 1]
        return params[last], {"read": cache["read"] + lengths}

    def decode_step(self, params, tokens, cache):
        self.traces += 1
        return params[tokens], {"read": cache["read"] + 1}


def log(chain):
    with np.errstate(divide="ignore"):
        return jnp.log(jnp.asarray(chain))


SHARED = Decoder()  # most tests ask it for 6 tokens behind 4 prompts of 2: compiled once


def run(prompts, decoder=SHARED, chain=CHAIN, **options):
    options = {"max_new_tokens": 6, "key": jax.random.key(0), "stop_tokens": [-1, -1]} | options
    return generate(decoder, log(chain), {}, jnp.asarray(prompts), **options)


def column(*tokens):
    """Prompts of one token, in the shape of the shared ones."""
    return {"prompts": np.array([[t, 0] for t in tokens]), "lengths": [1] * len(tokens)}


def test_texts_follow_the_distribution_of_the_chain():
    n, length = 4000, 3
    tokens, lengths = run(np.zeros((n, 1), int), max_new_tokens=length)
    assert lengths.tolist() == [length] * n
    counts = np.zeros((5, 5, 5))
    np.add.at(counts, tuple(np.asarray(tokens).T), 1)
    expected = n * np.einsum("a,ab,bc->abc", CHAIN[0], CHAIN, CHAIN)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    chi_square = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    freedom = possible.sum() - 1
    assert chi_square < freedom + 3.1 * np.sqrt(2 * freedom)  # about one in a thousand


def test_greedy_takes_the_most_likely_token_and_needs_no_key():
    tokens, _ = run(**column(0, 1, 2, 4), temperature=0.0, key=None)
    expected = []
    for last in (0, 1, 2, 4):
        row = []
        for _ in range(6):
            row.append(last := int(np.argmax(CHAIN[last])))
        expected.append(row)
    assert tokens.tolist() == expected


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({}, [{1, 2}, {2, 3}, {1, 4}, {1, 2, 3, 4}, {1, 2, 3}]),
        ({"top_k": 1}, [{1}, {3}, {1}, {4}, {3}]),
        ({"top_k": 5, "top_p": 0.65}, [{1, 2}, {3}, {1, 4}, {1, 2, 3, 4}, {1, 2, 3}]),
        # a temperature of 0.5 squares the probabilities, and the nucleus is of the squares
        (
            {"top_k": 5, "top_p": 0.55, "temperature": 0.5},
            [{1}, {3}, {1}, {4}, {3}],
        ),
        # the nucleus is taken of what the k left: 0.5 / 0.8 of the first row is more than 0.59
        ({"top_p": 0.59}, [{1}, {3}, {1}, {1, 2, 3, 4}, {1, 2, 3}]),
    ],
)
def test_filters_allow_the_tokens_that_they_should_and_all_of_them(options, allowed):
    options = {"top_k": 2, "top_p": 1.0} | options
    prompts = np.repeat(np.arange(5), 60)
    tokens, _ = run(prompts[:, None], max_new_tokens=1, **options)
    found = [set(row.tolist()) for row in np.asarray(tokens).reshape(5, 60)]
    assert found == allowed


def test_a_row_ends_behind_its_first_stop_token_and_is_padded():
    prompts = column(0, 1, 3, 4)
    free, _ = run(**prompts)
    tokens, lengths = run(**prompts, stop_tokens=[4, 2], pad_token=77)
    for row, full, length in zip(np.asarray(tokens), np.asarray(free), lengths, strict=True):
        stops = np.flatnonzero(np.isin(full, [4, 2]))
        expected = stops[0] + 1 if len(stops) else 6
        assert int(length) == expected
        assert row[:expected].tolist() == full[:expected].tolist()
        assert set(row[expected:].tolist()) <= {77}
    assert len(set(lengths.tolist())) > 1


def test_the_loop_ends_when_all_rows_have_and_reads_no_more_than_it_must():
    read = []

    class Counting(Decoder):
        def decode_step(self, params, tokens, cache):
            jax.debug.callback(lambda: read.append(1))
            return super().decode_step(params, tokens, cache)

    decoder = Counting()
    chain = np.eye(5)[[1, 2, 3, 4, 4]]  # 0 1 2 3 4 4 4 ...
    for stop, expected in ((4, [4, 2]), (9, [500, 500])):
        read.clear()
        tokens, lengths = run([[0], [2]], decoder, chain, max_new_tokens=500, stop_tokens=[stop])
        jax.effects_barrier()
        assert lengths.tolist() == expected
        assert len(read) == expected[0] - 1  # the first token comes from the prompt
        if stop == 4:
            assert tokens[:, :5].tolist() == [[1, 2, 3, 4, 0], [3, 4, 0, 0, 0]]
    assert set(decoder.lengths) == {(2, 501)}  # room for prompt and new tokens


def test_padding_of_a_prompt_does_not_matter():
    prompts, lengths = np.array([[1, 2], [3, 9], [2, 9], [3, 1]]), [2, 1, 1, 2]
    first = run(prompts, lengths=lengths, repetition_penalty=3.0)
    other = run(np.where(prompts == 9, 0, prompts), lengths=lengths, repetition_penalty=3.0)
    assert first.tokens.tolist() == other.tokens.tolist()


def test_what_a_row_draws_does_not_depend_on_the_rows_around_it():
    keys = jax.random.split(jax.random.key(5), 4)
    whole = run(**column(0, 1, 2, 0), key=keys)
    turned = run(**column(0, 2, 1, 0), key=keys[::-1])
    assert turned.tokens[::-1].tolist() == whole.tokens.tolist()
    assert whole.tokens[0].tolist() != whole.tokens[3].tolist()  # one prompt, two keys
    folded = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.arange(4))
    np.testing.assert_array_equal(
        run(**column(0, 1, 2, 0), key=folded).tokens, run(**column(0, 1, 2, 0)).tokens
    )


def test_the_penalty_counts_tokens_of_the_prompt_and_new_ones():
    chain = np.tile([0.0, 0.4, 0.3, 0.2, 0.1], (5, 1))
    prompts = [[0, 0], [1, 0], [0, 1], [0, 1]]
    lengths = [2, 2, 1, 2]
    free, _ = run(prompts, chain=chain, lengths=lengths, temperature=0.0)
    assert free.tolist() == [[1] * 6] * 4
    # logs are negative: seen tokens are multiplied by 2, that is, their probabilities squared:
    # 0.4 -> 0.16 and 0.3 -> 0.09, 0.2 -> 0.04
    new, _ = run(prompts, chain=chain, lengths=lengths, temperature=0.0, repetition_penalty=2.0)
    assert new[:, :4].tolist() == [[1, 2, 3, 1], [2, 3, 1, 1], [1, 2, 3, 1], [2, 3, 1, 1]]


def test_it_compiles_once():
    decoder = Decoder()

    def once(prompts=((0, 1),), **options):
        defaults = {"top_k": 3, "top_p": 0.9, "stop_tokens": [4], "max_new_tokens": 2}
        return run(prompts, decoder, **(defaults | options))

    once()
    first = decoder.traces
    once([[1, 2]])
    once(lengths=np.array([1]))
    once(temperature=0.0)
    once(temperature=0.3, repetition_penalty=1.3, pad_token=3, stop_tokens=[2])
    once(top_k=1, top_p=0.2)
    once(key=jax.random.key(9))
    once(key=jax.random.split(jax.random.key(9), 1))
    assert decoder.traces == first > 0
    once(max_new_tokens=3)
    assert decoder.traces > first


@pytest.fixture(scope="module")
def network():
    config = RNNLMConfig(11, 5, 6, 2, embedding_init=nnx.initializers.normal(3.0))
    return pure(RNNLM(config, rngs=nnx.Rngs(0)))


def test_a_network_generates_what_its_parallel_form_predicts(network):
    apply, params, extra = network
    prompts, lengths = jnp.array([[3, 1, 4, 1], [5, 9, 0, 0]]), [4, 2]
    tokens, _ = generate(
        apply, params, extra, prompts, lengths=lengths, max_new_tokens=6, temperature=0.0
    )
    assert len({tuple(row) for row in tokens.tolist()}) == 2
    for prompt, n, row in zip(prompts, lengths, tokens, strict=True):
        text = jnp.concatenate([prompt[:n], row, jnp.zeros(4 - n, int)])
        logits, _ = jax.jit(apply)(params, extra, text[None])  # causal: what follows does not count
        assert jnp.argmax(logits[0], -1)[n - 1 : n + 5].tolist() == row.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, r"max_new_tokens=...\) must be >= 1, got 0"),
        ({"temperature": -0.5}, r"temperature=...\) must be finite and >= 0, got -0.5"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, r"top_k=...\) must be >= 1, got 0"),
        ({"top_p": 0.0}, r"top_p=...\) must be in \(0, 1\], got 0.0"),
        ({"top_p": 1.5}, "top_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"lengths": [0]}, r"lengths=...\) must lie in \[1, 2\], got \[0\]"),
        ({"lengths": [3]}, "lengths"),
        ({"key": None}, r"key=...\) is needed at a temperature of 1.0"),
    ],
)
def test_what_a_user_may_get_wrong_is_one_line(options, message):
    with pytest.raises(InputError, match=message) as caught:
        run([[1, 2]], **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("prompts", "options"),
    [
        ([1, 2], {}),
        ([[]], {}),
        ([[1.0]], {}),
        ([[1]], {"lengths": [1, 1]}),
        ([[1]], {"key": jax.random.split(jax.random.key(0), 3)}),
    ],
)
def test_other_shapes_are_refused(prompts, options):
    with pytest.raises(ValueError, match="generate"):
        run(prompts, **options)
