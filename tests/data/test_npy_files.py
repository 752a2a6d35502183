import io
import os
import zipfile

import numpy as np
import pytest

from fdl.data.npy_files import map_npy, read_npz
from fdl.errors import InputError


class Trap:
    """Unpickling this would create a file: the tests look whether it is there."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def npy(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


def header(shape, descr="<f4"):
    buffer = io.BytesIO()
    fields = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, fields)
    return buffer.getvalue()


def archive(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def refused(function, path, message, **options):
    with pytest.raises(InputError, match=message) as caught:
        function(path, **options)
    text = str(caught.value)
    assert text.startswith(str(path)) and "\n" not in text and len(text) < 400


def test_read_npz_returns_what_was_saved(tmp_path):
    arrays = {
        "x": np.arange(6.0).reshape(2, 3),
        "名": np.array([1], np.uint8),
        "big": np.array([1.5], ">f8"),
    }
    np.savez_compressed(tmp_path / "a b 中.npz", **arrays)
    got = read_npz(tmp_path / "a b 中.npz")
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], array)
        assert got[name].dtype.isnative


def test_read_npz_refuses_objects_without_running_them(tmp_path):
    trap = np.array([Trap(tmp_path / "sprung")], dtype=object)
    path = archive(tmp_path / "trap.npz", [("x.npy", npy(trap))])
    refused(read_npz, path, "x: holds Python objects, which are refused")
    (tmp_path / "trap.npy").write_bytes(npy(trap))
    refused(map_npy, tmp_path / "trap.npy", "holds Python objects")
    assert not (tmp_path / "sprung").exists()


def test_read_npz_refuses_a_bomb_before_unpacking_it(tmp_path):
    content = header((2**27,), "|u1") + bytes(2**27)
    path = archive(tmp_path / "bomb.npz", [("x.npy", content)], compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**18
    refused(
        read_npz, path, "unpacks to 134217856 bytes, more than the cap of 1000000", max_bytes=10**6
    )


def test_read_npz_refuses_a_shape_that_the_data_do_not_fill(tmp_path):
    path = archive(tmp_path / "liar.npz", [("x.npy", header((10**12,)) + bytes(40))])
    refused(
        read_npz, path, r"x: shape \(1000000000000,\) needs 4000000000000 bytes, the file holds 40"
    )


@pytest.mark.parametrize("keep", [0.0, 0.2, 0.5, 0.9, 0.99])
def test_read_npz_refuses_a_file_cut_short(tmp_path, keep):
    np.savez(tmp_path / "whole.npz", x=np.arange(1000.0), y=np.arange(1000))
    content = (tmp_path / "whole.npz").read_bytes()
    path = tmp_path / "cut.npz"
    path.write_bytes(content[: int(keep * len(content))])
    refused(read_npz, path, "not a readable .npz file")


def test_read_npz_refuses_what_is_not_an_archive_of_arrays(tmp_path):
    (tmp_path / "text.npz").write_text("x,y\n1,2\n")
    refused(read_npz, tmp_path / "text.npz", "not a readable .npz file")
    path = archive(tmp_path / "zip.npz", [("notes.txt", b"hello")])
    refused(read_npz, path, "holds 'notes.txt', which is not an array")
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = archive(tmp_path / "twice.npz", [("x.npy", npy(np.ones(2)))] * 2)
    refused(read_npz, path, "holds the array 'x' twice")
    path = archive(tmp_path / "record.npz", [("x.npy", npy(np.zeros(2, "i4,f4")))])
    refused(read_npz, path, "must hold numbers or strings")


def test_a_flipped_byte_never_passes_for_another_array(tmp_path):
    arrays = {"x": np.arange(40.0), "y": np.arange(40)}
    np.savez(tmp_path / "whole.npz", **arrays)
    content = (tmp_path / "whole.npz").read_bytes()
    rng, path = np.random.default_rng(0), tmp_path / "flipped.npz"
    for place in rng.choice(len(content), 150, replace=False):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            got = read_npz(path)
        except InputError as error:
            assert "\n" not in str(error)
        else:  # a name, a date or a field that nobody reads
            for name, array in zip(got, arrays.values(), strict=True):
                np.testing.assert_array_equal(got[name], array)


def test_map_npy_reads_rows_from_the_file(tmp_path):
    array = np.arange(12, dtype=np.int16).reshape(4, 3)
    np.save(tmp_path / "x.npy", array)
    mapped = map_npy(tmp_path / "x.npy")
    np.testing.assert_array_equal(mapped[[2, 0]], array[[2, 0]])
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 1


def test_map_npy_refuses_damaged_files(tmp_path):
    path = tmp_path / "x.npy"
    path.write_bytes(npy(np.arange(100.0))[:-1])
    refused(map_npy, path, r"shape \(100,\) needs 800 bytes, the file holds 799")
    path.write_bytes(npy(np.arange(100.0)) + b"more")
    refused(map_npy, path, "needs 800 bytes, the file holds 804")
    path.write_bytes(npy(np.arange(3, dtype=">f8")))
    refused(map_npy, path, "must be in this machine's byte order, got >f8")
    path.write_bytes(b"")
    refused(map_npy, path, "not a readable .npy file")
    path.write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': [[[[[[[")
    refused(map_npy, path, "not a readable .npy file")
    path.write_bytes(npy(np.arange(3), version=(3, 0)))
    refused(map_npy, path, r"format \(3, 0\) is not supported")


def test_paths_that_are_no_files_are_refused(tmp_path):
    refused(read_npz, tmp_path / "none.npz", "no such file")
    refused(read_npz, tmp_path, "must be a file, is a folder")
    os.mkfifo(tmp_path / "pipe")
    refused(read_npz, tmp_path / "pipe", "not a regular file")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(read_npz, tmp_path / "loop", "cannot be opened")
    with pytest.raises(InputError, match=r"^'a\\nb': no such file$"):
        read_npz("a\nb")
    with pytest.raises(InputError, match="cannot be opened"):
        read_npz("x" * 300)
    with pytest.raises(InputError, match="cannot be opened"):
        read_npz("a\0b")
