"""A table in memory: named columns of cells, each a number, a category or missing."""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdl.data.splits import holdout_rows

# Whole numbers of more different values than this are taken for a quantity, not for class labels.
_MOST_LABELS = 20


class Column(NamedTuple):
    """One column; all arrays have shape (N,)."""

    numeric: bool  # every cell that is not missing is a number
    text: NDArray[Any]  # str objects, stripped; "" where missing
    number: NDArray[np.float64]  # NaN where the text is not a number or is missing
    missing: NDArray[np.bool_]

    def take(self, rows: NDArray[np.int64]) -> "Column":
        """Return the column of some rows, of the same kind."""
        return Column(self.numeric, self.text[rows], self.number[rows], self.missing[rows])


class Table(NamedTuple):
    """Columns of equal length and where they came from."""

    source: str  # the file, for messages
    lines: NDArray[np.int64]  # (N,) line of the file that each row ends on, from 1
    columns: dict[str, Column]  # in the order of the file
    target: str | None  # the column to predict

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns to predict from."""
        return tuple(name for name in self.columns if name != self.target)

    def take(self, rows: NDArray[np.int64]) -> "Table":
        """Return some rows as a table; the kinds of the columns do not change."""
        columns = {name: column.take(rows) for name, column in self.columns.items()}
        return self._replace(lines=self.lines[rows], columns=columns)

    def cell(self, name: str, row: int) -> str:
        """Return where a cell is and what it holds, for a message."""
        text = self.columns[name].text[row]
        return f"{self.source}: line {self.lines[row]}, column {name!r}: {brief(text)}"


class TableSplit(NamedTuple):
    """A table cut in two."""

    train: Table
    held: Table


def split_table(
    table: Table, fraction: float = 0.2, *, seed: int = 0, stratify: bool | None = None
) -> TableSplit:
    """Cut round(fraction * N) rows off a table at random, before anything is learned from it.

    Args:
      table: to cut.
      fraction: share of the part cut off, in (0, 1).
      seed: of the choice.
      stratify: keep the proportions of the target's values; None: where `target_task` says
        classification.

    Returns:
      TableSplit(train, held), each in the order of the file.

    Raises:
      InputError: a part would be empty.
      ValueError: `fraction` is out of range, or there is no target to stratify by.

    Example:
      >>> import tempfile, pathlib
      >>> from fdl.data.csv_file import load_csv
      >>> file = pathlib.Path(tempfile.mkdtemp()) / "a.csv"
      >>> _ = file.write_text("size,kind\\n1,a\\n2,b\\n3,a\\n4,b\\n")
      >>> train, held = split_table(load_csv(file, "kind"), 0.5)
      >>> sorted(held.columns["kind"].text)
      ['a', 'b']
    """
    if stratify and table.target is None:
        raise ValueError("split_table(stratify=True) needs a table with a target")
    if stratify is None:
        stratify = table.target is not None and target_task(table) == "classification"
    labels = None
    if stratify and table.target is not None:
        column = table.columns[table.target]
        labels = column.number if column.numeric else column.text.astype(str)
    chosen = holdout_rows(len(table.lines), fraction, seed=seed, labels=labels)
    rest = np.setdiff1d(np.arange(len(table.lines)), chosen)
    return TableSplit(table.take(rest), table.take(chosen))


def target_task(table: Table) -> Literal["classification", "regression"]:
    """Guess from the target column what there is to learn.

    Text is classification, and so are whole numbers of at most 20 different values; all else is
    regression.

    Raises:
      ValueError: the table has no target.

    Example:
      >>> import tempfile, pathlib
      >>> from fdl.data.csv_file import load_csv
      >>> file = pathlib.Path(tempfile.mkdtemp()) / "a.csv"
      >>> _ = file.write_text("size,price\\n1,0.5\\n2,1.5\\n")
      >>> target_task(load_csv(file, "price"))
      'regression'
    """
    if table.target is None:
        raise ValueError("target_task(table) needs a table with a target")
    column = table.columns[table.target]
    if not column.numeric:
        return "classification"
    values = np.unique(column.number[~column.missing])
    whole = bool((values == np.round(values)).all())
    return "classification" if whole and len(values) <= _MOST_LABELS else "regression"


def brief(value: object) -> str:
    """Return the value as one short line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
