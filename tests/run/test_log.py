import json
import math
import os
import random
import resource
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from fdl.errors import DiskError, InputError
from fdl.run.log import MetricsLog, read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_numbers_are_written_with_the_digits_of_their_type(path: Path) -> None:
    log = MetricsLog(path)
    log.append(
        1,
        {
            "python": 0.1,
            "f64": np.float64(1 / 3),
            "f32": np.float32(0.1),
            "jax": jnp.float32(1e-7),
            "bf16": jnp.bfloat16(0.5),
            "int": np.int32(3),
            "true": np.bool_(True),
            "text": "größe",
            "none": None,
        },
    )
    assert path.read_text(encoding="utf-8") == (
        '{"step": 1, "python": 0.1, "f64": 0.3333333333333333, "f32": 0.1, "jax": 1e-07, '
        '"bf16": 0.5, "int": 3, "true": true, "text": "größe", "none": null}\n'
    )


def test_every_float32_can_be_told_from_its_neighbours(path: Path) -> None:
    log = MetricsLog(path)
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**31, 300, dtype=np.uint32).view(np.float32)
    values = np.concatenate(
        [values[np.isfinite(values)], np.nextafter(np.float32(1), np.float32([0, 2]))]
    )
    for step, value in enumerate(values):
        log.append(step, {"v": value})
    assert np.array_equal(np.float32([record["v"] for record in log.read()]), values)


def test_what_json_lacks_is_null_and_named(path: Path) -> None:
    log = MetricsLog(path)
    values = {"a": float("nan"), "b": np.float32("-inf"), "c": 1.0, "d": math.inf}
    log.append(3, values)
    raw = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert raw == {
        "step": 3,
        "a": None,
        "b": None,
        "c": 1.0,
        "d": None,
        "nonfinite": {"a": "nan", "b": "-inf", "d": "inf"},
    }
    (record,) = log.read()
    assert math.isnan(record.pop("a")) and record == {
        "step": 3,
        "b": -math.inf,
        "c": 1,
        "d": math.inf,
    }


def test_steps_never_go_back(path: Path) -> None:
    log = MetricsLog(path)
    log.append(5, {"train_loss": 1.0})
    log.append(5, {"valid_loss": 2.0})  # an evaluation after the same step
    for again in (log, MetricsLog(path)):
        with pytest.raises(ValueError, match=r"append\(step=...\) must be >= 5, got 4"):
            again.append(4, {})
    assert [record["step"] for record in read(path)] == [5, 5]


@pytest.mark.parametrize(
    "values", [{"step": 1}, {"nonfinite": 1}, {"a": np.zeros(2)}, {"a": [1]}, {"a": 1j}]
)
def test_what_is_no_scalar_is_refused_and_not_written(path: Path, values: dict) -> None:
    log = MetricsLog(path)
    with pytest.raises(ValueError, match=r"append\(values=...\) must"):
        log.append(1, values)
    with pytest.raises(ValueError, match=r"append\(step=...\) must be >= 0, got -1"):
        log.append(-1, {})
    assert path.read_bytes() == b""


def write_steps(log: MetricsLog, first: int, last: int) -> None:
    for step in range(first, last + 1):
        log.append(step, {"loss": np.float32(1 / step), "größe": math.nan if step % 3 else 1.0})


def test_a_file_cut_anywhere_goes_on_to_the_same_bytes(path: Path, tmp_path: Path) -> None:
    write_steps(MetricsLog(tmp_path / "whole"), 1, 12)
    whole = (tmp_path / "whole").read_bytes()
    lengths = random.Random(0).sample(range(len(whole) + 1), 60)
    for length in [0, 1, len(whole) - 1, len(whole), *lengths]:
        path.write_bytes(whole[:length])  # as a kill leaves it
        done = len(read(path))
        restored = min(done, 4 * (done // 4))  # checkpoints lie 4 steps apart
        log = MetricsLog(path)
        log.truncate_after(restored)
        assert [record["step"] for record in log.read()] == list(range(1, restored + 1))
        write_steps(log, restored + 1, 12)
        assert path.read_bytes() == whole


def test_a_line_that_lacks_only_its_end_is_kept(path: Path) -> None:
    path.write_text('{"step": 1, "loss": 0.5}')
    MetricsLog(path).append(2, {"loss": 0.25})
    assert [record["loss"] for record in read(path)] == [0.5, 0.25]


def test_truncating_drops_what_comes_after(path: Path) -> None:
    log = MetricsLog(path)
    for step in (1, 2, 2, 5):
        log.append(step, {})
    log.truncate_after(9)
    assert len(log.read()) == 4
    log.truncate_after(3)
    assert [record["step"] for record in log.read()] == [1, 2, 2]
    log.append(3, {})
    log.truncate_after(0)
    assert path.read_bytes() == b""
    log.append(0, {})


@pytest.mark.parametrize("line", ["garbage", "[1]", '{"loss": 1}', '{"step": "1"}', "", "\xff"])
def test_garbage_in_the_middle_is_named_by_its_line(path: Path, line: str) -> None:
    path.write_bytes(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n'.encode("latin-1"))
    for use in (read, MetricsLog):
        with pytest.raises(InputError, match="metrics.jsonl line 2 is not a record"):
            use(path)


def test_reading_beside_a_writer_changes_nothing(path: Path) -> None:
    path.write_bytes(b'{"step": 1}\n{"step": 2, "lo')
    assert read(path) == [{"step": 1}]
    assert path.read_bytes().endswith(b'"lo')


def test_a_missing_file_is_one_line(path: Path) -> None:
    with pytest.raises(InputError, match="metrics.jsonl cannot be read: No such file"):
        read(path)
    with pytest.raises(DiskError, match="cannot be written: no such file"):
        MetricsLog(path.parent / "absent/metrics.jsonl")
    log = MetricsLog(path)
    path.unlink()
    with pytest.raises(DiskError, match="cannot be written"):
        log.append(1, {})


def test_a_full_disk_is_one_line_and_loses_no_record(path: Path) -> None:
    log = MetricsLog(path)
    log.append(1, {"loss": 1.0})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
    try:
        with pytest.raises(DiskError, match=r"metrics.jsonl cannot be written: .*\d bytes free\)$"):
            log.append(2, {"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log = MetricsLog(path)
    log.append(2, {"loss": 2.0})
    log.sync()
    assert [record["loss"] for record in log.read()] == [1.0, 2.0]


def test_a_log_holds_no_open_file(path: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    log = MetricsLog(path)
    log.append(1, {})
    log.sync()
    assert len(os.listdir("/dev/fd")) == before
