"""Counts of short sequences as a language model: the baseline that a neural one has to beat."""

import lzma
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdl.errors import InputError


class _Order(NamedTuple):
    """What was counted for contexts of one length."""

    grams: NDArray[np.int64]  # (G,) sorted codes of context and symbol
    gram_counts: NDArray[np.int64]  # (G,) N(h c)
    contexts: NDArray[np.int64]  # (H,) sorted codes of contexts
    context_counts: NDArray[np.int64]  # (H,) N(h)
    kinds: NDArray[np.int64]  # (H,) T(h), different symbols seen after h


class NGrams(NamedTuple):
    """Counts of all sequences of up to n tokens, by `fit_ngrams`.

    Attributes:
      size: V, number of different tokens.
      orders: what was counted, for contexts of 0, 1, ..., n - 1 tokens.
    """

    size: int
    orders: tuple[_Order, ...]

    def log2_probs(self, tokens: NDArray[Any]) -> NDArray[np.float64]:
        """Return log2 P(x_t | x_{t-n+1}, ..., x_{t-1}) of each token of a text, shape (N,).

        The first tokens have shorter contexts.

        Raises:
          ValueError: `tokens` is not one row of numbers in [0, V).
        """
        tokens = _checked(tokens, self.size, "log2_probs")
        probs = np.full(len(tokens), 1 / self.size)
        for length, order in enumerate(self.orders):
            context, gram = _codes(tokens, length, self.size)
            seen = _look_up(order.contexts, order.context_counts, context)
            kinds = _look_up(order.contexts, order.kinds, context)
            count = _look_up(order.grams, order.gram_counts, gram)
            lower = probs[length:]  # a view
            mixed = (count + kinds * lower) / np.maximum(seen + kinds, 1)
            lower[...] = np.where(seen > 0, mixed, lower)
        return np.log2(probs)


def fit_ngrams(tokens: NDArray[Any], order: int, *, size: int) -> NGrams:
    """Count all sequences of up to `order` tokens, for a model with Witten-Bell interpolation.

    P(c | h) = (N(h c) + T(h) P(c | h')) / (N(h) + T(h)),   P(c | nothing) from 1 / V

    N counts occurrences, T(h) the different tokens seen after the context h, and h' is h without
    its oldest token: the more often something new followed h, the more the shorter context counts.

    Args:
      tokens: the training text, shape (N,), in [0, size).
      order: n >= 1; the context has n - 1 tokens.
      size: V; size**order < 2**63.

    Returns:
      NGrams.

    Raises:
      InputError: `order` or `size` is out of range.
      ValueError: `tokens` is not one row of numbers in [0, size), or is empty.

    Example:
      >>> model = fit_ngrams(np.array([0, 1, 0, 1, 0]), 2, size=2)
      >>> (2 ** model.log2_probs(np.array([0, 1]))).round(4).tolist()
      [0.5714, 0.8095]

    Source: Witten and Bell 1991, method C; DLB 12.4.1. Interpolated as by Chen and Goodman 1998,
    with the uniform distribution below the unigrams.
    """
    if order < 1 or size < 1 or size**order >= 2**63:
        raise InputError(
            f"fit_ngrams(order, size) must be >= 1 with size**order < 2**63, got {order}, {size}"
        )
    tokens = _checked(tokens, size, "fit_ngrams")
    if not len(tokens):
        raise ValueError("fit_ngrams(tokens) must hold a token, got none")
    return NGrams(size, tuple(_count(tokens, length, size) for length in range(order)))


def compressed_bits(train: str, test: str) -> float:
    """Return how many bits xz needs for each character of a text once it has read another.

    8 (|xz(train + test)| - |xz(train)|) / len(test): a model that looks up long repetitions.

    Args:
      train: the text before.
      test: the text to code, not empty.

    Raises:
      ValueError: `test` is empty.

    Example:
      >>> compressed_bits("A rose is a rose. " * 50, "A rose is a rose. " * 50) < 0.2
      True
    """
    if not test:
        raise ValueError("compressed_bits(test) must hold a character, got none")
    before, both = (
        len(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
        for text in (train, train + test)
    )
    return 8 * (both - before) / len(test)


def _codes(
    tokens: NDArray[np.int64], length: int, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the contexts of so many tokens and those with their next token, as numbers base V."""
    context = np.zeros(max(len(tokens) - length, 0), np.int64)
    for i in range(length):
        context = context * size + tokens[i : i + len(context)]
    return context, context * size + tokens[length:]


def _count(tokens: NDArray[np.int64], length: int, size: int) -> _Order:
    context, gram = _codes(tokens, length, size)
    grams, gram_counts = np.unique(gram, return_counts=True)
    contexts, context_counts = np.unique(context, return_counts=True)
    _, kinds = np.unique(grams // size, return_counts=True)  # in the order of `contexts`
    return _Order(grams, gram_counts, contexts, context_counts, kinds)


def _look_up(
    keys: NDArray[np.int64], values: NDArray[np.int64], wanted: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the values of sorted keys; 0 where a key is absent."""
    if not len(keys):
        return np.zeros(len(wanted), np.int64)
    at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)


def _checked(tokens: NDArray[Any], size: int, function: str) -> NDArray[np.int64]:
    array = np.asarray(tokens)
    whole = array.ndim == 1 and (array.dtype.kind in "iu" or not array.size)
    if not whole or (array.size and not 0 <= array.min() <= array.max() < size):
        raise ValueError(
            f"{function}(tokens) must be one row of whole numbers in [0, {size}), "
            f"got shape {array.shape} of {array.dtype}"
        )
    return array.astype(np.int64)
