"""Make or reuse the project's environment, then become `python ARGS...` inside it.

Started by scripts/run with any Python >= 3.11 that has nothing installed, so only the standard
library is used, and what is slow to import only where it is needed: a start that finds the
environment ready must cost next to nothing.

Settings: FDL_VENV, the environment's folder (default .venv beside pyproject.toml), and FDL_PYTHON,
the Python to make it from (default: the newest that scripts/find_python finds).

An environment is three things: a folder, MARK inside it from the first moment (so that no folder of
somebody else's is ever removed), and STAMP, written last. No stamp, or one made from other pins:
it is made again. A lock beside the folder is held exclusively while making it and shared while
anything started here runs, so that nobody's environment changes under their feet.
"""

import fcntl
import hashlib
import os
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PINS = "requirements.lock"
MARK = "fdl-environment"
STAMP = "fdl-stamp"
PATIENCE = 5.0  # seconds to wait for programs that still use an environment that must be remade


class Failure(Exception):
    """The environment cannot be made; the message is for the person who started the command."""


def say(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)


def digest(root: str, venv: str, version: str) -> str:
    """Hash all that an environment depends on; moving a folder counts, as paths are inside it."""
    found = hashlib.sha256(f"{root}\n{venv}\n{version}\n".encode())
    for name in (PINS, "pyproject.toml"):
        with open(os.path.join(root, name), "rb") as file:
            found.update(hashlib.sha256(file.read()).digest())
    return found.hexdigest()


def ready(root: str, venv: str, wanted: str) -> bool:
    """Tell whether `venv` is complete and made from today's pins and, if named, Python `wanted`."""
    try:
        with open(os.path.join(venv, STAMP), encoding="utf-8") as file:
            stamp, base, named = file.read().splitlines()
        version = library(venv)
    except (OSError, ValueError):
        return False
    here = os.path.dirname(os.path.dirname(sys.executable))  # sys.prefix is not set under -S
    if os.path.realpath(here) == os.path.realpath(venv):
        # The system's Python may have been replaced by another version behind the same name.
        version = "python{}.{}".format(*sys.version_info)
    if stamp != digest(root, venv, version):
        return False
    if wanted in ("", named):
        return True
    import shutil

    return os.path.realpath(shutil.which(wanted) or "") == os.path.realpath(base)


def library(venv: str) -> str:
    """Return the name of the folder under lib, such as python3.13."""
    (name,) = (n for n in os.listdir(os.path.join(venv, "lib")) if n.startswith("python"))
    return name


def find_python() -> str:
    import subprocess

    command = ["/bin/sh", os.path.join(ROOT, "scripts", "find_python")]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if found.returncode:
        sys.exit(2)  # it has said why
    return found.stdout.strip()


