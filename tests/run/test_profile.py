import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from fdl.run.profile import profile


def traced(folder, first, last, steps, error=None):
    """Run marked steps; return the marks that the trace holds."""
    step = jax.jit(lambda x: jnp.tanh(x @ x))
    x = jnp.ones((8, 8))
    try:
        with profile(folder, first, last) as done:
            for i in range(1, steps + 1):
                with jax.profiler.TraceAnnotation(f"mark_{i}"):
                    x = step(x)
                done(x)
            if error is not None:
                raise error
    except ZeroDivisionError:
        pass
    (trace,) = (folder / "profile").rglob("*.trace.json.gz")
    (planes,) = (folder / "profile").rglob("*.xplane.pb")
    assert planes.stat().st_size > 0
    names = {
        event.get("name", "")
        for event in json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    }
    return sorted(int(name[5:]) for name in names if name.startswith("mark_"))


def test_the_trace_holds_just_the_steps_asked_for(tmp_path):
    assert traced(tmp_path, 3, 5, steps=8) == [3, 4, 5]


def test_the_first_step_can_be_traced(tmp_path):
    assert traced(tmp_path, 1, 1, steps=3) == [1]


@pytest.mark.parametrize("error", [None, ZeroDivisionError()])
def test_a_run_that_ends_early_leaves_a_whole_trace(tmp_path, error):
    assert traced(tmp_path, 2, 100, steps=4, error=error) == [2, 3, 4]


def test_a_run_too_short_to_be_traced_leaves_nothing(tmp_path):
    with profile(tmp_path) as done:
        done(None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("first", "last"), [(0, 5), (5, 4)])
def test_an_empty_range_is_refused(tmp_path, first, last):
    with pytest.raises(ValueError, match="1 <= first <= last, got"), profile(tmp_path, first, last):
        pass
