import numpy as np
import pytest

from fdl.data import load_csv, split_table, target_task
from fdl.errors import InputError


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "a.csv"
    rows = "".join(f"{i},{'ab'[i % 4 == 0]}\n" for i in range(40))
    path.write_text("number,kind\n" + rows)
    return load_csv(path, "kind")


def test_split_table_shares_the_rows_out_once_and_keeps_class_shares(table):
    train, held = split_table(table, 0.25, seed=1)
    lines = np.concatenate([train.lines, held.lines])
    np.testing.assert_array_equal(np.sort(lines), np.arange(2, 42))
    assert len(held.lines) == 10
    assert held.columns["kind"].text.tolist().count("a") in (7, 8)  # 3 of 4 are


def test_split_table_keeps_rows_whole(table):
    for part in split_table(table, 0.5, seed=2):
        np.testing.assert_array_equal(part.columns["number"].number, part.lines - 2)


def test_table_names_a_cell_by_its_line_after_a_split(table):
    part = table.take(np.array([30]))
    assert part.cell("number", 0) == f"{table.source}: line 32, column 'number': '30'"


def test_split_table_refuses_what_it_cannot_do(table):
    with pytest.raises(InputError, match="leaves one part empty"):
        split_table(table, 0.001)
    with pytest.raises(ValueError, match="needs a table with a target"):
        split_table(table._replace(target=None), stratify=True)
    with pytest.raises(ValueError, match="needs a table with a target"):
        target_task(table._replace(target=None))


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b"], "classification"),
        (["0", "1"], "classification"),
        (["1", "2.5"], "regression"),
        ([str(i) for i in range(20)], "classification"),
        ([str(i) for i in range(21)], "regression"),
    ],
)
def test_target_task_follows_the_rule_of_its_docstring(tmp_path, values, task):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "".join(f"{i / 7},{v}\n" for i, v in enumerate(values)))
    assert target_task(load_csv(path, "y")) == task
