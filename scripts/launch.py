"""Start one Python file as several processes on this machine, which form one run.

    scripts/launch -n 2 --devices 2 -- recipes/mlp.py --steps 100

For trying out, on the CPU, what a cluster does; set JAX_PLATFORMS for anything else. Each process
finds the others through FDL_COORDINATOR, FDL_PROCESSES and FDL_PROCESS (see fdl/run/processes.py).

Stdout is that of process 0. Everything else goes to stderr, each line after the index of its
process, "[1] "; the folder of --logs has one file per process.

One failing process ends all: the others get SIGTERM, and SIGKILL if that has not ended them after
--grace seconds. Ctrl-C and SIGTERM are passed on as SIGTERM; there is three times as long to save,
and a second Ctrl-C kills at once. Exit code: that of the process that failed first, 128 + n for
signal n; 75 if all were preempted and saved; 130 and 143 after Ctrl-C and SIGTERM if they did not.
"""

import argparse
import collections
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

PREEMPTED = 75  # exit code of a process that was asked to stop and has saved
LINES = 30  # of the failing process's output that are repeated at the end
SETTLE = 0.5  # seconds in which failures count as simultaneous
POLL = 0.02  # seconds
SAVING = 3  # times the grace, for processes that were asked to stop and save first
# Gloo, which carries the collectives of CPUs, prints these words from several threads at once.
GLOO = re.compile(
    r"(\[Gloo\] Rank|is connected to|peer ranks\.|Expected number of connected|peer ranks"
    r"|is :|\d|\s)+"
)
# What a process says when it ends because another has: never the first cause.
CONSEQUENCE = re.compile(
    r"error: lost another process|JAX distributed service detected fatal errors"
    r"|Gloo .*(closed|reset) by peer|scripts/launch is gone"
)
# One-line messages of fdl, equal in all processes as a rule; a colon at the end announces more.
MESSAGE = re.compile(r"(?:\[process \d+ of \d+\] |(?=error: ))(.*[^:])$")


class Parser(argparse.ArgumentParser):
    """Complains in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"launch: error: {message} (see scripts/launch --help)\n")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    assert __doc__ is not None
    title, _, text = __doc__.partition("\n\n")
    parser = Parser(
        prog="scripts/launch",
        usage="%(prog)s [-h] [-n N] [--devices N] [--port N] [--logs DIR] [--grace S] -- FILE ...",
        description=title,
        epilog=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-n", "--processes", type=int, default=2, help="processes (2)")
    parser.add_argument("--devices", type=int, default=1, help="CPU devices of each process (1)")
    parser.add_argument("--port", type=int, default=0, help="where they meet (any free port)")
    parser.add_argument("--logs", type=Path, help="folder for the output of each process")
    parser.add_argument("--grace", type=float, default=10.0, help="seconds to end by oneself (10)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="Python file and its arguments")
    options = parser.parse_args(arguments)
    options.command = options.command[options.command[:1] == ["--"] :]
    for flag, low, value in [
        ("-n", 1, options.processes),
        ("--devices", 1, options.devices),
        ("--port", 0, options.port),
        ("--grace", 0, options.grace),
    ]:
        if not value >= low:
            parser.error(f"{flag} must be >= {low}, got {value}")
    if options.port >= 2**16:
        parser.error(f"--port must be < 65536, got {options.port}")
    if not options.command:
        parser.error("no Python file to run")
    if not Path(options.command[0]).is_file():
        parser.error(f"no such file: {options.command[0]}")
    return options


@dataclass(frozen=True)
class Rank:
    """One process of the run, and what reads its output."""

    index: int
    process: subprocess.Popen[bytes]
    readers: list[threading.Thread]
    tail: collections.deque[str]  # its last lines
    log: Path


class Output:
    """Sorts the lines of all processes; called from the threads that read them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: dict[str, str] = {}  # what to say -> the first line that said it
        self._said: set[str] = set()
        self.only: int | None = None  # after a failure: the process that may still speak

    def write(self, index: int, line: str, stdout: bool) -> None:
        with self._lock:
            message = None if stdout else MESSAGE.match(line)
            if message:
                self._messages.setdefault(message[1], line)
                if index == 0:
                    self._say(message[1], line)
            elif self.only in (None, index):
                if index == 0 and stdout:
                    emit(sys.stdout, line)
                else:
                    emit(sys.stderr, f"[{index}] {line}")

    def finish(self) -> None:
        """Write what only processes other than 0 had to say."""
        with self._lock:
            for message, line in self._messages.items():
                if not CONSEQUENCE.search(message):
                    self._say(message, line)

    def _say(self, message: str, line: str) -> None:
        if message not in self._said:
            self._said.add(message)
            emit(sys.stderr, line)


