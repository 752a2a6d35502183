"""From a table's cells to numbers, by rules learned on the training part alone."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdl.data.check import Task
from fdl.data.splits import Arrays
from fdl.data.standardize import fit_standard
from fdl.data.table import Column, Table, brief, target_task
from fdl.errors import InputError


class NumericRule(NamedTuple):
    """A number becomes (value - mean) / std; a missing one counts as `fill`."""

    name: str
    fill: float  # median of the training part
    mean: float
    std: float  # 1 where the training part was constant
    flag: bool  # values were missing in training: one more feature says so (0 or 1)


class CategoryRule(NamedTuple):
    """A category becomes a one-hot vector; one that training did not show becomes zeros."""

    name: str
    categories: tuple[str, ...]  # sorted
    flag: bool  # values were missing in training: one more feature says so (0 or 1)


class Preprocess(NamedTuple):
    """What `fit_table` learned: plain numbers and strings, to keep beside the parameters."""

    rules: tuple[NumericRule | CategoryRule, ...]
    target: str | None
    task: Task | None
    classes: tuple[str, ...]  # classification: label i is classes[i]
    target_mean: float  # regression: y = (target - target_mean) / target_std
    target_std: float

    @property
    def feature_names(self) -> tuple[str, ...]:
        """What each column of x means: "age", "age missing", "kind=cat"."""
        names: list[str] = []
        for rule in self.rules:
            if isinstance(rule, NumericRule):
                names.append(rule.name)
            else:
                names += [f"{rule.name}={category}" for category in rule.categories]
            names += [f"{rule.name} missing"] * rule.flag
        return tuple(names)

    def apply(self, table: Table) -> Arrays:
        """Return {"x": float32 (N, d)}, and "y" where the table has the target.

        Raises InputError for a column that is absent, a cell that is not a number where training
        had numbers, a class that training did not show.
        """
        x = np.concatenate([_features(rule, table) for rule in self.rules], axis=1)
        if self.target is None or self.target not in table.columns:
            return {"x": x}
        return {"x": x, "y": _target(self, table)}

    def to_units(self, y: NDArray[Any]) -> NDArray[np.float64]:
        """Return predictions of a regression in the units of the target column."""
        return self.target_mean + self.target_std * np.asarray(y, dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` can write; `Preprocess.from_dict` is the way back."""
        kinds = {NumericRule: "numeric", CategoryRule: "category"}
        rules = [{"kind": kinds[type(rule)], **rule._asdict()} for rule in self.rules]
        return {**self._asdict(), "rules": rules}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Preprocess":
        """Rebuild from `to_dict`, also after a trip through JSON; InputError where damaged."""
        kinds: dict[str, Any] = {"numeric": NumericRule, "category": CategoryRule}
        try:
            rules = []
            for entry in record["rules"]:
                fields = dict(entry)
                kind = kinds[fields.pop("kind")]
                if kind is CategoryRule:
                    fields["categories"] = tuple(fields["categories"])
                rules.append(kind(**fields))
            fields = {**record, "rules": tuple(rules), "classes": tuple(record["classes"])}
            return cls(**fields)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"not a record of Preprocess.to_dict: {brief(error)}") from None


def fit_table(train: Table, *, task: Task | None = None, max_categories: int = 100) -> Preprocess:
    """Learn how to turn a table into arrays, from its training part.

    Numbers: (v - mean) / std over the values present; the median for a missing one. Categories:
    one-hot. Where training has missing values, an extra feature marks them. A column that happens
    to be constant in the training part becomes zeros.

    Args:
      train: the training part only; what is learned from more than that makes test results too
        good.
      task: "classification", "regression", or None for `target_task(train)`.
      max_categories: more of them in one column are taken for a mistake, as an identifier would be.

    Returns:
      Preprocess, whose `apply` makes {"x", "y"} of any table with these columns: y is int32 class
      labels, or float32 standardised targets (`to_units` leads back).

    Raises:
      InputError: too many categories, one class only, or a target that does not suit the task.

    Example:
      >>> import tempfile, pathlib
      >>> from fdl.data.csv_file import load_csv
      >>> file = pathlib.Path(tempfile.mkdtemp()) / "pets.csv"
      >>> _ = file.write_text("weight,kind,home\\n1,cat,a\\n3,dog,b\\n?,cat,b\\n")
      >>> table = load_csv(file, "home")
      >>> learned = fit_table(table)
      >>> learned.feature_names, learned.classes
      (('weight', 'weight missing', 'kind=cat', 'kind=dog'), ('a', 'b'))
      >>> learned.apply(table)["x"].tolist()
      [[-1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]]
    """
    rules = tuple(_rule(name, train, max_categories) for name in train.features)
    if train.target is None:
        return Preprocess(rules, None, None, (), 0.0, 1.0)
    column = train.columns[train.target]
    task = target_task(train) if task is None else task
    if task == "classification":
        return Preprocess(rules, train.target, task, _classes(train, max_categories), 0.0, 1.0)
    if not column.numeric:
        raise InputError(f"{train.source}: target {train.target!r} must be numbers for regression")
    return Preprocess(rules, train.target, task, (), *_statistics(train.target, train)[1:])


