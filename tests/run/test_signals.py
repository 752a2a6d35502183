import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fdl.run.signals import StopRequest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_request_and_stays_one(number: int) -> None:
    with StopRequest() as stop:
        assert stop.active
        assert not stop.requested(1)
        os.kill(os.getpid(), number)
        assert stop.requested(2) and stop.requested(3)


def test_handlers_are_as_before_afterwards() -> None:
    def mine(number: int, frame: object) -> None:
        caught.append(number)

    caught: list[int] = []
    read, write = os.pipe()
    os.set_blocking(write, False)
    wakeup = signal.set_wakeup_fd(write)
    terminate = signal.signal(signal.SIGTERM, mine)
    threads, files = threading.active_count(), os.listdir("/dev/fd")
    try:
        interrupt = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyError), StopRequest() as stop:
            assert signal.getsignal(signal.SIGTERM) is not mine
            raise KeyError
        assert not stop.active
        assert signal.getsignal(signal.SIGINT) is interrupt
        os.kill(os.getpid(), signal.SIGTERM)
        assert caught == [signal.SIGTERM] and not stop.requested(1)
        assert threading.active_count() == threads
        assert os.listdir("/dev/fd") == files
        assert signal.set_wakeup_fd(-1) == write
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGTERM, terminate)
        os.close(read)
        os.close(write)


def test_in_another_thread_nothing_is_listened_for() -> None:
    found: list[bool] = []

    def work() -> None:
        with StopRequest() as stop:
            found.extend([stop.active, stop.requested(1)])

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False, False]
    assert signal.getsignal(signal.SIGTERM) is before


BUSY = """
import hashlib
from fdl.run.signals import StopRequest
with StopRequest():
    print("ready", flush=True)
    # Like compiled code: minutes in the main thread during which Python runs no signal handler.
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)
"""


def test_a_second_interrupt_ends_the_process_also_inside_compiled_code() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)  # does not count
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "interrupted\n")
    assert time.monotonic() - began < 2
