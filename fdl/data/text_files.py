"""Texts of the user's own; whatever is wrong with a file is named in one line."""

import glob
import os
from collections.abc import Iterable, Sequence

from fdl.data.npy_files import check_file, reason, show
from fdl.errors import InputError

_GZIP_OR_ZIP = (b"\x1f\x8b", b"PK\x03\x04")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def load_text(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, max_bytes: int = 2**28
) -> str:
    r"""Read text files and join them with an empty line between.

    UTF-8, with or without byte order mark; any line ends, which become "\n". Links are followed. A
    file that is named twice, also by another link, is read once: it would be learned and tested.

    Args:
      paths: files and patterns such as "notes/**/*.md", one or several; the files of a pattern come
        in the order of their names.
      max_bytes: the largest size of all files together.

    Returns:
      The text.

    Raises:
      InputError: no such file, no match for a pattern, a folder, no text in UTF-8, nothing but
        white space, or too large.

    Example:
      >>> import tempfile, pathlib
      >>> folder = pathlib.Path(tempfile.mkdtemp())
      >>> for name in "ab":
      ...     _ = (folder / f"{name}.txt").write_text(f"This is {name}.\n")
      >>> load_text(folder / "*.txt")
      'This is a.\n\nThis is b.\n'
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else paths
    texts, seen, left = [], set[str](), max_bytes
    for path in _files(given):
        if (real := os.path.realpath(path)) not in seen:
            seen.add(real)
            content = _read(path, left, f"the cap of {max_bytes} bytes")
            left -= len(content)
            text = _decode(content, show(path)).replace("\r\n", "\n").replace("\r", "\n")
            if not text.strip():
                raise InputError(f"{show(path)}: holds no text")
            texts.append(text if text.endswith("\n") else text + "\n")
    if not texts:
        raise InputError("load_text(paths) must name at least one file, got none")
    return "\n".join(texts)


def read_text(path: str | os.PathLike[str], *, max_bytes: int = 2**28) -> str:
    """Return the content of one file in UTF-8 as it is, but for a byte order mark.

    Raises:
      InputError: one line that names the file and the rule it breaks.

    Example:
      >>> read_text("no/such/file.txt")
      Traceback (most recent call last):
      fdl.errors.InputError: no/such/file.txt: no such file
    """
    return _decode(_read(path, max_bytes, f"the cap of {max_bytes} bytes"), show(path))


def _files(paths: Iterable[str | os.PathLike[str]]) -> Iterable[str | os.PathLike[str]]:
    for path in paths:
        name = os.fspath(path)
        if os.path.lexists(name) or not glob.has_magic(name):
            yield path
            continue
        found = sorted(f for f in glob.glob(name, recursive=True) if not os.path.isdir(f))
        if not found:
            raise InputError(f"{show(path)}: no file has such a name")
        yield from found


def _read(path: str | os.PathLike[str], max_bytes: int, cap: str) -> bytes:
    try:
        with check_file(path).open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise InputError(f"{show(path)}: cannot be read ({reason(error)})") from None
    if len(content) > max_bytes:
        raise InputError(f"{show(path)}: larger than {cap}")
    return content


def _decode(content: bytes, name: str) -> str:
    if content.startswith(_GZIP_OR_ZIP):
        raise InputError(f"{name}: is compressed (gzip or zip); unpack it first")
    if content.startswith(_UTF_16) or b"\0" in content:
        raise InputError(f"{name}: is UTF-16 or binary, not a text in UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise InputError(f"{name}: line {line} is not UTF-8 (byte 0x{byte:02x})") from None
