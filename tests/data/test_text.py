"""The corpus, repeated paragraphs and cuts."""

import hashlib

import pytest

from fdl.data import TextSplit, split_text, topics, unique_paragraphs
from fdl.errors import InputError


def test_the_corpus_is_the_running_pythons_help_each_paragraph_once():
    from pydoc_data.topics import topics as source

    text = topics()
    whole = "".join(text)
    paragraphs = [" ".join(p.split()) for p in whole.split("\n\n")]
    wanted = {" ".join(p.split()) for article in source.values() for p in article.split("\n\n")} - {
        ""
    }
    assert len(paragraphs) == len(set(paragraphs))
    assert {w for w in wanted if w not in set(paragraphs)} == set()
    assert 300_000 < len(whole) < 0.9 * sum(map(len, source.values()))
    assert text.sha256 == hashlib.sha256(whole.encode()).hexdigest()
    assert topics() == text


def test_the_corpus_is_cut_into_whole_paragraphs_80_10_10():
    text = topics()
    for part, share in zip(text, (0.8, 0.1, 0.1), strict=True):
        assert len(part) == pytest.approx(share * len("".join(text)), rel=0.25)
    assert text.train.endswith("\n\n") and text.valid.endswith("\n\n")
    assert not text.valid.startswith(("\n", " ")) and not text.test.startswith("\n")


def test_paragraphs_that_differ_by_line_breaks_or_indentation_are_one():
    text = "a b\nc\n\n  a  b c\n \t\nd\n\n\n\n  e\nf  \n\nd\n"
    assert unique_paragraphs(text) == "a b\nc\n\nd\n\n  e\nf"
    assert unique_paragraphs("\n\n \n") == ""


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("x" * 1000, None),  # nowhere to cut but in the middle
        ("line of a poem\n" * 100, "\n"),
        (("line of a poem\n" * 3 + "\n") * 100, "\n\n"),
    ],
)
def test_a_cut_is_at_the_end_of_a_paragraph_or_line_where_there_is_one_near(text, ends):
    parts = split_text(text, 0.2, 0.1)
    assert "".join(parts) == text
    for part, share in zip(parts, (0.7, 0.2, 0.1), strict=True):
        assert abs(len(part) - share * len(text)) <= 0.021 * len(text) + 1
    if ends is None:
        assert [len(part) for part in parts] == [700, 200, 100]
    else:
        assert parts.train.endswith(ends) and parts.valid.endswith(ends)


def test_each_text_has_its_hash():
    assert TextSplit("a", "b", "c").sha256 == hashlib.sha256(b"abc").hexdigest()
    assert TextSplit("a", "b", "d").sha256 != TextSplit("a", "b", "c").sha256


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(InputError, match="a text of 5 characters is too short"):
        split_text("abcde")
    for shares in ((0.0, 0.1), (0.1, 1.0), (0.5, 0.5), (float("nan"), 0.1)):
        with pytest.raises(ValueError, match=r"must lie in \(0, 1\)"):
            split_text("abc" * 100, *shares)