def emit(stream: IO[str], line: str) -> None:
    try:
        stream.write(line + "\n")
        stream.flush()
    except BrokenPipeError:
        pass  # `scripts/launch ... | head` has seen enough, and the run goes on


def say(text: str) -> None:
    emit(sys.stderr, f"launch: {text}")


def is_noise(line: str, after_noise: bool) -> bool:
    """Mixed-up Gloo lines leave empty ones and single numbers behind."""
    if after_noise and re.fullmatch(r"[\d\s]*", line):
        return True
    return GLOO.fullmatch(line) is not None and re.search("[a-z]", line) is not None


def read(rank: Rank, stream: IO[bytes], stdout: bool, output: Output, log: IO[bytes]) -> None:
    noise = False
    for data in stream:
        log.write(data)
        log.flush()
        line = data.decode(errors="replace").rstrip("\r\n")
        noise = is_noise(line, after_noise=noise)
        if not noise:
            rank.tail.append(line)
            output.write(rank.index, line, stdout)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(options: argparse.Namespace, index: int) -> dict[str, str]:
    flags = re.sub(
        r"--xla_force_host_platform_device_count=\S*", "", os.environ.get("XLA_FLAGS", "")
    )
    threads = os.environ.get("NPROC", "")
    return {
        "JAX_PLATFORMS": "cpu",
        **os.environ,
        "XLA_FLAGS": flags.strip(),
        "JAX_NUM_CPU_DEVICES": str(options.devices),
        # XLA's thread pool; fewer threads than devices dead-lock on jax 0.10.
        "NPROC": str(max(8, 2 * options.devices, int(threads) if threads.isdecimal() else 0)),
        "PYTHONUNBUFFERED": "1",
        "FDL_START_TIMEOUT": os.environ.get("FDL_START_TIMEOUT", "120"),
        "FDL_LAUNCHER": str(os.getpid()),
        "FDL_COORDINATOR": f"127.0.0.1:{options.port}",
        "FDL_PROCESSES": str(options.processes),
        "FDL_PROCESS": str(index),
    }


def spawn(options: argparse.Namespace, index: int, logs: Path, output: Output) -> Rank:
    process = subprocess.Popen(
        [sys.executable, *options.command],
        env=environment(options, index),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches us only, and a kill its children, too
    )
    path = logs / f"process-{index}.log"
    log = open(path, "wb")  # noqa: SIM115 - its two readers go on after this function
    rank = Rank(index, process, [], collections.deque(maxlen=LINES), path)
    for stream, stdout in [(process.stdout, True), (process.stderr, False)]:
        reader = threading.Thread(
            target=read, args=(rank, stream, stdout, output, log), daemon=True
        )
        reader.start()
        rank.readers.append(reader)
    return rank


def send(ranks: Sequence[Rank], number: signal.Signals) -> None:
    for rank in ranks:
        try:
            if number == signal.SIGKILL:
                os.killpg(rank.process.pid, number)  # with all that it has started
            elif rank.process.poll() is None:
                rank.process.send_signal(number)
        except (ProcessLookupError, PermissionError):
            pass  # it has ended; macOS says the latter


