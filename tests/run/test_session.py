"""What a recipe's loop is given, seen from the smallest recipe there can be."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from fdl import run
from fdl.errors import InputError, LockedError, NonFiniteError
from fdl.run.folder import lock
from fdl.run.log import read

BROKEN = 13  # the step whose loss is not finite, where a test asks for one


@dataclass(frozen=True)
class Config(run.Settings):
    steps: run.PositiveInt = 20
    eval_every: run.PositiveInt = 5
    log_every: run.PositiveInt = 2
    quiet: bool = True
    parallel: str = "none"
    rate: run.PositiveFloat = 0.5
    broken: bool = False
    points: int = 4


def main(cfg, session):
    """Halve a number again and again."""

    def step(state, batch):
        count, x = state
        loss = x + 0 / (BROKEN - 1 - count) if cfg.broken else x
        return (count + 1, cfg.rate * x), {"loss": loss}

    runner = session.lift(step)
    data = {"x": np.arange(cfg.points)}
    state = session.restore((np.float32(0), np.float32(1)), data=data)
    seen = []
    state = runner.put(state)
    for i in session.steps():
        seen.append(i)
        state, metrics = runner.step(state, {"x": np.zeros(1)})
        session.log(i, metrics)
        if session.due(i):
            session.record(i, {"valid_loss": float(runner.get(state)[1])})
        session.checkpoint(i, lambda: runner.get(state))  # noqa: B023
    return {"x": float(runner.get(state)[1]), "first": seen[0] if seen else 0}


def execute(folder, **settings):
    return run.execute(main, Config(out=str(folder), **settings))


def test_records_are_those_due_and_lie_in_order(tmp_path):
    assert execute(tmp_path / "run") == {"x": 0.5**20, "first": 1}
    records = read(tmp_path / "run/metrics.jsonl")
    trained = {r["step"]: r["train_loss"] for r in records if "train_loss" in r}
    scored = {r["step"]: r["valid_loss"] for r in records if "valid_loss" in r}
    assert trained == {i: pytest.approx(0.5 ** (i - 1)) for i in range(2, 21, 2)}
    assert scored == {i: pytest.approx(0.5**i) for i in range(5, 21, 5)}
    assert [r["step"] for r in records] == sorted(r["step"] for r in records)
    assert json.loads((tmp_path / "run/result.json").read_text())["x"] == 0.5**20


def test_a_recipe_can_read_its_own_records(tmp_path):
    found = []

    def watched(cfg, session):
        figures = main(cfg, session)
        found.extend(session.records())
        return figures

    run.execute(watched, Config(out=str(tmp_path / "run")))
    assert found == read(tmp_path / "run/metrics.jsonl")
    assert found[-1]["step"] == 20


def test_a_resume_with_more_steps_goes_on_where_the_run_ended(tmp_path):
    execute(tmp_path / "parts", steps=10)
    assert execute(tmp_path / "parts", resume=True) == {"x": 0.5**20, "first": 11}
    execute(tmp_path / "whole")
    name = "metrics.jsonl"
    assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_resume_with_other_settings_or_data_names_them_and_needs_force(tmp_path, capfd):
    execute(tmp_path / "run", steps=10)
    with pytest.raises(InputError, match=r"rate.*--force goes on with the new ones"):
        execute(tmp_path / "run", resume=True, rate=0.25)
    with pytest.raises(InputError, match="data"):
        execute(tmp_path / "run", resume=True, points=5)
    figures = execute(tmp_path / "run", resume=True, rate=0.25, force=True)
    assert figures["x"] == 0.5**10 * 0.25**10
    assert "note: changed on resume: " in capfd.readouterr().err


def test_a_loss_that_is_not_finite_ends_the_run_before_it_is_saved(tmp_path):
    with pytest.raises(NonFiniteError) as caught:
        execute(tmp_path / "run", broken=True)
    assert f"the loss of step {BROKEN} is nan" in str(caught.value)
    assert "step 10 is the newest checkpoint" in str(caught.value)
    assert f"the loss of step {BROKEN}" in (tmp_path / "run/report.md").read_text()


def test_a_locked_folder_is_refused(tmp_path):
    execute(tmp_path / "run", steps=10)
    with lock(tmp_path / "run"), pytest.raises(LockedError):
        execute(tmp_path / "run", resume=True)


def test_auto_means_pmap_where_there_are_many_devices(tmp_path):
    found = {}

    def devices(cfg, session):
        runner = session.lift(lambda state, batch: (state, {"loss": state}))
        found[cfg.parallel] = runner.devices
        return {}

    for parallel in ("auto", "none", "shard_map"):
        run.execute(devices, Config(out=str(tmp_path / parallel), parallel=parallel))
    assert found == {"auto": 8, "none": 1, "shard_map": 8}
