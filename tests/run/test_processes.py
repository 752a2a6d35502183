import atexit
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fdl.errors import InputError
from fdl.run import processes
from fdl.run.processes import Here

ROOT = Path(__file__).parents[2]
# Leaves out fdl/run/__init__.py, which brings in all that a recipe needs.
LIGHT = f"""
import sys, types

sys.modules["fdl.run"] = types.ModuleType("fdl.run")
sys.modules["fdl.run"].__path__ = [{str(ROOT / "fdl" / "run")!r}]
"""
BEGIN = (
    LIGHT
    + """
import os, signal, sys, time
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from fdl.errors import InputError
from fdl.run import processes
from fdl.run.watchdog import Watchdog

here = processes.start()
mesh = Mesh(np.array(jax.devices()), ("data",))
add = jax.jit(
    jax.shard_map(
        lambda x: jax.lax.psum(x.sum(), "data"), mesh=mesh, in_specs=P("data"), out_specs=P()
    )
)
own = 10.0 * here.rank + np.arange(jax.local_device_count())
x = jax.make_array_from_process_local_data(NamedSharding(mesh, P("data")), own)
guilty = len(sys.argv) > 1 and here.rank == int(sys.argv[1])


def train(steps=10**6):
    for _ in range(steps):
        float(add(x))


float(add(x))
print("begin", time.time(), file=sys.stderr)
"""
)


