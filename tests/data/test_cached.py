"""Arrays kept on the disk are those that were made; what is stale or damaged is made again."""

import json
import os
import stat

import numpy as np
import pytest

from fdl.data import cached
from fdl.errors import DiskError, InputError

X = np.arange(12.0).reshape(4, 3)


class Teacher:
    """Counts how often it is asked."""

    def __init__(self, factor=2.0):
        self.factor, self.asked = factor, 0

    def __call__(self):
        self.asked += 1
        return {"logits": self.factor * X, "hint": X.astype(np.float32)}

    def outputs(self, folder, x=X):
        return cached(folder, self, depends_on={"x": x, "params": [{"w": np.asarray(self.factor)}]})


def test_it_is_asked_once_and_the_arrays_are_bitwise_the_same(tmp_path):
    teacher = Teacher()
    for _ in range(3):
        kept = teacher.outputs(tmp_path)
        assert set(kept) == {"logits", "hint"}
        for name, array in teacher.outputs(tmp_path).items():
            direct = {"logits": 2 * X, "hint": X.astype(np.float32)}[name]
            assert array.dtype == direct.dtype and array.tobytes() == direct.tobytes()
    assert teacher.asked == 1
    assert isinstance(kept["logits"], np.memmap) and not kept["logits"].flags.writeable


def test_other_data_or_another_teacher_do_not_get_them(tmp_path):
    first, second = Teacher(), Teacher(3.0)
    first.outputs(tmp_path)
    np.testing.assert_array_equal(second.outputs(tmp_path)["logits"], 3 * X)
    first.outputs(tmp_path, X + 1)
    assert (first.asked, second.asked) == (2, 1)
    np.testing.assert_array_equal(first.outputs(tmp_path)["logits"], 2 * X)
    assert first.asked == 2


DAMAGES = {
    "flip": lambda f: f.write_bytes(f.read_bytes()[:-1] + bytes([f.read_bytes()[-1] ^ 1])),
    "truncate": lambda f: f.write_bytes(f.read_bytes()[:50]),
    "empty": lambda f: f.write_bytes(b""),
    "delete": lambda f: f.unlink(),
}


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("which", ["logits.npy", "about.json"])
def test_damaged_files_are_made_again_with_a_warning(how, which, tmp_path):
    teacher = Teacher()
    teacher.outputs(tmp_path)
    (file,) = tmp_path.glob(f"*/{which}")
    DAMAGES[how](file)
    with pytest.warns(UserWarning, match="is damaged; its arrays are made again"):
        np.testing.assert_array_equal(teacher.outputs(tmp_path)["logits"], 2 * X)
    teacher.outputs(tmp_path)
    assert teacher.asked == 2


def test_a_hostile_list_of_files_reaches_nothing_outside(tmp_path):
    teacher = Teacher()
    teacher.outputs(tmp_path)
    (about,) = tmp_path.glob("*/about.json")
    for listed in ({"../../secret": "0"}, ["logits"], "text", {"logits": None}):
        about.write_text(json.dumps(listed), encoding="utf-8")
        with pytest.warns(UserWarning, match="damaged"):
            np.testing.assert_array_equal(teacher.outputs(tmp_path)["logits"], 2 * X)


def test_what_was_not_finished_is_not_read(tmp_path):
    teacher = Teacher()

    def cut_off():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, cut_off, depends_on={"x": X})
    teacher.outputs(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1  # and no part is left behind


def test_bad_input_is_named(tmp_path):
    with pytest.raises(InputError, match="'words' must hold numbers"):
        cached(tmp_path, lambda: {"words": np.array(["a"])}, depends_on={"x": X})
    with pytest.raises(InputError, match=r"an identifier, got '\.\./up'"):
        cached(tmp_path, lambda: {"../up": X}, depends_on={"x": X})
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.getuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(DiskError, match="cannot be written"):
        Teacher().outputs(tmp_path / "below")


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("here")
    with pytest.raises(DiskError, match=r"file.* cannot be written: Not a directory"):
        Teacher().outputs(tmp_path / "file")
