"""Search the hyper-parameters of a recipe: trials one after another, compared on validation data.

    scripts/search recipes/mlp.py --space 'lr=log:1e-3:1,dropout=0:0.5,unit=relu|tanh' --trials 20
    scripts/search recipes/mlp.py --space lr=log:1e-3:1,steps=500 --method grid --points 4

The space is NAME=VALUES, with commas or blanks between: LOW:HIGH, log:LOW:HIGH, int:LOW:HIGH,
logint:LOW:HIGH, one|or|another, or one value for all trials.

Every trial is a run in trials/ of the search's folder. trials.jsonl, trials.md and trials.png
compare them; figures of test data are only in the last line, those of the trial that was chosen.
A search that was stopped or killed goes on with --resume, inside the trial it had come to.
"""

import dataclasses
import importlib.util
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro

from fdl import plots
from fdl.errors import DiskError, InputError, LockedError, Preempted
from fdl.run import execute, search_space, write_config
from fdl.run.exits import explain
from fdl.run.folder import CONFIG, config_changes, lock, open_folder, read_config, write_text
from fdl.run.rules import NONEMPTY, PositiveInt, Seed
from fdl.run.search_space import Space, Value
from fdl.run.session import RESULT
from fdl.run.settings import Settings, cli, parse
from fdl.run.trials import TEST, Trial, Trials, choosing, halving, markdown, ranked, score

FREE_SETTINGS = ("out", "resume", "trials", "by", "highest")  # may differ when a search goes on
OURS = ("out", "resume", "force", "quiet")  # settings of a recipe that the search decides


@dataclasses.dataclass(frozen=True)
class Search:
    recipe: tyro.conf.Positional[str]  # the recipe's file
    space: Annotated[tuple[str, ...], NONEMPTY]  # what to try: NAME=VALUES ...
    method: Literal["random", "grid"] = "random"  # grid: all combinations
    trials: PositiveInt | None = None  # of random search; None: 20
    points: PositiveInt | None = None  # values of each range in a grid, >= 2; None: 4
    rungs: PositiveInt = 1  # > 1: successive halving, a third of the trials for three times as long
    by: str = "valid_loss"  # the figure that chooses, not one of test data
    highest: bool = False  # choose the highest, as of an accuracy
    seed: Seed = 0  # of the trials that are drawn; the recipe's own is a setting like others
    out: Annotated[str, NONEMPTY] | None = None  # folder; None: a new one in runs/
    resume: bool = False  # go on with the search in --out, or with the last one

    def check(self) -> None:
        if self.method == "grid" and self.trials is not None:
            raise InputError("--trials is for --method random: a grid has as many as it has points")
        if self.method == "random" and self.points is not None:
            raise InputError("--points is for --method grid")
        if self.by.startswith(TEST):
            raise InputError(f"--by must not be of test data, got {self.by!r}")


