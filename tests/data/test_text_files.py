"""A user's own files: joined once each, and refused in one line."""

import os

import pytest

from fdl.data import load_text
from fdl.data.text_files import read_text
from fdl.errors import InputError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b.txt").write_bytes(b"second\r\nfile\r")
    (tmp_path / "a.txt").write_bytes("\ufefffirst, é".encode())
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.txt").write_text("third\n")
    return tmp_path


def test_files_and_patterns_are_joined_in_order_with_plain_line_ends(folder):
    first, second, third = "first, é\n", "second\nfile\n", "third\n"
    assert load_text(folder / "a.txt") == first
    assert load_text(f"{folder}/*.txt") == f"{first}\n{second}"
    assert load_text(f"{folder}/**/*.txt") == f"{first}\n{second}\n{third}"
    assert load_text([folder / "b.txt", folder / "a.txt"]) == f"{second}\n{first}"


def test_a_file_is_read_once_whatever_its_names(folder):
    (folder / "link.txt").symlink_to(folder / "b.txt")
    once = load_text([folder / "b.txt"])
    assert load_text(folder / "link.txt") == once
    assert load_text([folder / "b.txt", folder / "b.txt", folder / "link.txt"]) == once
    assert load_text([f"{folder}/link.txt", f"{folder}/b*"]) == once


def test_a_name_with_brackets_is_a_name_where_there_is_such_a_file(folder):
    (folder / "[a].txt").write_text("odd\n")
    assert load_text(folder / "[a].txt") == "odd\n"


BAD = {
    "gzip": (b"\x1f\x8b\x08\x00", "is compressed"),
    "UTF-16": ("text".encode("utf-16"), "is UTF-16 or binary"),
    "Latin-1": (b"one\ntwo \xe9\n", r"line 2 is not UTF-8 \(byte 0xe9\)"),
    "cut short": ("one é".encode()[:-1], r"line 1 is not UTF-8 \(byte 0xc3\)"),
    "empty": (b"", "holds no text"),
    "blank": (b" \n\n", "holds no text"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_text_is_named_in_one_line(name, tmp_path):
    content, message = BAD[name]
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"bad.txt: {message}") as caught:
        load_text(path)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_is_refused(folder):
    for path, message in {
        folder / "no.txt": "no such file",
        folder / "no*.txt": "no file has such a name",
        folder / "deep": "must be a file, is a folder",
        folder / "new\nline": "no such file",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            load_text(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="at least one file"):
        load_text([])
    os.mkfifo(folder / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        load_text(folder / "pipe")


def test_the_cap_counts_all_files_together(folder):
    sizes = [(folder / name).stat().st_size for name in ("a.txt", "b.txt")]
    both = [folder / "a.txt", folder / "b.txt"]
    assert load_text(both, max_bytes=sum(sizes)) == load_text(both)
    with pytest.raises(InputError, match=rf"b.txt: larger than the cap of {sum(sizes) - 1} bytes"):
        load_text(both, max_bytes=sum(sizes) - 1)


def test_one_file_is_read_as_it_is(folder):
    assert read_text(folder / "b.txt") == "second\r\nfile\r"
    with pytest.raises(InputError, match="larger than the cap of 3 bytes"):
        read_text(folder / "b.txt", max_bytes=3)
