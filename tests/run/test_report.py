import dataclasses
import re

import numpy as np
import pytest

from fdl.errors import DiskError
from fdl.run.report import Report, markdown, versions, write


@dataclasses.dataclass(frozen=True)
class Inner:
    decay: float = 0.9


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 100
    lr: float = 0.1
    hidden: tuple[int, ...] = (64, 64)
    note: str = ""
    inner: Inner = Inner()


FACTS = Report(
    recipe="mlp",
    outcome="finished",
    command="python recipes/mlp.py --lr 0.30000000000000004",
    settings=Config(lr=0.1 + 0.2, note="a|b", inner=Inner(decay=0.5)),
    parallel="pmap",
    steps=100,
    seconds=75.2,
    figures={"accuracy": np.float32(0.9273743), "steps": 100, "loss": float("nan"), "best": None},
    summary="path  shape\nw     3",
    best="step 80, valid_loss 0.0812",
    curves="curves.png",
)


def rows(text, heading):
    """Read one table back: {first cell: other cells}."""
    part = text.split(heading)[1].split("\n#")[0]
    table = re.findall(r"^\| (.*) \|$", part, re.M)
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in table]
    return {row[0]: row[1:] for row in cells[2:]}


def test_every_fact_is_found_again_where_it_belongs():
    text = markdown(FACTS)
    assert text.startswith("# mlp\n\n```\npython recipes/mlp.py --lr 0.30000000000000004\n```\n")
    run = rows(text, "# mlp")
    assert run["outcome"] == ["finished"] and run["steps"] == ["100 of 100"]
    assert run["wall time"] == ["1 min 15 s"] and run["parallel"] == ["pmap"]
    assert run["best checkpoint"] == ["step 80, valid_loss 0.0812"]
    assert re.fullmatch(r"\d+ x \S.*", run["devices"][0])
    assert rows(text, "## Figures") == {
        "accuracy": ["0.927374"],
        "steps": ["100"],
        "loss": ["nan"],
        "best": ["None"],
    }
    assert rows(text, "## Settings") == {
        "--steps": ["100", ""],
        "--lr": ["0.3", "0.1"],
        "--hidden": ["64 64", ""],
        "--note": ["a\\|b", ""],
        "--inner.decay": ["0.5", "0.9"],
    }
    assert "![curves](curves.png)" in text and "```\npath  shape\nw     3\n```" in text
    assert rows(text, "## Versions")["numpy"] == [np.__version__]
    assert "## Warnings" not in text


def test_a_run_that_stopped_early_says_so_and_why():
    text = markdown(
        FACTS._replace(
            outcome="stopped early: asked to by SIGTERM, saved at step 40",
            steps=40,
            figures={},
            best=None,
            curves=None,
            warnings=["checkpoint 30 was rejected: step.json is damaged"],
        )
    )
    run = rows(text, "# mlp")
    assert run["outcome"] == ["stopped early: asked to by SIGTERM, saved at step 40"]
    assert run["steps"] == ["40 of 100"] and "best checkpoint" not in run
    assert "\n- checkpoint 30 was rejected: step.json is damaged\n" in text
    assert "![" not in text and "\nNone.\n" in text


def test_the_columns_of_a_table_are_aligned():
    lines = markdown(FACTS).split("## Settings\n\n")[1].split("\n\n")[0].splitlines()
    assert len({tuple(m.start() for m in re.finditer(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_the_file_is_replaced_whole_and_a_missing_folder_is_a_disk_error(tmp_path):
    (tmp_path / "report.md").write_text("old")
    path = write(FACTS._replace(recipe="méthode 中文"), tmp_path)
    assert path.read_text("utf-8").startswith("# méthode 中文\n")
    assert [p.name for p in tmp_path.iterdir()] == ["report.md"]
    with pytest.raises(DiskError, match="cannot write .*No such file"):
        write(FACTS, tmp_path / "gone")


def test_versions_are_those_of_the_imported_packages():
    import flax
    import jax
    import optax

    found = versions()
    for package in (jax, flax, optax):
        assert found[package.__name__] == package.__version__
