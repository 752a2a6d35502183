import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl.errors import InputError
from fdl.run import agreement, processes
from fdl.run.agreement import assert_same, broadcast_int
from fdl.run.processes import Here

ROOT = Path(__file__).parents[2]
# Leaves out fdl/run/__init__.py, which brings in all that a recipe needs.
LIGHT = f"""
import sys, types

sys.modules["fdl.run"] = types.ModuleType("fdl.run")
sys.modules["fdl.run"].__path__ = [{str(ROOT / "fdl" / "run")!r}]
"""
SCRIPT = (
    LIGHT
    + """
import numpy as np
from fdl.errors import InputError
from fdl.run import processes
from fdl.run.agreement import assert_same, broadcast_int

here = processes.start()
for value in (2**63 - 1, -(2**63), 7):
    print("broadcast", broadcast_int(value - 5 * here.rank if value > 0 else value))
assert_same({"lr": 0.1, "name": "run", "none": None, "x": np.arange(3)}, "settings")
assert_same({}, "settings")
for tree in (
    {"hidden": (64, 32), "lr": 0.1 + here.rank},
    {"rate": 0.1} if here.rank else {"lr": 0.1},
    {"x": np.arange(3) * (1 + here.rank)},
):
    try:
        assert_same(tree, "settings")
    except InputError as error:
        print("refused", error)
processes.end()
"""
)


def test_processes_agree_on_a_number_and_refuse_to_differ(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "launch.py", "-n", "2", "--", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    own = done.stdout.splitlines()
    assert own[:5] == [
        f"broadcast {2**63 - 1}",
        f"broadcast {-(2**63)}",
        "broadcast 7",
        "refused settings must be the same in all processes, but lr is 0.1 in process 0 "
        "and 1.1 in process 1",
        "refused settings must be the same in all processes, but have other fields in some",
    ]
    assert own[5].startswith(
        "refused settings must be the same in all processes, but x is int64[3]"
    )
    assert [f"[1] {line}" for line in own] == done.stderr.splitlines()


@pytest.fixture
def others(monkeypatch):
    """Lets the test say what the other of two processes holds."""
    held = []

    def gather(own):
        with monkeypatch.context() as patch:
            patch.setattr(
                agreement, "_gather", lambda other: sent.append(other) or np.stack([other] * 2)
            )
            sent = []
            assert_same(held[0], "it")
        other = sent[len(asked)]
        asked.append(None)
        return np.stack([own, other])

    asked = []
    monkeypatch.setattr(processes, "_here", Here(0, 2))
    monkeypatch.setattr(agreement, "_gather", gather)
    return held


@dataclasses.dataclass
class Inner:
    rate: float | None


@dataclasses.dataclass
class Config:
    inner: Inner
    name: str = "run"


@pytest.mark.parametrize(
    "own, other, message",
    [
        (Config(Inner(None)), Config(Inner(0.5)), "but inner.rate is None in process 0 and 0.5 in"),
        (1, "1", "but the value is 1 in process 0 and '1' in process 1"),
        (0.1, np.float32(0.1), "but the value is 0.1 in process 0 and float32"),
        ({"a": [1, 2]}, {"a": [1, 3]}, "but a.1 is 2 in process 0 and 3 in process 1"),
        ({"é": "ü"}, {"é": "u"}, "but é is 'ü' in process 0 and 'u' in process 1"),
        ("x" * 100 + "a", "x" * 100 + "b", "but the value is 'xxx"),
        ([1], [1, 1], "but have other fields in some"),
        (
            Path("a"),
            Path("b"),
            r"but the value is PosixPath\('a'\) in process 0 and PosixPath\('b'",
        ),
        (np.zeros(3), np.zeros((3, 1)), r"is float64\[3\] with hash .* and float64\[3, 1\] with"),
        (np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(3, 2).T, "the value is float64"),
        (jax.random.key(0), jax.random.key(1), "the value is key"),
    ],
)
def test_what_differs_is_named(others, own, other, message):
    others.append(other)
    with pytest.raises(InputError, match=message):
        assert_same(own, "it")


@pytest.mark.parametrize(
    "own, other",
    [
        (Config(Inner(None)), Config(Inner(None))),
        (np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3))),
        (np.arange(3.0), jnp.arange(3.0)),
        (jax.random.key(3), jax.random.key(3)),
        ({"b": 1, "a": None}, {"a": None, "b": 1}),
    ],
)
def test_what_is_equal_is_accepted(others, own, other):
    others.append(other)
    assert_same(own, "it")


def test_a_lone_process_agrees_with_itself():
    assert broadcast_int(-3) == -3
    assert_same({"anything": object()}, "settings")


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_a_number_that_does_not_fit_64_bits_is_refused(value):
    with pytest.raises(
        ValueError, match=rf"broadcast_int\(value=...\) must fit 64 bits, got {value}"
    ):
        broadcast_int(value)
