"""Reading a CSV file into a table; whatever is wrong with it is named by line and column."""

import csv
import io
import math
import os
from collections.abc import Collection, Sequence

import numpy as np

from fdl.data.npy_files import show
from fdl.data.table import Column, Table, brief
from fdl.data.text_files import read_text
from fdl.errors import InputError

MISSING = ("", "?", "na", "n/a", "nan", "null", "none")

# A column this full of numbers is meant to be numeric: its few other cells are slips.
_NUMERIC_SHARE = 0.9
_NUMERIC_LEAST = 10


def load_csv(
    path: str | os.PathLike[str],
    target: str | None = None,
    *,
    drop: Collection[str] = (),
    categorical: Collection[str] = (),
    missing: Collection[str] = MISSING,
    delimiter: str = ",",
    learn: bool = True,
    max_bytes: int = 2**28,
) -> Table:
    """Read a table with a header line; find out which columns are numbers and which are categories.

    UTF-8, with or without byte order mark; any line ends; quoted cells may hold delimiters and line
    breaks; blank lines are skipped; spaces around a cell do not count. A column is numeric if all
    its cells are (decimal point, no separators of thousands), else categorical.

    Args:
      path: the file.
      target: the column to predict; None: there is none.
      drop: columns to leave out.
      categorical: columns that hold categories even if they look like numbers.
      missing: what an absent value looks like, in lower case; compared without regard to case.
      delimiter: one character between cells.
      learn: the file is to learn from, so that columns which teach nothing are refused: empty,
        constant, or equal to another (equal to the target is worse: it gives the answer away).
        False: to predict for.
      max_bytes: the largest file to read.

    Returns:
      Table; its rows remember their lines in the file.

    Raises:
      InputError: one line that names the file, the line and column, the rule and the value.

    Example:
      >>> import tempfile, pathlib
      >>> file = pathlib.Path(tempfile.mkdtemp()) / "pets.csv"
      >>> _ = file.write_text("weight,kind,legs\\n4.1,cat,4\\n,dog,4\\n0.03,bird,2\\n")
      >>> table = load_csv(file, "legs")
      >>> {name: column.numeric for name, column in table.columns.items()}
      {'weight': True, 'kind': False, 'legs': True}
      >>> table.columns["weight"].missing.tolist()
      [False, True, False]
    """
    name = show(path)
    header, rows, lines = _parse(read_text(path, max_bytes=max_bytes), delimiter, name)
    _check_header(header, delimiter, name)
    wanted = () if target is None else (target,)
    for column in (*wanted, *drop, *categorical):
        if column not in header:
            raise InputError(f"{name}: no column {column!r}; the columns are {_listed(header)}")
    if target in drop:
        raise InputError(f"{name}: the target {target!r} cannot be dropped")
    if not rows:
        raise InputError(f"{name}: no rows below the header")
    columns = {
        column: _column(cells, lines, column in categorical, missing, f"column {column!r}", name)
        for column, cells in zip(header, zip(*rows, strict=True), strict=True)
        if column not in drop
    }
    table = Table(name, np.array(lines), columns, target)
    if not table.features:
        raise InputError(f"{name}: no columns to predict from")
    if learn:
        _check_teaches(table)
    return table


def _parse(text: str, delimiter: str, name: str) -> tuple[list[str], list[list[str]], list[int]]:
    """Return the header, the rows, and the line on which each row ends."""
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    except TypeError:
        raise InputError(f"the delimiter must be one character, got {delimiter!r}") from None
    header: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not cells or cells == [""]:
                continue
            if not header:
                header = cells
            elif len(cells) != len(header):
                raise InputError(
                    f"{name}: line {reader.line_num} has {len(cells)} cells, the header has "
                    f"{len(header)}"
                )
            else:
                rows.append(cells)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{name}: line {reader.line_num}: {error}") from None
    if not header:
        raise InputError(f"{name}: is empty")
    return header, rows, lines


def _check_header(header: Sequence[str], delimiter: str, name: str) -> None:
    if len(header) == 1:
        other = next((mark for mark in ";\t,|" if mark != delimiter and mark in header[0]), None)
        hint = f"; is the delimiter {other!r}?" if other else ""
        raise InputError(f"{name}: only one column, {brief(header[0])}{hint}")
    seen: set[str] = set()
    for position, column in enumerate(header, start=1):
        if not column:
            raise InputError(f"{name}: the header has no name for column {position}")
        if column in seen:
            raise InputError(f"{name}: the header names the column {brief(column)} twice")
        seen.add(column)
    if all(_number(column) is not None for column in header):
        raise InputError(f"{name}: the first line must name the columns, got {_listed(header)}")


def _column(
    cells: Sequence[str],
    lines: Sequence[int],
    as_text: bool,
    missing: Collection[str],
    label: str,
    name: str,
) -> Column:
    absent = np.array([cell.lower() in missing for cell in cells])
    parsed = [None if gone else _number(cell) for cell, gone in zip(cells, absent, strict=True)]
    present = len(cells) - int(absent.sum())
    numbers = sum(value is not None for value in parsed)
    numeric = not as_text and 0 < numbers == present
    if not as_text and not numeric and numbers >= max(_NUMERIC_LEAST, _NUMERIC_SHARE * present):
        row = next(i for i, v in enumerate(parsed) if v is None and not absent[i])
        raise InputError(
            f"{name}: line {lines[row]}, {label}: must be a number, as {numbers} of {present} "
            f"in the column are, got {brief(cells[row])}"
        )
    for row, value in enumerate(parsed if numeric else ()):
        if value is not None and not math.isfinite(value):
            raise InputError(
                f"{name}: line {lines[row]}, {label}: must be finite, got {brief(cells[row])}"
            )
    text = np.array(cells, dtype=object)
    text[absent] = ""
    number = np.array([math.nan if v is None else v for v in parsed], dtype=np.float64)
    return Column(numeric, text, number, absent)


def _number(cell: str) -> float | None:
    # float() would also take 1_000, which in a table is rather a name.
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _check_teaches(table: Table) -> None:
    seen: dict[bytes | tuple[str, ...], str] = {}
    if table.target is not None and table.columns[table.target].missing.any():
        row = int(np.flatnonzero(table.columns[table.target].missing)[0])
        raise InputError(
            f"{table.source}: line {table.lines[row]}: the target {table.target!r} is missing"
        )
    for name, column in table.columns.items():
        label = f"{table.source}: {'target' if name == table.target else 'column'} {name!r}"
        if column.missing.all():
            raise InputError(f"{label} is empty; drop it")
        values = column.number if column.numeric else column.text
        if not column.missing.any() and (values == values[0]).all():
            advice = "there is nothing to learn" if name == table.target else "drop it"
            raise InputError(f"{label} is constant, {brief(column.text[0])} in all rows; {advice}")
        content = column.number.tobytes() if column.numeric else tuple(column.text)
        if content in seen:
            raise InputError(f"{label} equals column {seen[content]!r}; drop one of them")
        seen[content] = name


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(brief(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
