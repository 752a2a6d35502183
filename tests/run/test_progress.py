import contextlib
import io
import os
import re
import sys
import termios
import time

import pytest

from fdl.run import progress as module
from fdl.run.progress import Progress


class Clock:
    """A monotonic clock that moves only when told."""

    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


class Terminal(io.StringIO):
    """What a program may take for a terminal of 100 columns."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm-256color")
    return Terminal()


def run(progress, clock, *, steps, seconds=0.01, start=0):
    with progress:
        for step in range(start + 1, steps + 1):
            clock.now += seconds if step > start + 1 else 30.0  # the first step compiles
            progress.update(step, {"loss": 1 / step} if step % 5 == 0 else None)


def test_outside_a_terminal_there_are_ten_plain_lines_with_loss_rate_and_time_left(clock):
    said = io.StringIO()
    run(Progress(2000, batch=32, stream=said), clock, steps=2000)
    lines = said.getvalue().splitlines()
    assert len(lines) == 10
    # 100 steps/s after the first: 1800 left at step 200 is 18 s; the compilation does not count.
    assert lines[0] == "step 200/2000  0:18 left  loss 0.005  100 steps/s  3.2k examples/s"
    assert lines[-1] == "step 2000/2000  took 0:50  loss 0.0005  100 steps/s  3.2k examples/s"


@pytest.mark.parametrize(("total", "start"), [(3, 0), (7, 0), (95, 0), (101, 57), (1, 0)])
def test_plain_lines_are_few_and_the_last_step_is_always_told(clock, total, start):
    said = io.StringIO()
    run(Progress(total, start, stream=said), clock, steps=total, start=start)
    lines = said.getvalue().splitlines()
    assert 1 <= len(lines) <= 10
    assert lines[-1].startswith(f"step {total}/{total}  took")


def test_steps_that_are_not_told_one_by_one_still_give_lines(clock):
    said = io.StringIO()
    with Progress(100, stream=said) as progress:
        for step in (3, 33, 66, 99, 100, 100):
            clock.now += 1.0
            progress.update(step)
    assert [line.split()[1] for line in said.getvalue().splitlines()] == [
        "33/100",
        "66/100",
        "99/100",
        "100/100",
    ]


def test_quiet_says_nothing_anywhere(clock, terminal):
    for stream in (io.StringIO(), terminal):
        run(Progress(50, quiet=True, stream=stream), clock, steps=50)
        assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar_that_is_redrawn_at_most_five_times_a_second(clock, terminal):
    run(Progress(1000, batch=10, stream=terminal), clock, steps=1000, seconds=0.01)
    said = terminal.getvalue()
    drawings = said.count("step ")
    assert 45 <= drawings <= 55  # 10 s, plus the first, the last and the one at the exit
    assert "━" in said and "1000/1000" in said
    assert re.search(r"0:05 left +loss 0.002\d* +100 steps/s +1k examples/s", said)
    assert said.count("\n") == 1 and said.rstrip("\x1b[?25h\r").endswith("\n")


def read_all(descriptor):
    """Read what has been written to the other end of a terminal."""
    os.set_blocking(descriptor, False)
    said = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            said += os.read(descriptor, 65536)
    return said.decode()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_real_terminal_is_given_back_when_the_run_breaks(monkeypatch, error):
    reader, writer = os.openpty()
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        modes = termios.tcgetattr(writer)
        with pytest.raises(error), Progress(10, stream=stream) as progress:
            progress.update(1, {"loss": 0.5})
            drawn = read_all(reader)
            raise error
        assert sys.stderr is stream and termios.tcgetattr(writer) == modes
        said = drawn + read_all(reader)
    os.close(reader)
    # The cursor is visible during the run too: kill -9 cannot be caught.
    for text in (drawn, said):
        assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")
    assert "step 1/10" in drawn and "\x1b[?1049" not in said and "\n" in said


def test_a_narrow_terminal_gets_the_text_in_one_line_without_a_bar(clock, terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    run(Progress(100, batch=10, stream=terminal), clock, steps=100)
    said = terminal.getvalue()
    assert said.count("\n") == 1
    last = said.split("\n")[0].split("\x1b[2K")[-1]
    assert last == "step 100/100  took 0:31  loss 0.01  100…"


def test_a_dumb_terminal_gets_plain_lines(clock, terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    run(Progress(100, stream=terminal), clock, steps=100)
    said = terminal.getvalue()
    assert said.count("\n") == 10 and "\x1b" not in said


def test_a_step_costs_less_than_20_microseconds_when_nothing_is_drawn(terminal):
    for stream in (terminal, io.StringIO()):
        with Progress(10**6, stream=stream) as progress:
            progress.update(1)
            progress.update(2, {"loss": 0.5})
            costs = []
            for repeat in range(20):
                began = time.perf_counter()
                for step in range(100):
                    progress.update(3 + 100 * repeat + step)
                costs.append((time.perf_counter() - began) / 100)
        assert min(costs) < 20e-6
