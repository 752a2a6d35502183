"""The set-up: which Python is found, when an environment is made again, what the pins hold."""

import fcntl
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ("bootstrap.py", "find_python", "run")
PINNED = ROOT / "requirements.lock"
EXTRAS = ("dev", "tb", "data", "images")  # what the pins cover besides the core


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def find_python(path: list[Path], home: Path, *words: str, **env: str) -> tuple[int, str, str]:
    settings = {"PATH": ":".join(map(str, path)), "HOME": str(home), **env}
    command = ["/bin/sh", str(ROOT / "scripts/find_python"), *words]
    result = subprocess.run(command, env=settings, capture_output=True, text=True)
    return result.returncode, result.stdout.strip(), result.stderr


@pytest.fixture
def fake(tmp_path: Path) -> Callable[..., Path]:
    """`fake("a/python3.13", "3.13")` is a program that says it is that Python."""

    def make(name: str, version: str) -> Path:
        path = tmp_path / name
        return program(path, f'echo "{version} {path}"')

    return make


def test_newest_oldest_and_all_pythons_are_found(fake: Callable[..., Path], tmp_path: Path) -> None:
    old, new = fake("a/python3.11", "3.11"), fake("b/python3.13", "3.13")
    path = [tmp_path / "a", tmp_path / "b"]
    assert find_python(path, tmp_path) == (0, str(new), "")
    assert find_python(path, tmp_path, "oldest") == (0, str(old), "")
    assert find_python(path, tmp_path, "all") == (0, f"{new}\n{old}", "")


def test_an_old_python3_first_on_path_is_passed_over(
    fake: Callable[..., Path], tmp_path: Path
) -> None:
    fake("a/python3", "3.9")
    new = fake("b/python3", "3.12")
    assert find_python([tmp_path / "a", tmp_path / "b"], tmp_path) == (0, str(new), "")


def test_a_shim_that_only_fails_is_passed_over(fake: Callable[..., Path], tmp_path: Path) -> None:
    program(tmp_path / "shims/python3.13", "exit 127")
    real = fake(".pyenv/versions/3.13.0/bin/python3.13", "3.13")
    fake("b/python3.11", "3.11")
    assert find_python([tmp_path / "shims", tmp_path / "b"], tmp_path) == (0, str(real), "")


def test_no_python_is_one_line_and_exit_code_2(fake: Callable[..., Path], tmp_path: Path) -> None:
    fake("a/python3", "3.9")
    code, out, err = find_python([tmp_path / "a", tmp_path / "missing"], tmp_path)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and "no Python 3.11 to 3.14 with venv found" in err


@pytest.mark.parametrize("version", ["3.9", "2.7", ""])
def test_a_named_python_that_will_not_do_is_refused(
    fake: Callable[..., Path], tmp_path: Path, version: str
) -> None:
    named = fake("c/python", version) if version else tmp_path / "missing"
    code, out, err = find_python([tmp_path], tmp_path, FDL_PYTHON=str(named))
    assert (code, out, err.count("\n")) == (2, "", 1) and str(named) in err


def test_a_named_python_comes_before_the_search(fake: Callable[..., Path], tmp_path: Path) -> None:
    fake("b/python3.13", "3.13")
    named = fake("c/python", "3.11")
    answer = find_python([tmp_path / "b"], tmp_path, FDL_PYTHON=str(named))
    assert answer == (0, str(named), "")


# --- environments, filled by a stand-in for uv that only notes that it was called ----------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small checkout with the real scripts, beside a folder bin that holds the stand-in."""
    root = tmp_path / "tree"
    (root / "scripts").mkdir(parents=True)
    for name in SCRIPTS:
        (root / "scripts" / name).write_bytes((ROOT / "scripts" / name).read_bytes())
        (root / "scripts" / name).chmod(0o755)
    (root / "requirements.lock").write_text("one==1\n")
    (root / "pyproject.toml").write_text("[project]\n")
    (root / "hello.py").write_text("import os, sys; print(sys.argv[1:], os.environ['NPROC'])\n")
    library = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}"
    program(
        tmp_path / "bin/uv",
        f'echo "$*" >>{tmp_path}/calls; [ ! -f {tmp_path}/broken ] || exit 1\n'
        f'[ "$1" = venv ] || exit 0\nsleep 0.2\nfor venv; do :; done\n'
        f'mkdir -p "$venv/bin" "$venv/{library}"; ln -s {sys.executable} "$venv/bin/python"',
    )
    return root


def start(tree: Path, *arguments: str, **env: str) -> subprocess.Popen[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("FDL_", "NPROC"))}
    path = f"{tree.parent}/bin:/usr/bin:/bin"
    settings = {**inherited, "PATH": path, "FDL_PYTHON": sys.executable, **env}
    command = [str(tree / "scripts/run"), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=tree, env=settings, text=True, stdout=pipe, stderr=pipe)


def run(tree: Path, *arguments: str, **env: str) -> tuple[int, str, str]:
    process = start(tree, *arguments, **env)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def calls(tree: Path) -> int:
    return (tree.parent / "calls").read_text().count("\n")


def test_a_second_start_makes_nothing_again(tree: Path) -> None:
    code, out, err = run(tree, "hello.py", "--x", "a b")
    assert (code, out) == (0, f"['--x', 'a b'] {max(8, os.cpu_count() or 1)}\n"), err
    assert calls(tree) == 3
    assert run(tree, "hello.py", NPROC="3") == (0, "[] 3\n", "")
    assert calls(tree) == 3


