"""From a recipe's `main` to a run: processes, folder, lock, session, and the way out of each."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from fdl.errors import Preempted
from fdl.run import agreement, processes
from fdl.run.folder import lock, open_folder
from fdl.run.rules import validate
from fdl.run.session import Session
from fdl.run.settings import Settings, cli

Main = Callable[[Any, Session], Mapping[str, float]]


def execute(main: Main, settings: Settings) -> dict[str, float]:
    """Run a recipe with settings from Python: what the command line does, without its exit codes.

    Args:
      main: `main(settings, session) -> final figures`, of a recipe.
      settings: its settings.

    Returns:
      The final figures.

    Raises:
      InputError, NonFiniteError, CheckpointError, LockedError, DiskError, Preempted: as they say.
    """
    recipe = Path(inspect.getfile(main)).stem
    title = (inspect.getmodule(main).__doc__ or recipe).strip().splitlines()[0].rstrip(".")
    processes.start(devices=settings.devices)
    try:
        with _open(settings, recipe, title) as session:
            figures = dict(main(settings, session))
            session.finish(figures)
    except Preempted:
        processes.end()  # all processes have saved the same step, and part in peace
        raise
    except BaseException as error:
        if processes.count() > 1:
            processes.fail(error, settings)
        raise
    processes.end()
    return figures


def launch(main: Main, config: type[Settings]) -> NoReturn:
    """Run a recipe from the command line; the last line of a recipe's file.

    Flags become settings, the final figures one line of JSON on standard output, and what goes
    wrong one line on standard error and an exit code (`fdl.run.exits`).

    Args:
      main: `main(settings, session) -> final figures`.
      config: dataclass of the settings.
    """
    cli(lambda settings: execute(main, settings), config, inspect.getmodule(main).__doc__)


@contextlib.contextmanager
def _open(settings: Settings, recipe: str, title: str) -> Iterator[Session]:
    validate(settings)
    with contextlib.ExitStack() as stack:
        folder = _folder(settings, recipe)
        if processes.is_main():
            stack.enter_context(lock(folder))
        session = Session(settings, folder, stack, title)
        try:
            yield session
        except BaseException as error:
            session.close(error)
            raise
        session.close(None)


def _folder(settings: Settings, recipe: str) -> Path:
    """Let process 0 choose the run folder; the others take the same."""
    if processes.is_main():
        folder = open_folder(settings.out, recipe, resume=settings.resume)
    if settings.out is not None:
        agreement.broadcast_int(0)  # wait until it is there
        return Path(settings.out).absolute()
    number = agreement.broadcast_int(int(folder.name) if processes.is_main() else 0)
    return Path.cwd() / "runs" / recipe / str(number)
