import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
HEAD = "import os, signal, sys, time\nindex = int(os.environ['FDL_PROCESS'])\n"


def start(tmp_path, text, *options, arguments=(), **environment):
    script = tmp_path / "script.py"
    script.write_text(HEAD + text + "\n")
    (tmp_path / "tmp").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, SCRIPTS / "launch.py", *options, "--", script, *arguments],
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, seconds=25):
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def run(tmp_path, text, *options, **keywords):
    return finish(start(tmp_path, text, *options, **keywords))


def read_until(stream, word):
    lines = []
    while not lines or word not in lines[-1]:
        lines.append(stream.readline())
        assert lines[-1], f"no {word!r} in {lines}"


def test_stdout_is_that_of_process_0_and_its_last_line_stays_last(tmp_path):
    text = "time.sleep(0.3 * index)\nprint('{\"index\": %d}' % index)\nprint('x', file=sys.stderr)"
    code, out, err = run(tmp_path, text, "-n", "3")
    assert code == 0
    assert json.loads(out) == {"index": 0}
    others = [f'[{i}] {{"index": {i}}}' for i in (1, 2)]
    assert sorted(err.splitlines()) == sorted(["[0] x", "[1] x", "[2] x", *others])


def test_each_process_is_told_its_place_and_its_devices(tmp_path):
    text = (
        "import json\nnames = ['FDL_COORDINATOR', 'FDL_PROCESSES', 'FDL_PROCESS', 'NPROC',"
        " 'JAX_NUM_CPU_DEVICES', 'XLA_FLAGS', 'JAX_PLATFORMS']\n"
        "print(json.dumps([sys.argv[1:], *[os.environ[n] for n in names]]))"
    )
    flags = "--xla_force_host_platform_device_count=4 --xla_dump_to=x"
    code, out, err = run(
        tmp_path,
        text,
        *("-n", "2", "--devices", "6"),
        arguments=["--devices", "9", "-n"],
        XLA_FLAGS=flags,
        NPROC="3",
        JAX_PLATFORMS="cpu",
    )
    assert code == 0
    first, second = json.loads(out), json.loads(err.removeprefix("[1] "))
    assert first[0] == ["--devices", "9", "-n"]
    assert first[2:] == ["2", "0", "12", "6", "--xla_dump_to=x", "cpu"]
    assert second[2:] == ["2", "1", "12", "6", "--xla_dump_to=x", "cpu"]
    assert first[1] == second[1]
    host, port = first[1].split(":")
    assert host == "127.0.0.1" and 0 < int(port) < 65536


@pytest.mark.parametrize("devices, threads", [("1", "8"), ("4", "8"), ("5", "10")])
def test_there_are_two_threads_a_device_and_never_fewer_than_8(tmp_path, devices, threads):
    text = "print(os.environ['NPROC'])"
    assert run(tmp_path, text, "-n1", "--devices", devices, NPROC="")[1] == f"{threads}\n"


def test_the_first_failure_is_named_ends_all_and_gives_its_exit_code(tmp_path):
    text = (
        "for line in range(40):\n    print('line', line)\n"
        "if index == 1: sys.exit(7)\ntime.sleep(60)"
    )
    begin = time.monotonic()
    code, _, err = run(tmp_path, text, "-n", "3")
    assert time.monotonic() - begin < 10
    assert code == 7
    lines = err.splitlines()
    where = next(i for i, line in enumerate(lines) if line.startswith("launch:"))
    assert "launch: process 1 of 3 ended first, with exit code 7; its last lines" in lines[where]
    assert lines[where + 1 :] == [f"[1] line {i}" for i in range(10, 40)]


def test_death_by_a_signal_is_128_plus_its_number(tmp_path):
    text = "if index == 1: os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(60)"
    code, _, err = run(tmp_path, text)
    assert code == 128 + 9
    assert "process 1 of 2 ended first, with signal 9 (SIGKILL)" in err


