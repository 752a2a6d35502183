"""Texts as numbers: characters, bytes, or the pieces of a tokenizer file."""

import collections
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fdl.data.npy_files import check_file, reason, show
from fdl.data.text_files import read_text
from fdl.errors import InputError


class Codec(Protocol):
    """What turns texts into tokens 0, ..., size - 1 and back."""

    @property
    def size(self) -> int:
        """Number of different tokens."""
        ...

    def encode(self, text: str) -> NDArray[np.int32]:
        """Return the tokens of a text, shape (length,)."""
        ...

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens."""
        ...


class Vocabulary(NamedTuple):
    r"""Characters as tokens: the i-th symbol is token i.

    Attributes:
      symbols: different characters.
      unknown: which of them stands for all characters that are not among them; None: such a
        character is an error.

    Example:
      >>> vocabulary = Vocabulary.of("abba c")
      >>> vocabulary.symbols, vocabulary.size
      ('\ufffd abc', 5)
      >>> vocabulary.encode("cab!").tolist()
      [4, 2, 3, 0]
      >>> vocabulary.decode([4, 2, 3, 0])
      'cab\ufffd'
    """

    symbols: str
    unknown: str | None = None

    @classmethod
    def of(cls, text: str, *, least: int = 1, unknown: str | None = "\ufffd") -> "Vocabulary":
        r"""Collect the characters of a text, in the order of their code points.

        Args:
          text: the training part; what only other parts hold is unknown.
          least: how often a character must occur, >= 1; rarer ones become `unknown`.
          unknown: one character, put first if the text lacks it; None: there is none.

        Raises:
          ValueError: `unknown` is not one character, `least` is below 1, or nothing is left.
        """
        if unknown is not None and len(unknown) != 1:
            raise ValueError(f"Vocabulary.of(unknown=...) must be one character, got {unknown!r}")
        if least < 1:
            raise ValueError(f"Vocabulary.of(least=...) must be >= 1, got {least}")
        counts = collections.Counter(text)
        found = "".join(sorted(c for c, n in counts.items() if n >= least and c != unknown))
        if not found:
            raise ValueError(f"Vocabulary.of(text) must hold a character {least} times or more")
        return cls((unknown or "") + found, unknown)

    @property
    def size(self) -> int:
        """Number of symbols."""
        return len(self.symbols)

    def encode(self, text: str) -> NDArray[np.int32]:
        """Return the tokens of a text.

        Args:
          text: any length.

        Returns:
          int32, shape (length,).

        Raises:
          InputError: a character that the vocabulary lacks, where it has no `unknown`.
        """
        points = _points(text)
        symbols = _points(self.symbols)
        order = np.argsort(symbols, kind="stable")
        places = np.searchsorted(symbols[order], points).clip(max=len(symbols) - 1)
        tokens = order[places].astype(np.int32)
        missing = symbols[tokens] != points
        if missing.any():
            if self.unknown is None:
                at = int(np.argmax(missing))
                raise InputError(
                    f"the vocabulary of {self.size} characters lacks {text[at]!r}, at {at}"
                )
            tokens[missing] = self.symbols.index(self.unknown)
        return tokens

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens.

        Raises:
          ValueError: a token below 0 or from `size` on.
        """
        array = _checked(tokens, self.size)
        return _points(self.symbols)[array].astype("<u4").tobytes().decode("utf-32-le")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the vocabulary as JSON."""
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self._asdict(), file)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Vocabulary":
        """Read what `save` has written.

        Raises:
          InputError: no such file, or no vocabulary in it.
        """
        name = show(path)
        try:
            found = json.loads(read_text(path))
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"{name}: not JSON ({reason(error)})") from None
        if not (isinstance(found, dict) and found.keys() == {"symbols", "unknown"}):
            raise InputError(f"{name}: must be an object with 'symbols' and 'unknown'")
        symbols, unknown = found["symbols"], found["unknown"]
        if not (isinstance(symbols, str) and symbols and len(set(symbols)) == len(symbols)):
            raise InputError(f"{name}: 'symbols' must be a text of different characters")
        if not (unknown is None or (isinstance(unknown, str) and [*unknown] == [unknown])):
            raise InputError(f"{name}: 'unknown' must be one character or null, got {unknown!r}")
        if unknown is not None and unknown not in symbols:
            raise InputError(f"{name}: 'unknown' must be one of the symbols, got {unknown!r}")
        return cls(symbols, unknown)


class Bytes(NamedTuple):
    r"""Bytes of UTF-8 as tokens: 256 of them spell every text.

    Example:
      >>> Bytes().encode("né").tolist()
      [110, 195, 169]
      >>> Bytes().decode([110, 195, 169, 195])
      'né\ufffd'
    """

    @property
    def size(self) -> int:
        """256."""
        return 256

    def encode(self, text: str) -> NDArray[np.int32]:
        """Return the bytes of a text, int32 of shape (bytes,)."""
        return np.frombuffer(text.encode(), np.uint8).astype(np.int32)

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of bytes; what is not UTF-8, such as half a character, shows as U+FFFD.

        Raises:
          ValueError: a token below 0 or from 256 on.
        """
        return _checked(tokens, 256).astype(np.uint8).tobytes().decode(errors="replace")


class Tokenizer(NamedTuple):
    """A tokenizer read by `load_tokenizer`.

    Attributes:
      inner: of the class `tokenizers.Tokenizer`.
    """

    inner: Any

    @property
    def size(self) -> int:
        """Number of tokens, added ones included."""
        return int(self.inner.get_vocab_size())

    def encode(self, text: str) -> NDArray[np.int32]:
        """Return the tokens of a text, without those that the file puts around a sentence."""
        return np.asarray(self.inner.encode(text, add_special_tokens=False).ids, np.int32)

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens, special ones left out."""
        return str(self.inner.decode(_checked(tokens, self.size).tolist()))


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Read a `tokenizer.json` as the package `tokenizers` writes it (byte pairs, word pieces, ...).

    Raises:
      InputError: the package is not installed, no such file, or no tokenizer in it.

    Example:
      >>> load_tokenizer("no/such/tokenizer.json")
      Traceback (most recent call last):
      fdl.errors.InputError: no/such/tokenizer.json: no such file
    """
    file = check_file(path)
    try:
        import tokenizers  # type: ignore[import-not-found]
    except ImportError:
        raise InputError(
            f"{show(path)}: reading it needs the package tokenizers: pip install tokenizers"
        ) from None
    try:
        return Tokenizer(tokenizers.Tokenizer.from_file(os.fspath(file)))
    except Exception as error:  # the package raises nothing more special
        raise InputError(f"{show(path)}: not a tokenizer file ({reason(error)})") from None


def _points(text: str) -> NDArray[np.uint32]:
    # a lone surrogate, as Python makes of undecodable file names, is a character like others here
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _checked(tokens: Iterable[int], size: int) -> NDArray[np.int64]:
    given: Sequence[int] | NDArray[Any] = (
        tokens if isinstance(tokens, np.ndarray) else np.array(list(tokens), np.int64)
    )
    array = np.asarray(given, np.int64)
    if array.ndim != 1 or (array.size and not 0 <= array.min() <= array.max() < size):
        raise ValueError(f"decode(tokens) must be one row of numbers in [0, {size}), got {tokens}")
    return array
