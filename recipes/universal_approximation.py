"""One hidden layer comes as close to a continuous function as its width allows (DLB 6.4.1).

    scripts/run recipes/universal_approximation.py

Networks of growing width learn f(x) = sin(3 x) + |x - 1/2| on [-2, 2] from its values at evenly
spaced points, and are compared with it halfway between them.

Result: the error falls from 0.34 with 2 units to 0.011 with 64, in 24 s on 2 CPU cores; the picture
functions.png in the run folder shows how.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fdl import data, losses, models, ops, plots, run, train
from fdl.pure import pure

UNITS = {"relu": ops.relu, "tanh": ops.tanh, "sigmoid": ops.sigmoid, "softplus": ops.softplus}


@dataclass(frozen=True)
class Config(run.Settings):
    steps: run.PositiveInt = 4000  # updates of every network
    batch: run.PositiveInt = 256  # points in an update, over all devices
    eval_every: run.PositiveInt = 500  # steps between two comparisons
    widths: tuple[run.PositiveInt, ...] = (2, 4, 8, 16, 32, 64)  # hidden units, a network each
    unit: Literal[*UNITS] = "tanh"  # hidden unit
    lr: run.PositiveFloat = 0.02  # of Adam, falling to 0 along a cosine


def target(x):
    return np.sin(3 * x) + np.abs(x - 0.5)


def main(cfg: Config, session: run.Session) -> dict[str, float]:
    # Data
    grid = np.linspace(-2, 2, 513, dtype=np.float32)[:, None]
    fit, between = ({"x": x, "y": target(x)} for x in (grid[:-1:2], grid[1::2]))

    # Model
    nets = {
        width: pure(
            models.MLP(
                models.MLPConfig(
                    1,
                    (width,),
                    1,
                    unit=models.dense(UNITS[cfg.unit]),
                    bias_init=nnx.initializers.normal(1.0),  # kinks all over the interval
                ),
                rngs=nnx.Rngs(cfg.seed),
            )
        )
        for width in cfg.widths
    }
    params = {str(width): net.params for width, net in nets.items()}

    # Objective
    def errors(params, x, y):
        """Squared error of each network at each point; Adam moves each as if it were alone."""
        outputs = {w: net.apply(params[str(w)], net.extra, x)[0] for w, net in nets.items()}
        return {w: losses.squared_error(out, y)[:, 0] for w, out in outputs.items()}

    def objective(params, extra, batch, key):
        del key  # nothing is random here
        each = errors(params, batch["x"], batch["y"])
        metrics = {f"mse_{w}": train.mean(e) for w, e in each.items()}
        return sum(e.mean() for e in each.values()), (extra, metrics)

    @jax.jit
    def score(params, extra, batch):
        del extra
        each = errors(params, batch["x"], batch["y"])
        return {f"mse_{w}": train.mean(e, batch["mask"]) for w, e in each.items()}

    # Optimizer
    tx = optax.adam(optax.cosine_decay_schedule(cfg.lr, cfg.steps))

    # Step
    runner = session.lift(train.make_step(objective, tx))
    state = session.restore(train.init_state(params, {}, tx, seed=cfg.seed), data=fit)
    state = runner.put(state)

    # Loop
    for i in session.steps():
        batch = data.batch(fit, cfg.batch, seed=cfg.seed, step=i - 1, process=session.process)
        state, metrics = runner.step(state, batch)
        session.log(i, metrics)
        if session.due(i):
            now = runner.get(state.params)
            batches = data.pad_batches(between, 256)
            session.record(i, train.evaluate(score, now, {}, batches, prefix="valid_"))
        session.checkpoint(i, lambda: runner.get(state))  # noqa: B023

    # Result
    final = runner.get(state.params)
    curves = {"f": target(grid[:, 0])} | {
        f"{w} units": np.asarray(net.apply(final[str(w)], net.extra, jnp.asarray(grid))[0][:, 0])
        for w, net in nets.items()
    }
    session.picture("functions.png", plots.functions, grid[:, 0], curves)
    mse = train.evaluate(score, final, {}, data.pad_batches(between, 256))
    return {f"rmse_{w}": mse[f"mse_{w}"] ** 0.5 for w in cfg.widths}


if __name__ == "__main__":
    run.launch(main, Config)