@pytest.mark.parametrize(
    "consequence",
    [
        "[process 0 of 2] error: lost another process, which failed first: x",
        "F1123 client.h:80] Terminating process because the JAX distributed service detected "
        "fatal errors. This most likely indicates that another task died",
        "XlaRuntimeError: UNKNOWN: Gloo all-reduce failed: Connection closed by peer [127.0.0.1]",
    ],
)
def test_a_process_that_fails_because_another_did_is_not_blamed(tmp_path, consequence):
    text = (
        f"if index == 0:\n    print({consequence!r}, file=sys.stderr)\n    sys.exit(1)\n"
        "time.sleep(0.2)\nsys.exit(3 if index else 1)"
    )
    code, _, err = run(tmp_path, text)
    assert code == 3
    assert "launch: process 1 of 2 ended with exit code 3" in err


def test_one_error_of_all_processes_is_shown_once(tmp_path):
    text = (
        "print(f'[process {index} of 3] error: --lr must be > 0, got -1', file=sys.stderr)\n"
        "sys.exit(2)"
    )
    code, out, err = run(tmp_path, text, "-n", "3")
    first, second = err.splitlines()
    assert (code, out) == (2, "")
    assert first.endswith("] error: --lr must be > 0, got -1")
    assert second.startswith("launch: process ") and second.endswith(" ended with exit code 2")


def test_an_error_of_one_process_only_is_shown_too(tmp_path):
    text = (
        "if index == 1:\n"
        "    print('[process 1 of 2] error: no such file: x', file=sys.stderr)\n    sys.exit(2)\n"
        "time.sleep(60)"
    )
    code, _, err = run(tmp_path, text)
    assert code == 2
    assert err.splitlines() == [
        "[process 1 of 2] error: no such file: x",
        "launch: process 1 of 2 ended with exit code 2",
    ]


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace(tmp_path):
    text = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('on', flush=True)\n"
        "time.sleep(0.5)\nif index == 1: sys.exit(9)\ntime.sleep(60)"
    )
    begin = time.monotonic()
    code, _, _ = run(tmp_path, text, "--grace", "1")
    assert code == 9
    assert 1.5 < time.monotonic() - begin < 10


def test_what_a_process_started_does_not_outlive_the_run(tmp_path):
    text = (
        "import subprocess\n"
        "print(subprocess.Popen(['sleep', '60']).pid, flush=True)\nsys.exit(7 * (index == 1))"
    )
    code, out, _ = run(tmp_path, text)
    assert code == 7
    for _ in range(50):
        try:
            state = Path(f"/proc/{int(out)}/stat").read_text().split()[2]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.1)
    pytest.fail("still running")


SAVE = (
    "def save(number, frame):\n    print('saved', flush=True)\n    sys.exit(75)\n"
    "signal.signal(signal.SIGTERM, save)\n"
)
WAIT = "print('ready', file=sys.stderr, flush=True)\nwhile True: time.sleep(0.1)"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_is_passed_on_once_as_sigterm_and_saved_runs_give_75(tmp_path, number):
    process = start(tmp_path, SAVE + WAIT)
    read_until(process.stderr, "ready")
    read_until(process.stderr, "ready")
    process.send_signal(number)
    code, out, _ = finish(process)
    assert (code, out) == (75, "saved\n")


@pytest.mark.parametrize("number, expected", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_that_did_not_save_gives_the_code_of_the_signal(tmp_path, number, expected):
    process = start(tmp_path, WAIT)
    read_until(process.stderr, "ready")
    read_until(process.stderr, "ready")
    process.send_signal(number)
    code, _, err = finish(process)
    assert code == expected
    assert err.splitlines() == [f"launch: stopped by {number.name}"]


def test_a_second_ctrl_c_kills_at_once(tmp_path):
    process = start(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WAIT)
    read_until(process.stderr, "ready")
    read_until(process.stderr, "ready")
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130
    assert time.monotonic() - begin < 5


def test_saving_may_take_three_times_the_grace(tmp_path):
    save = SAVE.replace("    print", "    time.sleep(1.5)\n    print")
    process = start(tmp_path, save + WAIT, "--grace", "1")
    read_until(process.stderr, "ready")
    read_until(process.stderr, "ready")
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 75
    process = start(
        tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WAIT, "--grace", "0.2"
    )
    read_until(process.stderr, "ready")
    read_until(process.stderr, "ready")
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 143
    assert 0.6 <= time.monotonic() - begin < 10


def test_processes_that_were_all_preempted_need_no_signal(tmp_path):
    text = (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))\n"
        "time.sleep(1.5 * index)\nsys.exit(75)"
    )
    assert run(tmp_path, text) == (75, "", "")