def _rule(name: str, table: Table, max_categories: int) -> NumericRule | CategoryRule:
    column = table.columns[name]
    flag = bool(column.missing.any())
    if not column.numeric:
        categories = sorted(set(column.text[~column.missing]))
        if len(categories) > max_categories:
            raise InputError(
                f"{table.source}: column {name!r} has {len(categories)} categories, such as "
                f"{brief(categories[0])}; more than {max_categories} are too many, drop it"
            )
        return CategoryRule(name, tuple(categories), flag)
    return NumericRule(name, *_statistics(name, table), flag)


def _statistics(name: str, table: Table) -> tuple[float, float, float]:
    """Return median, mean and standard deviation of the numbers present."""
    column = table.columns[name]
    present = column.number[~column.missing]
    if len(present) == 0:
        return 0.0, 0.0, 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        learned = fit_standard(present)
        numbers = (float(np.median(present)), float(learned.mean), float(learned.std))
    if not all(map(math.isfinite, numbers)):
        row = int(np.nanargmax(np.abs(column.number)))
        raise InputError(f"{table.cell(name, row)} is too large to work with")
    return numbers


def _standardised(
    values: NDArray[np.float64], mean: float, std: float, name: str, table: Table
) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        z = ((values - mean) / std).astype(np.float32)
    far = np.flatnonzero(~np.isfinite(z))
    if len(far):
        where = table.cell(name, int(far[0]))
        raise InputError(f"{where} is too far from the training part's values")
    return z


def _features(rule: NumericRule | CategoryRule, table: Table) -> NDArray[np.float32]:
    if rule.name not in table.columns:
        raise InputError(f"{table.source}: no column {rule.name!r}, which training had")
    column = table.columns[rule.name]
    if isinstance(rule, NumericRule):
        _check_numeric(rule.name, table)
        values = np.where(column.missing, rule.fill, column.number)
        block = _standardised(values, rule.mean, rule.std, rule.name, table)[:, None]
    else:
        block = (column.text[:, None] == np.array(rule.categories, dtype=object)).astype(np.float32)
    flag = column.missing[:, None].astype(np.float32)
    return np.concatenate([block, flag], axis=1) if rule.flag else block


def _check_numeric(name: str, table: Table) -> None:
    column = table.columns[name]
    wrong = np.flatnonzero(~np.isfinite(column.number) & ~column.missing)
    if len(wrong):
        raise InputError(
            f"{table.cell(name, int(wrong[0]))} must be a finite number, as in training"
        )


def _classes(table: Table, max_categories: int) -> tuple[str, ...]:
    assert table.target is not None
    column = table.columns[table.target]
    if column.numeric and (column.number != np.round(column.number)).any():
        row = int(np.flatnonzero(column.number != np.round(column.number))[0])
        raise InputError(f"{table.cell(table.target, row)} is not a class label")
    numbers = all(_whole(text) for text in _class_names(column, column.numeric))
    names = set(_class_names(column, numbers))
    classes = sorted(names, key=int) if numbers else sorted(names)
    label = f"{table.source}: target {table.target!r}"
    if len(classes) < 2:
        raise InputError(f"{label} must have at least two classes in training, got {classes}")
    if len(classes) > max_categories:
        raise InputError(
            f"{label} has {len(classes)} classes, more than {max_categories}; is it a regression?"
        )
    return tuple(classes)


def _target(learned: Preprocess, table: Table) -> NDArray[Any]:
    assert learned.target is not None
    column = table.columns[learned.target]
    gone = np.flatnonzero(column.missing)
    if len(gone):
        raise InputError(f"{table.cell(learned.target, int(gone[0]))}: the target is missing")
    if learned.task == "regression":
        _check_numeric(learned.target, table)
        return _standardised(
            column.number, learned.target_mean, learned.target_std, learned.target, table
        )
    numbers = all(_whole(name) for name in learned.classes)
    index = {name: i for i, name in enumerate(learned.classes)}
    names = _class_names(column, numbers)
    for row, name in enumerate(names):
        if name not in index:
            raise InputError(f"{table.cell(learned.target, row)} is no class of the training part")
    return np.array([index[name] for name in names], dtype=np.int32)


def _class_names(column: Column, numbers: bool) -> list[str]:
    """Return each cell's class; among numbers 1, 1.0 and 01 are the same one."""
    if not numbers:
        return list(column.text)
    return [
        str(int(value)) if math.isfinite(value) and value == int(value) else text
        for value, text in zip(column.number, column.text, strict=True)
    ]


def _whole(name: str) -> bool:
    return name.removeprefix("-").isdecimal()
