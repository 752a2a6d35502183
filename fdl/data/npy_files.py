"""Reading .npy and .npz files that may be damaged or hostile.

NumPy is asked to read only after the header was seen to be honest: no Python objects, a size below
the cap, and exactly as many bytes as the shape needs. Every refusal is one line that names the
file.
"""

import math
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fdl.data.splits import Arrays
from fdl.errors import InputError

GIB = 2**30

# What the standard library and NumPy raise on damaged bytes.
_DAMAGE = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    SyntaxError,
    TypeError,
    RuntimeError,
    NotImplementedError,
    MemoryError,
    OverflowError,
    RecursionError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def check_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of a readable regular file, or raise InputError.

    Example:
      >>> check_file("no/such/file.csv")
      Traceback (most recent call last):
      fdl.errors.InputError: no/such/file.csv: no such file
    """
    name = show(path)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: cannot be opened ({reason(error)})") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise InputError(f"{name}: must be a file, is {kind}")
    if not os.access(path, os.R_OK):
        raise InputError(f"{name}: may not be read (permissions)")
    return Path(path)


def read_npz(path: str | os.PathLike[str], *, max_bytes: int = 4 * GIB) -> Arrays:
    """Read all arrays of an .npz file into memory.

    Args:
      path: the file.
      max_bytes: the largest size of all arrays together, as declared in the file.

    Returns:
      name -> array, of integers, floats, booleans or fixed-length strings in the machine's byte
      order.

    Raises:
      InputError: no such file, not an .npz, damaged, holds Python objects, or too large.

    Example:
      >>> import tempfile, os
      >>> path = os.path.join(tempfile.mkdtemp(), "a.npz")
      >>> np.savez(path, x=np.arange(3))
      >>> read_npz(path)["x"].tolist()
      [0, 1, 2]
    """
    file = check_file(path)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check_members(members, max_bytes, show(path))
            return {m.filename[:-4]: _read_member(archive, m, show(path)) for m in members}
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(f"{show(path)}: not a readable .npz file ({reason(error)})") from None


def map_npy(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Map an .npy file into memory, read-only: rows are read from disk when they are used.

    Raises:
      InputError: no such file, not an .npy, cut short, holds Python objects, or another byte order.

    Example:
      >>> import tempfile, os
      >>> path = os.path.join(tempfile.mkdtemp(), "x.npy")
      >>> np.save(path, np.arange(3))
      >>> map_npy(path).tolist()
      [0, 1, 2]
    """
    file = check_file(path)
    try:
        with file.open("rb") as stream:
            dtype = _check_header(stream, file.stat().st_size, show(path))
        if not dtype.isnative:
            raise InputError(f"{show(path)}: must be in this machine's byte order, got {dtype.str}")
        array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
        return array
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(f"{show(path)}: not a readable .npy file ({reason(error)})") from None


def show(path: str | os.PathLike[str]) -> str:
    """Return the path as one printable line."""
    text = os.fsdecode(path)
    return text if text.isprintable() else ascii(text)


def reason(error: BaseException) -> str:
    """Return an exception's message as one line of at most 120 characters."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = " ".join((text or type(error).__name__).split())
    return line if len(line) <= 120 else line[:117] + "..."


def _check_members(members: list[zipfile.ZipInfo], max_bytes: int, name: str) -> None:
    seen: set[str] = set()
    for member in (member.filename for member in members):
        if not member.endswith(".npy"):
            raise InputError(f"{name}: holds {member!r}, which is not an array")
        if member in seen:
            raise InputError(f"{name}: holds the array {member[:-4]!r} twice")
        seen.add(member)
    size = sum(member.file_size for member in members)
    if size > max_bytes:
        raise InputError(f"{name}: unpacks to {size} bytes, more than the cap of {max_bytes}")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> NDArray[Any]:
    label = f"{name}: {show(member.filename[:-4])}"
    with archive.open(member) as stream:
        dtype = _check_header(stream, member.file_size, label)
    with archive.open(member) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


def _check_header(stream: IO[bytes], size: int, name: str) -> np.dtype[Any]:
    """Return the dtype of the array in `stream`, whose data must fill `size` bytes exactly."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise InputError(f"{name}: .npy format {version} is not supported")
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise InputError(f"{name}: holds Python objects, which are refused; save plain numbers")
    if dtype.kind not in "biufUS":
        raise InputError(f"{name}: must hold numbers or strings, got {dtype}")
    needed = math.prod(shape) * dtype.itemsize
    present = size - stream.tell()
    if needed != present:
        raise InputError(f"{name}: shape {shape} needs {needed} bytes, the file holds {present}")
    return dtype
