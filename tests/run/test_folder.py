import dataclasses
import errno
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from fdl.errors import DiskError, InputError, LockedError
from fdl.run.folder import (
    config_changes,
    lock,
    open_folder,
    read_config,
    write_config,
    write_text,
)

ROOT = Path(__file__).resolve().parents[2]


def holding_a_run(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder / "config.json", {"lr": 0.1})
    return folder


# open_folder


def test_new_runs_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = open_folder(None, "mlp", resume=False)
    (tmp_path / "runs/mlp/notes").mkdir()
    (tmp_path / "runs/mlp/7").mkdir()
    found = [first, open_folder(None, "mlp", resume=False), open_folder(None, "gan", resume=False)]
    assert found == [tmp_path / "runs" / name for name in ("mlp/1", "mlp/8", "gan/1")]
    assert all(folder.is_dir() for folder in found)


def test_runs_that_start_at_once_take_different_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(open_folder(None, "mlp", resume=False)))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(folder.name) for folder in found) == list(range(1, 17))


def test_resume_takes_the_highest_number_that_holds_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="there is no run of mlp in"):
        open_folder(None, "mlp", resume=True)
    for number in (2, 10, 9):
        holding_a_run(tmp_path / f"runs/mlp/{number}")
    (tmp_path / "runs/mlp/11").mkdir()  # ended before it began
    assert open_folder(None, "mlp", resume=True) == tmp_path / "runs/mlp/10"


def test_a_folder_with_a_run_is_not_taken_for_another(tmp_path: Path) -> None:
    folder = holding_a_run(tmp_path / "a")
    with pytest.raises(InputError, match="holds a run; --resume continues it, another --out"):
        open_folder(str(folder), "mlp", resume=False)
    assert open_folder(str(folder), "mlp", resume=True) == folder


def test_saved_checkpoints_are_a_run_though_its_settings_are_lost(tmp_path: Path) -> None:
    (tmp_path / "a/checkpoints/5").mkdir(parents=True)
    with pytest.raises(InputError, match="holds a run"):
        open_folder(str(tmp_path / "a"), "mlp", resume=False)


def test_a_run_that_never_began_can_be_started_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a/checkpoints").mkdir(parents=True)
    (tmp_path / "a/.lock").write_text("")
    assert open_folder(str(tmp_path / "a"), "mlp", resume=False) == tmp_path / "a"
    with pytest.raises(InputError, match="--resume: .*a holds no run"):
        open_folder(str(tmp_path / "a"), "mlp", resume=True)


@pytest.mark.parametrize("name", ["a b", "größe 中文 🙂", "x" * 255, "-", "a/b/c/d", "'\"$(x)"])
def test_any_name_a_file_system_takes_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = open_folder(name, "mlp", resume=False)
    assert folder == tmp_path / name
    with lock(folder):
        write_config(folder / "config.json", {})
    assert open_folder(name, "mlp", resume=True) == folder


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "x" * 256, "\udcff/" * 3000, "file", "file/a"])
def test_a_name_that_cannot_be_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    for resume in (False, True):
        with pytest.raises(InputError) as caught:
            open_folder(name, "mlp", resume=resume)
        assert "\n" not in str(caught.value)


def test_a_circle_of_links_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for out in (tmp_path / "a", tmp_path / "a/c"):
        with pytest.raises(InputError, match="cannot be used"):
            open_folder(str(out), "mlp", resume=False)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EIO])
def test_a_folder_that_cannot_be_written_is_the_disks_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # as root, permissions refuse nothing
    reason = os.strerror(number).lower()
    with pytest.raises(DiskError, match=rf"a cannot be written: {reason} \(\d+ bytes free\)$"):
        open_folder(str(tmp_path / "a"), "mlp", resume=False)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a read-only file system")
def test_a_real_read_only_file_system_is_one_line() -> None:
    with pytest.raises((DiskError, InputError), match="/proc/fdl cannot be"):
        open_folder("/proc/fdl", "mlp", resume=False)


# lock