def test_words_of_gloo_are_left_out_even_where_threads_mix_them(tmp_path):
    noise = (
        "[Gloo] Rank [Gloo] Rank 0 is connected to 3 peer ranks. "
        "Expected number of connected peer ranks is : 3\n"
        "1 is connected to 3 peer ranks. Expected number of connected peer ranks is : 3\n3\n\n"
    )
    text = f"sys.stdout.write({noise!r} + 'loss\\n3\\n\\nrank is: 3\\n')"
    assert run(tmp_path, text, "-n1") == (0, "loss\n3\n\nrank is: 3\n", "")


def test_each_process_has_a_log_with_everything_it_wrote(tmp_path):
    text = "print('out', index)\nprint('[Gloo] Rank 0')\nprint('err', file=sys.stderr)"
    assert run(tmp_path, text, "--logs", tmp_path / "a" / "b")[0] == 0
    for index in range(2):
        log = (tmp_path / "a" / "b" / f"process-{index}.log").read_text()
        assert sorted(log.splitlines()) == ["[Gloo] Rank 0", "err", f"out {index}"]


def test_logs_in_a_temporary_folder_stay_only_after_a_failure(tmp_path):
    assert run(tmp_path, "pass")[0] == 0
    assert list((tmp_path / "tmp").iterdir()) == []
    _, _, err = run(tmp_path, "sys.exit(1)")
    (folder,) = (tmp_path / "tmp").iterdir()
    assert str(folder) in err


@pytest.mark.parametrize(
    "options, message",
    [
        (["-n", "0", "--", __file__], "-n must be >= 1, got 0"),
        (["-n", "two", "--", __file__], "argument -n/--processes: invalid int value: 'two'"),
        (["--devices", "0", "--", __file__], "--devices must be >= 1, got 0"),
        (["--port", "70000", "--", __file__], "--port must be < 65536, got 70000"),
        (["--grace", "-1", "--", __file__], "--grace must be >= 0, got -1.0"),
        (["--grace", "nan", "--", __file__], "--grace must be >= 0, got nan"),
        (["-n", "2"], "no Python file to run"),
        (["-n", "2", "--"], "no Python file to run"),
        (["-n", "2", "--", "no/such.py"], "no such file: no/such.py"),
        (["--hosts", "2", "--", __file__], "unrecognized arguments: --hosts"),
    ],
)
def test_wrong_options_are_refused_in_one_line(capsys, options, message):
    with pytest.raises(SystemExit) as caught:
        load().main(options)
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"launch: error: {message} (see scripts/launch --help)\n"


def test_a_log_folder_that_cannot_be_made_is_refused(capsys):
    assert load().main(["--logs", f"{__file__}/logs", "--", __file__]) == 2
    assert capsys.readouterr().err.endswith("test_launch.py/logs: not a directory\n")


def load():
    spec = importlib.util.spec_from_file_location("launch", SCRIPTS / "launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_runs_in_the_projects_environment(tmp_path):
    folder = tmp_path / "with space"
    folder.mkdir()
    shutil.copy(SCRIPTS / "launch", folder)
    (folder / "run").write_text('#!/bin/sh\nprintf "%s\\\\n" "$@"\n')
    (folder / "run").chmod(0o755)
    done = subprocess.run(
        [folder / "launch", "-n", "2", "--", "a b.py"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"{folder}/launch.py", "-n", "2", "--", "a b.py"]
