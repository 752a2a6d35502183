import os
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from fdl.run import watchdog as module
from fdl.run.watchdog import Watchdog

ROOT = Path(__file__).parents[2]
# Leaves out fdl/run/__init__.py, which brings in all that a recipe needs.
LIGHT = f"""
import sys, types

sys.modules["fdl.run"] = types.ModuleType("fdl.run")
sys.modules["fdl.run"].__path__ = [{str(ROOT / "fdl" / "run")!r}]
"""


@pytest.fixture
def left(monkeypatch):
    """What was given to `_leave`, which here does not end the process."""
    left = []
    monkeypatch.setattr(module, "_leave", lambda beats, idle: left.append((beats, idle)))
    return left


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_stuck_process_ends_with_code_1_and_says_where_it_was(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        LIGHT + "import time\nfrom fdl.run.watchdog import Watchdog\n"
        "dog = Watchdog(0.3)\ndog.beat()\ndog.beat()\ntime.sleep(100)\n"
    )
    line = script.read_text().count("\n")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, timeout=90
    )
    assert done.returncode == 1
    first, *stacks = done.stderr.decode().splitlines()
    assert first == f"stuck: no step for 0 s, after 2 steps; it is at {script}:{line} in <module>:"
    assert f'  File "{script}", line {line} in <module>' in stacks


def test_a_beat_in_time_keeps_it_quiet_and_the_next_missing_one_does_not(left):
    with Watchdog(0.5) as dog:
        for _ in range(20):
            dog.beat()
            time.sleep(0.05)
        assert not left
        begin = time.monotonic()
        wait_for(lambda: left)
        assert time.monotonic() - begin > 0.3
    assert left[0][0] == 20


def test_the_time_until_the_first_beat_has_its_own_limit(left):
    with Watchdog(0.1, first=60):
        time.sleep(0.5)
    assert not left
    with Watchdog(60, first=0.1):
        wait_for(lambda: left)
    assert left[0][0] == 0


def test_a_stopped_watchdog_is_quiet(left):
    with Watchdog(0.1) as dog:
        dog.beat()
    time.sleep(0.5)
    assert not left


def test_time_in_which_the_whole_process_stood_still_does_not_count(left, monkeypatch):
    asked = []

    def monotonic():
        asked.append(None)
        return 1000.0 * len(asked)  # each time seems to come 1000 s after the last

    monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=monotonic))
    with Watchdog(1.0) as dog:  # which looks every 0.1 s, and counts 0.2 s each time
        dog.beat()
        wait_for(lambda: left)
    assert len(asked) >= 6
    assert left[0][1] == pytest.approx(1.0)


def test_none_watches_nothing_and_starts_no_thread():
    before = threading.active_count()
    with Watchdog(None) as dog:
        dog.beat()
        assert threading.active_count() == before


@pytest.mark.parametrize("name, value", [("seconds", 0), ("seconds", -1.0), ("first", 0)])
def test_a_limit_that_is_not_positive_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"Watchdog\({name}=...\) must be > 0, got {value}"):
        Watchdog(**{name: value})


def test_a_main_thread_inside_jax_is_told_from_one_that_is_stuck_by_itself():
    def wait():
        time.sleep(0.5)

    seen = []
    for name in ("jax._src.array", "jaxtyping"):
        in_module = types.FunctionType(wait.__code__, {"__name__": name, "time": time})
        asker = threading.Timer(0.2, lambda: seen.append(module._main_thread()))
        asker.start()
        in_module()
        asker.join()
    (inside, is_inside), (own, is_own) = seen
    assert is_inside and not is_own
    this = "test_a_main_thread_inside_jax_is_told_from_one_that_is_stuck_by_itself"
    assert inside.startswith(f"it waits inside JAX at {__file__}:") and inside.endswith(this)
    assert own.startswith(f"it is at {__file__}:") and own.endswith("in wait")