SECOND = """
import sys, time
from fdl.errors import LockedError
from fdl.run.folder import lock
try:
    with lock(sys.argv[1]):
        print("not refused", flush=True)
except LockedError as error:
    print(error, flush=True)
sys.stdin.readline()
with lock(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SECOND, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as other:
        with lock(tmp_path):
            message = other.stdout.readline().rstrip("\n")
            start = (
                f"{tmp_path} is in use by process {os.getpid()} on {socket.gethostname()}, since "
            )
            assert message.startswith(start)
            # The first is unhurt by who came second.
            assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
        other.stdin.write("go\n")
        other.stdin.flush()
        assert other.stdout.readline() == "locked\n"
        began = time.monotonic()
        with pytest.raises(LockedError, match=f"in use by process {other.pid} on"), lock(tmp_path):
            pass
        assert time.monotonic() - began < 2
        other.kill()
    with lock(tmp_path):  # who was killed has lost it
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_a_lock_is_given_back_also_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), lock(tmp_path):
        raise KeyError
    assert (tmp_path / ".lock").read_text() == ""  # or another machine would have to ask a person
    with lock(tmp_path), pytest.raises(LockedError), lock(tmp_path):
        pass


@pytest.mark.parametrize("owner", ["", "garbage\xff", "[1]", "{}"])
def test_a_lock_file_without_an_owner_is_free(tmp_path: Path, owner: str) -> None:
    (tmp_path / ".lock").write_text(owner)
    with lock(tmp_path):
        pass


def test_a_dead_process_of_this_machine_holds_nothing(tmp_path: Path) -> None:
    record = {"host": socket.gethostname(), "pid": os.getpid(), "since": "long ago"}
    (tmp_path / ".lock").write_text(json.dumps(record))
    with lock(tmp_path):
        pass


def test_an_owner_on_another_machine_is_left_to_a_person(tmp_path: Path) -> None:
    record = {"host": "elsewhere", "pid": 7, "since": "2026-01-01 00:00:00"}
    (tmp_path / ".lock").write_text(json.dumps(record))
    text = r"process 7 on elsewhere, since 2026-01-01 00:00:00; if that is over, delete .*\.lock$"
    with pytest.raises(LockedError, match=text), lock(tmp_path):
        pass
    (tmp_path / ".lock").unlink()
    with lock(tmp_path):
        pass


def test_a_folder_that_is_gone_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="cannot be written"), lock(tmp_path / "absent"):
        pass


# files


def test_settings_come_back(tmp_path: Path) -> None:
    config = {"größe": "中文", "lr": 0.1, "n": 3, "sizes": [1, 2], "none": None, "net": {"a": True}}
    write_config(tmp_path / "config.json", config)
    assert read_config(tmp_path / "config.json") == config
    assert "größe" in (tmp_path / "config.json").read_text(encoding="utf-8")


def test_settings_are_written_as_plain_json(tmp_path: Path) -> None:
    @dataclasses.dataclass
    class Settings:
        out: Path
        clip: float
        sizes: tuple[int, ...]

    settings = Settings(Path("a/b"), math.inf, (2, 3))
    write_config(tmp_path / "c.json", {"settings": settings, "loss": np.float32(0.5)})
    text = (tmp_path / "c.json").read_text()
    strict = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert strict == {"settings": {"out": "a/b", "clip": "inf", "sizes": [2, 3]}, "loss": 0.5}


def test_what_json_cannot_hold_is_refused_and_nothing_written(tmp_path: Path) -> None:
    for value in (object(), {1, 2}, np.zeros(2), 1j):
        with pytest.raises(TypeError, match="must be text, numbers or None"):
            write_config(tmp_path / "c.json", {"a": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b"null", b"[" * 100_000])
def test_garbage_instead_of_settings_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match="config.json") as caught:
        read_config(tmp_path / "config.json")
    assert "\n" not in str(caught.value)


def test_missing_settings_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="config.json cannot be read: no such file"):
        read_config(tmp_path / "config.json")


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path / "a.txt", "old")

    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(DiskError, match=r"a.txt cannot be written: .*bytes free\)"):
            write_text(tmp_path / "a.txt", "new" * 1000)
    with (tmp_path / "a.txt").open() as reader:  # who has it open is not disturbed
        write_text(tmp_path / "a.txt", "new")
        assert reader.read() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    with pytest.raises(DiskError):
        write_text(tmp_path / "absent" / "a.txt", "new")


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / ("x" * 255), "a")
    assert (tmp_path / ("x" * 255)).read_text() == "a"


def test_changes_are_told_by_path_and_value() -> None:
    old = {"lr": 0.1, "net": {"width": 8, "unit": "relu"}, "sizes": (1, 2), "gone": None}
    new = {"lr": 0.1, "net": {"width": 16, "unit": "relu"}, "sizes": [1, 2], "data": "x"}
    assert config_changes(old, old) == config_changes({}, {}) == []
    assert config_changes(old, new) == [
        'data: absent -> "x"',
        "gone: null -> absent",
        "net.width: 8 -> 16",
    ]


def test_settings_do_not_change_by_being_written(tmp_path: Path) -> None:
    settings = {
        "clip": math.inf,
        "sizes": (1, 2),
        "lr": 1e-3,
        "one": 1.0,
        "out": Path("a"),
        "e": {},
    }
    write_config(tmp_path / "c.json", settings)
    assert config_changes(read_config(tmp_path / "c.json"), settings) == []
    assert config_changes({"a": 1}, {"a": True}) == ["a: 1 -> true"]
