"""Texts: the embedded corpus, repeated paragraphs, and the parts to learn, choose and test with."""

import hashlib
import math
import re
from typing import NamedTuple

from fdl.errors import InputError

_EMPTY_LINES = re.compile(r"\n(?:[ \t]*\n)+")
_SLACK = 0.02  # of the text: how far a cut moves to where a paragraph ends


class TextSplit(NamedTuple):
    """A text cut in three, in its order."""

    train: str
    valid: str
    test: str

    @property
    def sha256(self) -> str:
        """Hash of the whole text, 64 hexadecimal digits: figures of other texts do not compare."""
        return hashlib.sha256("".join(self).encode()).hexdigest()


def topics() -> TextSplit:
    """Return the help topics of the running Python: 79 articles about the language.

    Source text of `help("topics")`, in the order of the topics' names, each paragraph once: they
    cite each other, and a model would be tested on what it learned. The text differs between
    versions of Python (0.37 million characters in 3.11, 0.41 in 3.13, about 104 different ones), so
    that each run computes its own baselines, and `sha256` tells texts apart.

    Returns:
      TextSplit with 80 % to train, 10 % to choose by and 10 % to test with.

    Example:
      >>> text = topics()
      >>> text.train[:22], len(text.sha256)
      ('The "assert" statement', 64)

    Source: Python's documentation, Python Software Foundation License.
    """
    from pydoc_data import topics  # not before it is asked for: half a megabyte

    articles = topics.topics
    return split_text(unique_paragraphs("\n\n".join(articles[name] for name in sorted(articles))))


def unique_paragraphs(text: str) -> str:
    r"""Keep the first of paragraphs that are equal but for white space.

    Args:
      text: paragraphs with empty lines between.

    Returns:
      The paragraphs in their order, one empty line between.

    Example:
      >>> unique_paragraphs("once\n\nmore\n\n\nonce\n")
      'once\n\nmore'
    """
    kept: dict[str, str] = {}
    for paragraph in _EMPTY_LINES.split(text):
        words = " ".join(paragraph.split())
        if words:
            kept.setdefault(words, paragraph.rstrip())
    return "\n\n".join(kept.values())


def split_text(text: str, valid: float = 0.1, test: float = 0.1) -> TextSplit:
    r"""Cut a text into its beginning, to train, and two ends, to choose by and to test with.

    Each cut moves back to the end of the paragraph, or else of the line, where one ends within two
    percent of the text; a language model then never has to go on in mid-sentence.

    Args:
      text: any text.
      valid: share of the validation part, in (0, 1).
      test: share of the test part, in (0, 1); valid + test < 1.

    Returns:
      TextSplit; joined, its parts are the text.

    Raises:
      InputError: a part would be empty.
      ValueError: a share is out of range.

    Example:
      >>> parts = split_text("one two three four\n" * 50, 0.2, 0.1)
      >>> [part.count("\n") for part in parts], parts.test[:10]
      ([35, 10, 5], 'one two th')
    """
    for name, share in {"valid": valid, "test": test, "valid + test": valid + test}.items():
        if not 0 < share < 1:
            raise ValueError(f"split_text({name}) must lie in (0, 1), got {share}")
    first = _cut(text, math.floor((1 - valid - test) * len(text)))
    second = _cut(text, math.floor((1 - test) * len(text)))
    parts = TextSplit(text[:first], text[first:second], text[second:])
    if not all(parts):
        raise InputError(f"a text of {len(text)} characters is too short to be cut in three")
    return parts


def _cut(text: str, at: int) -> int:
    for end in ("\n\n", "\n"):
        found = text.rfind(end, max(0, at - math.floor(_SLACK * len(text))), at)
        if found >= 0:
            return found + len(end)
    return at