def start(tmp_path, text, *options, arguments=(), **environment):
    script = tmp_path / "script.py"
    script.write_text(BEGIN + text)
    command = [sys.executable, ROOT / "scripts" / "launch.py", "--devices", "2", *options]
    return subprocess.Popen(
        [*command, "--", script, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "NPROC": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(tmp_path, text, *options, **keywords):
    """Return exit code, stdout, stderr and the seconds after "begin"."""
    process = start(tmp_path, text, *options, **keywords)
    out, err = process.communicate(timeout=170)
    began = [float(when) for when in re.findall(r"begin ([\d.]+)", err)]
    return process.returncode, out, err, time.time() - min(began, default=float("nan"))


def test_two_processes_of_two_devices_add_up_over_all_of_them(tmp_path):
    text = (
        "print(float(add(x)), here, processes.is_main(), processes.label())\n"
        "print(os.environ['NPROC'], jax.device_count())\nprocesses.end()"
    )
    code, out, err, _ = run(tmp_path, text)
    assert code == 0
    # 0 + 1 + 10 + 11, each number on one device.
    expected = ["22.0 Here(rank={0}, size=2) {1} [process {0} of 2] ", "8 4"]
    assert out.splitlines() == [line.format(0, True) for line in expected]
    assert [line for line in err.splitlines() if "begin" not in line] == [
        "[1] " + line.format(1, False) for line in expected
    ]


def test_a_killed_process_is_named(tmp_path):
    text = "if guilty: os.kill(os.getpid(), signal.SIGKILL)\ntrain()"
    code, _, err, seconds = run(tmp_path, text, "--grace", "1", arguments=["1"])
    assert code == 128 + 9
    assert seconds < 15
    assert "process 1 of 2 ended first, with signal 9 (SIGKILL)" in err


@pytest.mark.slow
def test_the_traceback_of_a_bug_is_the_last_to_be_seen(tmp_path):
    text = "if guilty: raise ZeroDivisionError('in here')\ntrain()"
    code, _, err, seconds = run(tmp_path, text, arguments=["0"])
    assert code == 1
    assert seconds < 15
    assert "[0] [process 0 of 2] failed:\n[0] Traceback (most recent call last):" in err
    assert "process 0 of 2 ended first, with exit code 1" in err
    assert err.rstrip().endswith("[0] ZeroDivisionError: in here")


@pytest.mark.slow
@pytest.mark.parametrize(
    "guilty, crime, expected, limit",
    [
        (1, "raise ZeroDivisionError", 1, 15),
        (0, "os.kill(os.getpid(), signal.SIGKILL)", 137, 30),
        (1, "os.kill(os.getpid(), signal.SIGKILL)", 137, 30),
        (1, "os.kill(os.getpid(), signal.SIGSEGV)", 139, 30),
        (0, "sys.exit(3)", 1, 30),
        (1, "sys.exit(3)", 1, 30),
        (1, "processes.fail(InputError('no such file: x'))", 2, 15),
    ],
)
def test_a_failing_process_is_named_and_ends_all_in_time(tmp_path, guilty, crime, expected, limit):
    text = f"if guilty: {crime}\ntrain()"
    code, _, err, seconds = run(tmp_path, text, arguments=[str(guilty)])
    assert code == expected
    assert f"launch: process {guilty} of 2 ended" in err
    assert seconds < limit


@pytest.mark.slow
@pytest.mark.parametrize("guilty", [0, 1])
def test_a_stuck_process_is_told_from_one_that_waits_for_it(tmp_path, guilty):
    text = (
        "dog = Watchdog(4)\n"
        "for step in range(10**6):\n    dog.beat()\n"
        "    if guilty and step == 5: time.sleep(1000)\n    float(add(x))"
    )
    code, _, err, seconds = run(tmp_path, text, arguments=[str(guilty)])
    assert code == 1
    assert seconds < 4 + 15
    assert f"launch: process {guilty} of 2 ended first" in err
    line = next(
        n for n, text in enumerate(BEGIN.splitlines() + text.splitlines(), 1) if "1000" in text
    )
    where = re.escape(str(tmp_path / "script.py"))
    place = rf"no step for \d+ s, after 6 steps; it is at {where}:{line} in <module>"
    assert re.search(rf"\[process {guilty} of 2\] stuck: {place}", err)


@pytest.mark.slow
def test_an_error_of_all_processes_is_one_line(tmp_path):
    code, out, err, _ = run(tmp_path, "processes.fail(InputError('--lr must be > 0, got -1'))")
    assert (code, out) == (2, "")
    first, second = [line for line in err.splitlines() if "begin" not in line]
    assert re.fullmatch(r"\[process [01] of 2\] error: --lr must be > 0, got -1", first)
    assert re.fullmatch(r"launch: process [01] of 2 ended with exit code 2", second)


@pytest.mark.slow
def test_sigterm_lets_all_processes_save_the_same_step(tmp_path):
    text = (
        "from jax.experimental import multihost_utils\n"
        "for step in range(10**6):\n"
        "    train(1)\n    time.sleep(0.01 * (1 + here.rank))\n"
        "    if step == 2: print('ready', file=sys.stderr)\n"
        "    if multihost_utils.reached_preemption_sync_point(step):\n"
        "        print('saved', step, file=sys.stderr)\n"
        "        processes.end()\n        sys.exit(75)\n"
    )
    process = start(tmp_path, text)
    for word in ("ready", "ready"):
        while word not in process.stderr.readline():
            assert process.poll() is None
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert time.monotonic() - begin < 10
    saved = re.findall(r"^\[([01])\] saved (\d+)$", err, re.MULTILINE)
    assert sorted(rank for rank, _ in saved) == ["0", "1"]
    assert saved[0][1] == saved[1][1]


def test_a_port_in_use_is_an_error_and_not_a_crash():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"127.0.0.1:{port}: process 0 cannot listen there"):
            processes._bind_address(f"127.0.0.1:{port}")
    assert processes._bind_address(f"localhost:{port}") == f"127.0.0.1:{port}"
    assert processes._bind_address(f"host.example:{port}") == f"[::]:{port}"


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_processes_that_do_not_come_are_missed_in_plain_words(tmp_path, index):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    script = tmp_path / "script.py"
    script.write_text(BEGIN)
    place = {
        "FDL_COORDINATOR": f"127.0.0.1:{port}",
        "FDL_PROCESSES": "3",
        "FDL_PROCESS": str(index),
    }
    done = subprocess.run(
        [sys.executable, script],
        env=os.environ | {"PYTHONPATH": str(ROOT), "FDL_START_TIMEOUT": "3"} | place,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"[process {index} of 3] error: not all processes met at 127.0.0.1:{port} within 3 s; "
        "were all started, with the same FDL_COORDINATOR and FDL_PROCESSES?"
    )


@pytest.mark.slow
def test_processes_that_were_told_different_counts_do_not_compute(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    own = [{"FDL_PROCESSES": str(2 + i), "FDL_PROCESS": str(i)} for i in range(2)]
    results = side_by_side(tmp_path, [{"FDL_COORDINATOR": f"127.0.0.1:{port}"} | o for o in own])
    code, _, err = results[1]
    assert code == 2
    assert "FDL_PROCESSES must be the same in all processes, got 3 in process 1 and 2 in" in err


SLURM = {
    "SLURM_STEP_NODELIST": "localhost",
    "SLURM_STEP_NUM_NODES": "1",
    "SLURM_NTASKS": "2",
}
OPEN_MPI = {"OMPI_MCA_orte_hnp_uri": "{0}.0;tcp://127.0.0.1:9", "OMPI_COMM_WORLD_SIZE": "2"}


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["slurm", "ompi"])
def test_a_cluster_is_joined_without_being_told_anything(tmp_path, cluster):
    job = os.getpid()  # jax chooses the port by it
    environments = []
    for i in map(str, range(2)):
        if cluster == "slurm":
            own = SLURM | {"SLURM_JOB_ID": str(job), "SLURM_PROCID": i, "SLURM_LOCALID": i}
        else:
            own = {name: text.format(job * 2**12) for name, text in OPEN_MPI.items()}
            own |= {"OMPI_COMM_WORLD_RANK": i, "OMPI_COMM_WORLD_LOCAL_RANK": i}
        environments.append(own)
    text = "print('sum', float(add(x)), here)\nprocesses.end()"
    for index, (code, out, err) in enumerate(side_by_side(tmp_path, environments, text)):
        assert code == 0, err
        assert f"sum 22.0 Here(rank={index}, size=2)" in out


def side_by_side(tmp_path, environments, text=""):
    script = tmp_path / "script.py"
    script.write_text(BEGIN + text)
    base = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    base |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    running = [
        subprocess.Popen(
            [sys.executable, script],
            env=base | own,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for own in environments
    ]
    try:
        outputs = [process.communicate(timeout=120) for process in running]
    finally:
        for process in running:
            process.kill()
    return [(p.returncode, *output) for p, output in zip(running, outputs, strict=True)]


@pytest.mark.slow
def test_processes_whose_launcher_was_killed_end_by_themselves(tmp_path):
    text = "print(os.getpid(), file=sys.stderr)\ntime.sleep(100)"
    process = start(tmp_path, text)
    pids = []
    while len(pids) < 2:
        line = process.stderr.readline()
        assert line
        pids += re.findall(r"^\[[01]\] (\d+)$", line)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 15
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_lone_process_stays_alone(monkeypatch):
    monkeypatch.setattr(os, "environ", {"NPROC": "3"})
    hook = sys.excepthook
    assert processes.start() == Here(0, 1)
    assert os.environ == {"NPROC": "8"}
    assert sys.excepthook is hook
    assert (processes.index(), processes.count(), processes.is_main()) == (0, 1, True)
    assert processes.label() == ""
    processes.end()


def test_more_threads_than_needed_are_left_as_they_are(monkeypatch):
    monkeypatch.setattr(os, "environ", {"NPROC": "64"})
    processes.start()
    assert os.environ == {"NPROC": "64"}


@pytest.mark.parametrize("devices", [0, -2])
def test_a_number_of_devices_that_is_not_positive_is_refused(devices):
    with pytest.raises(InputError, match=f"devices must be > 0, got {devices}"):
        processes.start(devices=devices)


class Left(Exception):
    pass


@pytest.fixture
def second_of_two(monkeypatch):
    def leave(code):
        raise Left(code)

    monkeypatch.setattr(processes, "_here", Here(1, 2))
    monkeypatch.setattr(os, "_exit", leave)


def test_a_mistake_of_the_user_is_one_line_and_its_exit_code(capsys):
    with pytest.raises(SystemExit) as caught:
        processes.fail(InputError("--steps must be > 0, got 0"))
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: --steps must be > 0, got 0\n"


def test_one_of_many_leaves_without_waiting_and_says_which_it_is(second_of_two, capsys):
    with pytest.raises(Left, match="2"):
        processes.fail(InputError("first line\nsecond"))
    assert (
        capsys.readouterr().err == "[process 1 of 2] error: first line\n[process 1 of 2] second\n"
    )


def test_a_bug_keeps_its_traceback(second_of_two, capsys):
    try:
        raise KeyError("gone")
    except KeyError as error:
        with pytest.raises(Left, match="1"):
            processes.fail(error)
    first, second, *_, last = capsys.readouterr().err.splitlines()
    assert first == "[process 1 of 2] failed:"
    assert second == "Traceback (most recent call last):"
    assert last == "KeyError: 'gone'"


@pytest.mark.parametrize("mark", processes.LOST)
def test_losing_another_process_is_said_to_be_just_that(second_of_two, capsys, mark):
    with pytest.raises(Left, match="1"):
        processes.fail(RuntimeError(f"UNKNOWN: {mark} [127.0.0.1]\nmore"))
    err = capsys.readouterr().err
    assert err.startswith(
        "[process 1 of 2] error: lost another process, which failed first: UNKNOWN"
    )
    assert len(err.splitlines()) == 1


def test_a_closed_terminal_does_not_keep_a_failing_process_alive(second_of_two, monkeypatch):
    class Closed:
        def write(self, text):
            raise BrokenPipeError

        flush = write

    monkeypatch.setattr(sys, "stderr", Closed())
    with pytest.raises(Left, match="2"):
        processes.fail(InputError("x"))


def test_nothing_is_left_to_do_at_exit_without_a_run_of_many():
    processes._part_at_exit()
    atexit.unregister(processes._part_at_exit)