def load(path: str) -> ModuleType:
    """Import a recipe from its file."""
    file = Path(path)
    if not file.is_file():
        raise InputError(f"no such file: {path}")
    spec = importlib.util.spec_from_file_location(f"searched_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their annotations up there
    spec.loader.exec_module(module)
    if not (hasattr(module, "main") and hasattr(module, "Config")):
        raise InputError(f"{path} is no recipe: it has no main and Config")
    return module


def arguments(config: type[Settings], chosen: dict[str, Value]) -> list[str]:
    """Write settings as the words of a recipe's command line."""
    hints = get_type_hints(config)
    words: list[str] = []
    for name, value in chosen.items():
        flag, text = name.replace("_", "-"), str(value)
        hint = hints.get(name)
        kinds = {get_origin(kind) or kind for kind in (hint, *get_args(hint))}
        if hint is bool:
            if text not in ("true", "false"):
                raise InputError(f"--{flag} must be true or false, got {text!r}")
            words.append(f"--{flag}" if text == "true" else f"--no-{flag}")
        elif tuple in kinds and text != "None":
            words += [f"--{flag}", *text.split()]
        else:
            words.append(f"--{flag}={text}")
    return words


def settings_of(recipe: ModuleType, chosen: dict[str, Value], path: str) -> Any:
    try:
        return parse(recipe.Config, argv=arguments(recipe.Config, chosen))
    except InputError as error:
        raise InputError(f"--space of {path}: {error}") from None


def planned(search: Search, space: Space) -> list[dict[str, Value]]:
    """List the settings of all trials."""
    if search.method == "grid":
        return search_space.grid(space, points=search.points or 4)
    count = search.trials or 20
    return [search_space.draw(space, index, seed=search.seed) for index in range(count)]


def open_search(search: Search) -> Path:
    """Make the folder of a search, or find that of one to go on with."""
    folder = open_folder(search.out, f"search-{Path(search.recipe).stem}", resume=search.resume)
    items = [item.strip() for item in ",".join(search.space).split(",")]
    fixed = dataclasses.asdict(search) | {"recipe": Path(search.recipe).name, "space": items}
    fixed = {name: value for name, value in fixed.items() if name not in FREE_SETTINGS}
    if (folder / CONFIG).exists():
        changes = config_changes(read_config(folder / CONFIG), fixed)
        if changes:
            raise InputError(f"{folder} holds another search: {'; '.join(changes)}")
    write_config(folder / CONFIG, fixed)
    return folder


def attempt(
    main: Any, settings: Any, index: int, rung: int, chosen: dict[str, Value], *, strict: bool
) -> Trial:
    """Run one trial, or go on with it; what makes only this one impossible is its result.

    With `strict`, as long as no trial has come to an end, a mistake of the user stops the search:
    most likely it would be the same in all of them.
    """
    settings = dataclasses.replace(
        settings, quiet=True, resume=(Path(settings.out) / CONFIG).exists()
    )
    try:
        return Trial(index, chosen, choosing(execute(main, settings)), rung)
    except (Preempted, LockedError, DiskError):
        raise
    except Exception as error:
        message = explain(error, settings)[1]
        if message is None or (strict and isinstance(error, InputError)):
            raise  # a bug has a traceback
        return Trial(index, chosen, {}, rung, failed=message.removeprefix("error: "))


class Work:
    """The trials of one search, those done before included."""

    def __init__(self, search: Search, recipe: ModuleType, folder: Path, space: Space):
        self.search, self.recipe, self.folder, self.space = search, recipe, folder, space
        self.names = search_space.varied(space)
        self.trials = Trials(folder / "trials.jsonl")

    def run(self, index: int, rung: int, settings: Any, chosen: dict[str, Value]) -> None:
        """Run a trial unless its result is there, and bring the table up to date."""
        if (index, rung) in self.trials.found:
            return
        settings = dataclasses.replace(settings, out=str(self.run_folder(index, rung)))
        strict = all(trial.failed for trial in self.trials.found.values())
        trial = attempt(self.recipe.main, settings, index, rung, chosen, strict=strict)
        now = score(trial, self.search.by)
        self.trials.add(trial)
        write_text(self.folder / "trials.md", markdown(self.ranked(), self.names) + "\n")
        tried = " ".join(f"{name}={chosen[name]}" for name in self.names)
        told = trial.failed or f"{self.search.by} {now:.4g}"
        best = self.ranked()[0]
        print(
            f"trial {index} ({settings.steps} steps): {tried}: {told}; best: trial {best.number}",
            file=sys.stderr,
            flush=True,
        )

    def run_folder(self, index: int, rung: int) -> Path:
        return self.folder / "trials" / (f"{index:04d}" + (f"-rung{rung}" if rung else ""))

    def ranked(self) -> list[Trial]:
        search = self.search
        return ranked(self.trials.found.values(), search.by, highest=search.highest)

    def best_of(self, rung: int, candidates: Sequence[int], count: int) -> list[int]:
        """Return the candidates that go on, in order of their numbers."""
        own = [t for t in self.ranked() if t.rung == rung and t.number in candidates]
        good = [t.number for t in own if math.isfinite(score(t, self.search.by))]
        return sorted(good[:count])

    def result(self) -> dict[str, Any]:
        """Draw the picture, and read what test data say about the best trial."""
        order = self.ranked()
        best = order[0]
        if not math.isfinite(score(best, self.search.by)):
            why = best.failed or f"{self.search.by} is {score(best, self.search.by)}"
            raise InputError(f"all {len(order)} trials failed; trial {best.number}: {why}")
        # only trials of equal length can be compared
        shown = [t for t in order if t.rung == best.rung]
        if self.names:
            plots.trials(
                [{name: t.settings[name] for name in self.names} for t in shown],
                [score(t, self.search.by) for t in shown],
                self.folder / "trials.png",
                quantity=self.search.by,
                logarithmic=search_space.logarithmic(self.space),
                best=0,
            )
        figures = read_config(self.run_folder(best.number, best.rung) / RESULT)
        tested = {name: value for name, value in figures.items() if name.startswith(TEST)}
        return {"trial": best.number} | best.settings | best.figures | tested


def main(search: Search) -> dict[str, Any]:
    recipe = load(search.recipe)
    space = search_space.parse(",".join(search.space))
    for name in OURS:
        if name in space:
            raise InputError(f"--space must not hold {name}, which the search decides")
    plan = planned(search, space)
    # all of them before the first is run: a mistake shows now, not in an hour
    settings = [settings_of(recipe, chosen, search.recipe) for chosen in plan]
    rungs = halving(len(plan), min(s.steps for s in settings), search.rungs)
    if search.rungs > 1 and len({s.steps for s in settings}) > 1:
        raise InputError("--rungs decides how long trials are trained: --space must not vary steps")
    folder = open_search(search)
    with lock(folder):
        work = Work(search, recipe, folder, space)
        candidates: Sequence[int] = range(len(plan))
        for rung, (count, steps) in enumerate(rungs):
            if rung:
                candidates = work.best_of(rung - 1, candidates, count)
            for index in candidates:
                longer = {"steps": steps} if len(rungs) > 1 else {}
                one = dataclasses.replace(settings[index], **longer)
                work.run(index, rung, one, plan[index])
        figures = work.result()
        write_config(folder / RESULT, figures)
    return figures


if __name__ == "__main__":
    cli(main, Search, __doc__)