def clear(venv: str) -> None:
    """Leave an empty marked folder at `venv`; refuse to remove what was not made here."""
    import shutil

    if os.path.lexists(venv) and not os.path.exists(os.path.join(venv, MARK)):
        if not os.path.isdir(venv) or os.listdir(venv):
            raise Failure(f"{venv} was not made by scripts/run; remove it or set FDL_VENV=FOLDER")
    elif os.path.exists(venv):
        # Stamp first and mark last: an interruption in between leaves a folder known as half-made.
        for name in sorted(os.listdir(venv), key=lambda n: (n != STAMP, n == MARK)):
            path = os.path.join(venv, name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
    os.makedirs(venv, exist_ok=True)
    with open(os.path.join(venv, MARK), "w", encoding="utf-8") as file:
        file.write("Made by scripts/run, and free to be removed.\n")


def call(command: list[str], lock: int, what: str) -> None:
    """Run one step of the set-up; on failure say which, with the last lines it printed."""
    import subprocess

    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    lines = []
    live = sys.stderr.isatty()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=(lock,),  # a step that outlives us keeps the lock, too
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if live:
                say(f"\r\033[K{line.strip()[:78]}", end="")
    if live:
        say("\r\033[K", end="")
    if process.returncode:
        last = "\n".join(f"  {line}" for line in [n for n in lines if n][-10:])
        raise Failure(f"{what} failed with exit code {process.returncode}; its last lines:\n{last}")


def fill_with_uv(uv: str, base: str, venv: str, lock: int) -> None:
    python = os.path.join(venv, "bin", "python")
    call([uv, "venv", "--quiet", "--allow-existing", "--python", base, venv], lock, "uv venv")
    install = [uv, "pip", "install", "--python", python]
    pins = ["--require-hashes", "--no-build", "-r", PINS]
    call([*install, *pins], lock, "uv pip install")
    project = ["--no-deps", "--no-build-isolation", "--no-index", "--editable", ROOT]
    call([*install, *project], lock, "uv pip install --editable")


def fill_with_pip(base: str, venv: str, lock: int) -> None:
    python = os.path.join(venv, "bin", "python")
    call([base, "-I", "-m", "venv", venv], lock, "python -m venv")
    install = [python, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    pins = ["--progress-bar=off", "--require-hashes", "--only-binary=:all:", "-r", PINS]
    call([*install, "--no-compile", *pins], lock, "pip install")
    project = ["--no-deps", "--no-build-isolation", "--no-index", "--editable", ROOT]
    call([*install, *project], lock, "pip install --editable")


def build(venv: str, lock: int) -> None:
    """Fill `venv` with the pinned packages and this project; nothing else is fetched."""
    import shutil

    base = find_python()
    uv = shutil.which("uv")
    start = time.monotonic()
    say(f"fdl: making {venv} from {base} (once; about a minute) ...")
    clear(venv)
    if uv:
        try:
            fill_with_uv(uv, base, venv, lock)
        except Failure as error:  # uv may lack the index settings that this machine gives to pip
            say(f"fdl: {error}\nfdl: trying pip instead ...")
            clear(venv)
            uv = None
    if not uv:
        fill_with_pip(base, venv, lock)
    # On all cores, which pip does not do; left to the first import it would be slow each time
    # where PYTHONDONTWRITEBYTECODE is set.
    compiler = [os.path.join(venv, "bin", "python"), "-I", "-m", "compileall", "-q", "-j", "0"]
    call([*compiler, "-x", "/tests?/", os.path.join(venv, "lib")], lock, "compileall")
    partial = os.path.join(venv, STAMP + ".partial")
    with open(partial, "w", encoding="utf-8") as file:
        named = os.environ.get("FDL_PYTHON", "")
        file.write(f"{digest(ROOT, venv, library(venv))}\n{base}\n{named}\n")
    os.replace(partial, os.path.join(venv, STAMP))
    say(f"fdl: {venv} is ready after {time.monotonic() - start:.0f} s")


def take(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def ensure(venv: str) -> int | None:
    """Return, once `venv` is ready, the lock that keeps it so while its descriptor is open."""
    wanted = os.environ.get("FDL_PYTHON", "")
    try:
        os.makedirs(os.path.dirname(venv), exist_ok=True)
        lock = os.open(venv + ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        if ready(ROOT, venv, wanted):
            return None  # a read-only place: nobody will make it again
        raise
    waited = 0.0
    while True:
        if not take(lock, fcntl.LOCK_SH):
            say(f"fdl: waiting for another set-up of {venv} ...")
            fcntl.flock(lock, fcntl.LOCK_SH)
        if ready(ROOT, venv, wanted):
            return lock
        if take(lock, fcntl.LOCK_EX):
            if not ready(ROOT, venv, wanted):
                build(venv, lock)
            fcntl.flock(lock, fcntl.LOCK_SH)
            return lock
        if waited >= PATIENCE:
            raise Failure(f"{venv} must be made again but is in use; wait, or set FDL_VENV=FOLDER")
        time.sleep(0.1)
        waited += 0.1


def main(arguments: list[str]) -> None:
    venv = os.path.abspath(os.environ.get("FDL_VENV") or os.path.join(ROOT, ".venv"))
    try:
        lock = ensure(venv)
    except (Failure, OSError) as error:
        say(f"fdl: set-up failed: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    if lock is not None:
        os.set_inheritable(lock, True)
    # XLA sizes its thread pool from NPROC, and too few threads for the collectives of several
    # devices in one process dead-lock it.
    os.environ.setdefault("NPROC", str(max(8, os.cpu_count() or 1)))
    python = os.path.join(venv, "bin", "python")
    os.execv(python, [python, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
