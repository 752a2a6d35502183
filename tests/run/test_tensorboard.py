import errno
import io
import struct
import sys

import pytest

from fdl.run.tensorboard import TensorBoard, installed


def events(folder):
    """Read all event files of a folder as TensorBoard does: in the order of their names."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    for path in sorted(folder.glob("*tfevents*")):
        data = path.read_bytes()
        while data:
            # A TFRecord: length, its checksum, the message, its checksum.
            (length,) = struct.unpack("<Q", data[:8])
            yield event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def shown(folder):
    """Return {tag: [(step, value)]} after TensorBoard's rule: START at s forgets steps >= s."""
    series = {}
    for event in events(folder):
        if event.HasField("session_log"):
            assert event.session_log.status == event.session_log.START
            for tag, points in series.items():
                series[tag] = [point for point in points if point[0] < event.step]
        for value in event.summary.value:
            series.setdefault(value.tag, []).append((event.step, value.simple_value))
    return series


def test_figures_come_back_with_their_steps_and_what_is_no_number_is_left_out(tmp_path):
    pytest.importorskip("tensorboardX")
    board = TensorBoard(tmp_path / "new" / "board")
    board.scalars(1, {"step": 1, "loss": 0.5, "valid_loss": None, "note": "hi"})
    board.scalars(2, {"step": 2, "loss": float("nan"), "valid_loss": 0.25, "rows": 3})
    board.close()
    board.scalars(3, {"loss": 1.0})  # after the end: silently nothing
    board.close()
    assert shown(tmp_path / "new" / "board") == {
        "loss": [(1, 0.5)],
        "valid_loss": [(2, 0.25)],
        "rows": [(2, 3.0)],
    }


def test_a_resumed_run_shows_no_step_twice(tmp_path):
    pytest.importorskip("tensorboardX")
    first = TensorBoard(tmp_path)
    for step in range(1, 8):
        first.scalars(step, {"loss": 1.0})
    first.flush()  # and then the process is killed; its newest checkpoint is of step 4
    second = TensorBoard(tmp_path, start=5)
    for step in range(5, 10):
        second.scalars(step, {"loss": 2.0})
    second.close()
    first.close()
    assert len(list(tmp_path.iterdir())) == 2
    expected = [(step, 1.0) for step in range(1, 5)] + [(step, 2.0) for step in range(5, 10)]
    assert shown(tmp_path)["loss"] == expected


def test_without_tensorboardx_nothing_is_written_or_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert not installed()
    board = TensorBoard(tmp_path / "board")
    board.scalars(1, {"loss": 0.5})
    board.flush()
    board.close()
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr() == ("", "")


class SmallDisk(io.BytesIO):
    def write(self, data):
        if self.tell() + len(data) > 300:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_a_full_disk_is_an_error_in_the_caller_not_a_hang(tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX")
    monkeypatch.setattr("tensorboardX.record_writer.open_file", lambda path: SmallDisk())
    board = TensorBoard(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        for step in range(100):
            board.scalars(step, {"loss": 0.5})
