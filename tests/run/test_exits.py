import dataclasses
import errno

import pytest

from fdl.errors import DiskError, InputError, LockedError
from fdl.run.exits import explain


@dataclasses.dataclass(frozen=True)
class Config:
    batch: int = 32
    accumulate: int = 1


def test_a_long_message_is_cut_to_three_lines():
    code, message = explain(InputError("\n".join("abcdef")))
    assert (code, message) == (2, "error: a\nb\n... and 4 more lines")
    assert explain(InputError("a\nb\nc"))[1] == "error: a\nb\nc"
    assert explain(LockedError())[1] == "error: LockedError"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_full_or_read_only_disk_has_code_6_whoever_met_it(number):
    code, message = explain(OSError(number, "cannot write", "out/log"))
    assert code == 6 and "out/log" in message
    assert explain(OSError(number, "cannot write"))[0] == 6  # as writing to an open file says it
    assert explain(DiskError("out is full")) == (6, "error: out is full")


def test_an_operating_system_error_that_names_a_file_is_no_bug():
    gone = FileNotFoundError(errno.ENOENT, "No such file", "out/metrics.jsonl")
    assert explain(gone) == (6, "error: [Errno 2] No such file: 'out/metrics.jsonl'")
    assert explain(ConnectionResetError(errno.ECONNRESET, "reset")) == (1, None)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12884901888 bytes.\nBuffers:"),
        RuntimeError("INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        MemoryError("Unable to allocate 9 GiB for an array"),
    ],
)
def test_out_of_memory_says_how_much_and_names_the_flags_of_the_recipe(error):
    code, message = explain(error, Config())
    first = str(error).splitlines()[0]
    assert code == 1
    assert message == (
        f"error: out of memory ({first}); try a smaller --batch or more --accumulate"
    )


def test_other_errors_are_bugs():
    for error in (ValueError("RESOURCE_EXHAUSTED"), RuntimeError("no"), KeyError("batch")):
        assert explain(error, Config) == (1, None)
