"""A network learns a column of your own table from the other columns.

    scripts/run recipes/tabular.py --csv table.csv --target price
    scripts/run recipes/tabular.py                  # breast cancer, from a table it writes for you

The file begins with a line of column names. Columns of numbers are standardised, all others become
one input for each category; an empty cell is filled, and marked as such. All of that is learned on
the training part alone, and kept as preprocess.json in the run folder.

Result: test accuracy 0.960 +- 0.016 on breast cancer (mean and deviation of seeds 0 to 4, each with
a test part of its own; the most common class .632), in 9 s on 2 CPU cores.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import optax
from flax import nnx

from fdl import data, losses, models, regularizers, run, train
from fdl.errors import InputError
from fdl.pure import pure


@dataclass(frozen=True)
class Config(run.Settings):
    steps: run.PositiveInt = 1500  # updates of the parameters
    batch: run.PositiveInt = 32  # rows in an update, over all devices
    eval_every: run.PositiveInt = 50  # steps between two evaluations
    csv: str | None = None  # your table; None: breast cancer
    target: str | None = None  # the column to predict
    task: Literal["auto", "classification", "regression"] = "auto"  # auto: by the target's values
    drop: tuple[str, ...] = ()  # columns to leave out, such as a row number
    categorical: tuple[str, ...] = ()  # columns of numbers that name categories
    delimiter: str = ","  # between the cells
    hidden: tuple[run.PositiveInt, ...] = (64, 64)  # widths of the hidden layers
    lr: run.PositiveFloat = 0.002  # of Adam
    l2: run.NonNegativeFloat = 0.001  # times half of sum w^2 over the weights, not the biases
    dropout: run.DropRate = 0.2  # of hidden units
    test: run.OpenFraction = 0.2  # share of the rows that is looked at once, at the end
    valid: run.OpenFraction = 0.2  # share of the others that chooses and never trains
    patience: run.NonNegativeInt = 10  # stop after so many evaluations without gain; 0: never

    def check(self):
        super().check()
        if (self.csv is None) != (self.target is None):
            raise InputError("--csv and --target go together: the table and its column to predict")


def main(cfg: Config, session: run.Session) -> dict[str, float]:
    # Data
    path, target = (cfg.csv, cfg.target) if cfg.csv else (example(session.folder), "diagnosis")
    table = data.load_csv(
        path, target, drop=cfg.drop, categorical=cfg.categorical, delimiter=cfg.delimiter
    )
    rest, test = data.split_table(table, cfg.test, seed=cfg.seed)
    fit, valid = data.split_table(rest, cfg.valid, seed=cfg.seed)
    learned = data.fit_table(fit, task=None if cfg.task == "auto" else cfg.task)
    run.write_config(session.folder / "preprocess.json", learned.to_dict())
    fit, valid, test = (learned.apply(part) for part in (fit, valid, test))
    classes = len(learned.classes)

    # Model
    config = models.MLPConfig(fit["x"].shape[1], cfg.hidden, classes or 1, dropout=cfg.dropout)
    apply, params, extra = pure(models.MLP(config, rngs=nnx.Rngs(cfg.seed)))

    # Objective
    def errors(out, y):
        """Per-example loss, and the share of errors or the squared error."""
        if classes:
            return losses.softmax_cross_entropy(out, y), losses.zero_one(out, y)
        return losses.half_squared_error(out[:, 0], y), losses.squared_error(out[:, 0], y)

    def objective(params, extra, batch, key):
        out, extra = apply(params, extra, batch["x"], key=key, train=True)
        loss = errors(out, batch["y"])[0].mean()
        return loss + regularizers.l2(params, cfg.l2), (extra, {})

    @jax.jit
    def score(params, extra, batch):
        each = errors(apply(params, extra, batch["x"])[0], batch["y"])
        return {
            n: train.mean(e, batch["mask"]) for n, e in zip(("loss", "error"), each, strict=True)
        }

    def evaluate(model, part, prefix=""):
        return train.evaluate(score, *model, data.pad_batches(part, 256), prefix=prefix)

    # Optimizer
    tx = optax.adam(cfg.lr)

    # Step
    runner = session.lift(train.make_step(objective, tx))
    state = train.init_state(params, extra, tx, seed=cfg.seed)
    early = train.init_early_stopping((params, extra))
    state, early = session.restore((state, early), data=fit)
    state = runner.put(state)

    # Loop
    for i in session.steps():
        if train.should_stop(early, cfg.patience):
            break
        batch = data.batch(fit, cfg.batch, seed=cfg.seed, step=i - 1, process=session.process)
        state, metrics = runner.step(state, batch)
        session.log(i, metrics)
        if session.due(i):
            model = runner.get((state.params, state.extra))
            scores = evaluate(model, valid, "valid_")
            early = train.update_early_stopping(early, scores["valid_loss"], step=i, params=model)
            session.record(i, scores)
        session.checkpoint(i, lambda: (runner.get(state), early))  # noqa: B023

    # Result
    model = early.best_params if cfg.patience else runner.get((state.params, state.extra))
    error = evaluate(model, test)["error"]
    if classes:
        common = np.bincount(fit["y"]).argmax()
        return {"test_accuracy": 1 - error, "most_common": float((test["y"] == common).mean())}
    unit, spread = learned.target_std, float(np.square(test["y"]).mean())
    return {"test_rmse": unit * error**0.5, "mean_rmse": unit * spread**0.5}


def example(folder: Path) -> Path:
    """Write the embedded breast cancer set as anyone's table would be."""
    parts = data.breast_cancer()
    x, y = (np.concatenate([part[name] for part in parts]) for name in ("x", "y"))
    path = folder / "breast_cancer.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"feature {i + 1}" for i in range(x.shape[1])), "diagnosis"])
        writer.writerows([*row, ("malignant", "benign")[k]] for row, k in zip(x, y, strict=True))
    return path


if __name__ == "__main__":
    run.launch(main, Config)