@pytest.mark.parametrize("change", ["pins", "project", "interrupted", "moved"])
def test_an_environment_that_is_old_or_half_made_is_made_again(tree: Path, change: str) -> None:
    assert run(tree, "hello.py")[0] == 0
    if change == "pins":
        (tree / "requirements.lock").write_text("one==2\n")
    elif change == "project":
        (tree / "pyproject.toml").write_text("[tool]\n")
    elif change == "interrupted":
        (tree / ".venv/fdl-stamp").unlink()
    else:
        tree = tree.rename(tree.parent / "elsewhere")
    (tree / ".venv/left-over").write_text("")
    code, _, err = run(tree, "hello.py")
    assert code == 0 and "is ready" in err
    assert calls(tree) == 6
    assert not (tree / ".venv/left-over").exists()


def test_two_starts_at_once_make_one_environment(tree: Path) -> None:
    both = [start(tree, "hello.py", name) for name in "ab"]
    results = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert calls(tree) == 3


def test_a_folder_of_somebody_else_is_never_removed(tree: Path) -> None:
    (tree / ".venv/bin").mkdir(parents=True)
    (tree / ".venv/bin/mine").write_text("")
    code, out, err = run(tree, "hello.py")
    assert (code, out) == (2, "") and "was not made by scripts/run" in err
    assert (tree / ".venv/bin/mine").exists()


def test_a_place_that_cannot_be_written_is_one_line(tree: Path) -> None:
    code, out, err = run(tree, "hello.py", FDL_VENV=str(tree / "hello.py/venv"))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "set-up failed" in err and "hello.py" in err


def test_no_file_to_run_is_a_usage_line(tree: Path) -> None:
    assert run(tree) == (2, "", "usage: scripts/run FILE [ARGUMENTS...]\n")


@pytest.fixture
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "scripts/bootstrap.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_failing_step_shows_its_last_lines(bootstrap: ModuleType, tmp_path: Path) -> None:
    body = "print('first'); [print('line', i) for i in range(20)]; raise SystemExit(3)"
    with (tmp_path / "lock").open("w") as lock, pytest.raises(bootstrap.Failure) as failure:
        bootstrap.call([sys.executable, "-c", body], lock.fileno(), "pip install")
    head, *rest = str(failure.value).splitlines()
    assert head == "pip install failed with exit code 3; its last lines:"
    assert rest[-1].strip() == "line 19" and "first" not in str(failure.value)


def test_an_environment_in_use_is_not_made_again(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "PATIENCE", 0.2)
    with (tmp_path / "venv.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        with pytest.raises(bootstrap.Failure, match="is in use"):
            bootstrap.ensure(str(tmp_path / "venv"))


# --- what the checkout holds ---------------------------------------------------------------------


def pins() -> list[tuple[Requirement, str]]:
    """Each pin of the lock file with the text of its hashes."""
    found = re.findall(r"^([^\s#].*?)\s*\\\n((?:    --hash=.*\n?)+)", PINNED.read_text(), re.M)
    return [(Requirement(line), hashes) for line, hashes in found]


def test_every_pin_is_exact_and_hashed_and_nothing_else_is_in_the_file() -> None:
    lines = PINNED.read_text().splitlines()
    rest = [s for s in lines if not re.match(r"#|    #|    --hash=sha256:[0-9a-f]{64}( \\)?$", s)]
    assert len(rest) == len(pins()) > 50
    assert all(len(pin.specifier) == 1 and "==" in str(pin.specifier) for pin, _ in pins())
    assert "/" not in PINNED.read_text().replace("scripts/pin", "")


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_pins_are_one_version_in_range_for_every_dependency(python: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["build-system"]["requires"]
    for extra in EXTRAS:
        wanted = wanted + project["project"]["optional-dependencies"][extra]
    here = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    for dependency in map(Requirement, wanted):
        if dependency.name == "fdl":
            continue
        fitting = [
            str(pin.specifier).removeprefix("==")
            for pin, _ in pins()
            if pin.name.lower() == dependency.name.lower()
            and (pin.marker is None or pin.marker.evaluate(here))
        ]
        assert len(fitting) == 1 and dependency.specifier.contains(fitting[0]), dependency


def test_no_file_names_an_index_or_a_place_on_one_machine() -> None:
    listing = ["git", "ls-files", "-co", "--exclude-standard"]
    result = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        pytest.skip("not a git checkout")
    words = ["pypi" + r"\.org", "python" + "hosted", "--extra-" + "index", "--find-" + "links"]
    words += ["--index-" + "url", r"(?<![\w.~})*/-])/(root|home|Users|work|opt)/"]
    pattern = re.compile("|".join(words))
    guilty = []
    for name in result.stdout.splitlines():
        path = ROOT / name
        if path.is_file() and name not in ("tests/test_setup.py", "scripts/pin"):
            text = path.read_bytes().decode("utf-8", "ignore")
            guilty += [f"{name}: {hit.group()}" for hit in pattern.finditer(text)][:3]
    assert guilty == []


@pytest.mark.parametrize("name", [".python-version", "uv.lock", "pylock.toml"])
def test_files_that_break_other_machines_are_absent(name: str) -> None:
    assert not (ROOT / name).exists()