def drain(ranks: Sequence[Rank]) -> None:
    """Wait for the last lines; something that outlives a process may keep its output open."""
    deadline = time.monotonic() + 1
    for rank in ranks:
        for reader in rank.readers:
            reader.join(max(0.0, deadline - time.monotonic()))


class Interrupts:
    """Counts Ctrl-C and SIGTERM."""

    def __init__(self) -> None:
        self.first: int | None = None  # the signal's number
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.first = self.first or number
        self.count += 1


def wait(
    ranks: Sequence[Rank], interrupts: Interrupts, output: Output, grace: float
) -> Rank | None:
    """Wait until all processes have ended, and make them end; return the one that failed first."""
    failed: list[Rank] = []  # in the order in which they ended
    first: Rank | None = None
    settled = deadline = float("inf")
    while running := [rank for rank in ranks if rank.process.poll() is None]:
        now = time.monotonic()
        failed += [r for r in ranks if r.process.poll() not in (None, 0) and r not in failed]
        if failed and settled == float("inf"):
            settled = now + SETTLE
            output.only = failed[0].index  # what the others say now is mostly about losing it
        if interrupts.count and deadline == float("inf"):
            deadline = now + SAVING * grace
            send(running, signal.SIGTERM)
        if now >= settled and deadline == float("inf"):
            deadline = now + grace
            # Who was preempted has agreed with the others to stop: those need no signal.
            if failed[0].process.poll() != PREEMPTED:
                first = blame(failed, output)
                send(running, signal.SIGTERM)
        if now >= deadline or interrupts.count > 1:
            send(ranks, signal.SIGKILL)
        time.sleep(POLL)
    failed += [r for r in ranks if r.process.poll() and r not in failed]
    send(ranks, signal.SIGKILL)  # what they have started and left behind
    drain(ranks)
    if interrupts.count or all(r.process.returncode in (0, PREEMPTED) for r in ranks):
        return None
    return first or blame([r for r in failed if r.process.returncode != PREEMPTED], output)


def blame(failed: Sequence[Rank], output: Output) -> Rank:
    """Choose, among processes that failed almost at once, the one that did not follow another."""
    drain(failed)
    own = [rank for rank in failed if not any(map(CONSEQUENCE.search, rank.tail))]
    first = (own or failed)[0]
    output.only = first.index
    return first


def code_of(process: subprocess.Popen[bytes]) -> int:
    return 128 - process.returncode if process.returncode < 0 else process.returncode


def report(first: Rank, count: int) -> None:
    code = code_of(first.process)
    how = f"exit code {code}"
    if first.process.returncode < 0:
        how = f"signal {-first.process.returncode} ({signal.Signals(code - 128).name})"
    if 2 <= code <= 6:  # fdl has said in a line what the matter is
        return say(f"process {first.index} of {count} ended with {how}")
    say(f"process {first.index} of {count} ended first, with {how}; its last lines ({first.log}):")
    for line in first.tail:
        emit(sys.stderr, f"[{first.index}] {line}")


def run(options: argparse.Namespace, logs: Path) -> int:
    interrupts, output = Interrupts(), Output()
    ranks = [spawn(options, index, logs, output) for index in range(options.processes)]
    first = wait(ranks, interrupts, output, options.grace)
    output.finish()
    if first:
        report(first, len(ranks))
        return code_of(first.process)
    codes = {rank.process.returncode for rank in ranks}
    if codes <= {0, PREEMPTED}:
        return max(codes)
    assert interrupts.first is not None
    say(f"stopped by {signal.Signals(interrupts.first).name}")
    return 128 + interrupts.first


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    options.port = options.port or free_port()
    if options.logs:
        try:
            options.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            say(f"error: --logs {options.logs}: {os.strerror(error.errno or 0).lower()}")
            return 2
        return run(options, options.logs)
    logs = Path(tempfile.mkdtemp(prefix="fdl-launch-"))
    code = run(options, logs)
    if code in (0, PREEMPTED):
        shutil.rmtree(logs, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
