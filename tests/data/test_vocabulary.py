"""Texts to tokens and back: by characters, by bytes, by the pieces of a tokenizer file."""

import json
import sys

import numpy as np
import pytest

from fdl.data import Bytes, Vocabulary, load_tokenizer
from fdl.errors import InputError

TEXT = "naïve 日本 \U0001f600 \t\n end"


@pytest.mark.parametrize("codec", [Vocabulary.of(TEXT), Bytes()], ids=["characters", "bytes"])
def test_a_text_comes_back(codec):
    tokens = codec.encode(TEXT)
    assert tokens.dtype == np.int32 and 0 <= tokens.min() <= tokens.max() < codec.size
    assert codec.decode(tokens) == TEXT
    assert codec.decode(tokens.tolist()) == TEXT
    assert codec.encode("").shape == (0,) and codec.decode([]) == ""


def test_characters_are_numbered_by_their_place_in_the_vocabulary():
    vocabulary = Vocabulary("zéa", None)
    assert vocabulary.encode("aéza").tolist() == [2, 1, 0, 2]
    assert vocabulary.decode(np.array([0, 0, 1])) == "zzé"


def test_bytes_are_those_of_utf_8():
    assert Bytes().encode(TEXT).tolist() == list(TEXT.encode())
    assert Bytes().decode([0xFF, 65]) == "\ufffdA"


def test_a_character_outside_the_vocabulary_becomes_the_unknown_one_or_an_error():
    known = Vocabulary.of("abc", unknown="?")
    assert known.symbols == "?abc"
    assert known.decode(known.encode("cab!é")) == "cab??"
    assert Vocabulary.of("a?b", unknown="?").symbols == "?ab"  # not twice
    for other in ("é", "\U0001f600", "\x00"):  # above, far above and below all symbols
        with pytest.raises(InputError, match=r"of 3 characters lacks .*, at 2"):
            Vocabulary.of("abc", unknown=None).encode("ab" + other)


def test_rare_characters_are_unknown():
    vocabulary = Vocabulary.of("aaabbc", least=2)
    assert vocabulary.symbols == "\ufffdab"
    assert vocabulary.encode("abc").tolist() == [1, 2, 0]


def test_a_vocabulary_is_the_same_from_any_order_of_the_text():
    assert Vocabulary.of("cab") == Vocabulary.of("bbca")


def test_a_saved_vocabulary_comes_back(tmp_path):
    for vocabulary in (Vocabulary.of(TEXT), Vocabulary.of("\ud800\x00a", unknown=None)):
        vocabulary.save(tmp_path / "v.json")
        assert Vocabulary.load(tmp_path / "v.json") == vocabulary


BAD = {
    "text": ("abc", "not JSON"),
    "deep": ("[" * 100_000, "not JSON"),
    "list": ("[]", "must be an object"),
    "more": ('{"symbols": "ab", "unknown": null, "x": 1}', "must be an object"),
    "number": ('{"symbols": 3, "unknown": null}', "'symbols' must be a text"),
    "empty": ('{"symbols": "", "unknown": null}', "'symbols' must be a text"),
    "twice": ('{"symbols": "aba", "unknown": null}', "'symbols' must be a text of different"),
    "long": ('{"symbols": "ab", "unknown": "ab"}', "'unknown' must be one character"),
    "nothing": ('{"symbols": "ab", "unknown": ""}', "'unknown' must be one character"),
    "other": ('{"symbols": "ab", "unknown": "c"}', "'unknown' must be one of the symbols"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_damaged_file_is_refused_in_one_line(name, tmp_path):
    content, message = BAD[name]
    (tmp_path / "v.json").write_text(content)
    with pytest.raises(InputError, match=rf"v.json: {message}") as caught:
        Vocabulary.load(tmp_path / "v.json")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such file"):
        Vocabulary.load(tmp_path / "other.json")


@pytest.mark.parametrize("codec", [Vocabulary.of("ab"), Bytes()], ids=["characters", "bytes"])
def test_numbers_that_are_no_tokens_are_refused(codec):
    for tokens in ([codec.size], [-1], np.zeros((2, 2), int)):
        with pytest.raises(ValueError, match=rf"numbers in \[0, {codec.size}\)"):
            codec.decode(tokens)


@pytest.mark.parametrize("options", [{"unknown": "??"}, {"unknown": ""}, {"least": 0}])
def test_arguments_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="Vocabulary.of"):
        Vocabulary.of("abc", **options)
    with pytest.raises(ValueError, match="must hold a character"):
        Vocabulary.of("")


def test_a_tokenizer_file_without_its_package_is_refused_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(InputError, match="needs the package tokenizers: pip install tokenizers"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_a_tokenizer_file_is_read_where_its_package_is_installed(tmp_path):
    pytest.importorskip("tokenizers")
    words = {"[UNK]": 0, "the": 1, "cat": 2, "[CLS]": 3}
    content = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": 3,
                "content": "[CLS]",
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
        ],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"},
    }
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    tokenizer = load_tokenizer(path)
    assert tokenizer.size == 4
    assert tokenizer.encode("the cat the dog").tolist() == [1, 2, 1, 0]
    assert tokenizer.decode(np.array([3, 1, 2])) == "the cat"
    path.write_text("{}")
    with pytest.raises(InputError, match="tokenizer.json: not a tokenizer file"):
        load_tokenizer(path)
