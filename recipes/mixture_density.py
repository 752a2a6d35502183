"""A network that knows several right answers: mixture density outputs (DLB 6.2.2.4).

    scripts/run recipes/mixture_density.py

The inverse problem x = y + 0.3 sin(2 pi y) + noise has up to three y for one x. A Gaussian answers
with their mean, which is none of them, however well it is fitted; a mixture answers with all. The
picture densities.png in the run folder shows p(y | x) and samples of it.

Result: on 5000 new points the negative log-likelihood is -1.64 +- 0.02 for the mixture and -0.89 +-
0.04 for the Gaussian (mean and deviation of seeds 0 to 4), and the likeliest y gives x back to
0.009 instead of 0.067, in 14 s on 2 CPU cores.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fdl import data, models, ops, outputs, plots, regularizers, run, train
from fdl.pure import pure

SMALL = nnx.initializers.variance_scaling(0.01, "fan_in", "normal")  # the bias has the first word


@dataclass(frozen=True)
class Config(run.Settings):
    steps: run.PositiveInt = 3000  # updates of both networks
    batch: run.PositiveInt = 128  # examples in an update, over all devices
    eval_every: run.PositiveInt = 100  # steps between two evaluations
    points: run.PositiveInt = 1000  # examples to learn from
    components: run.PositiveInt = 5  # Gaussians of the mixture
    hidden: tuple[run.PositiveInt, ...] = (64, 64)  # widths of the hidden layers
    lr: run.PositiveFloat = 0.003  # of Adam, falling to 0 along a cosine
    l2: run.NonNegativeFloat = 0.0  # times half of sum w^2 over the weights, not the biases
    valid: run.OpenFraction = 0.2  # share of the training part that chooses and never trains


def forward(y):
    """Return what x would be for this y, without noise."""
    return y + 0.3 * jnp.sin(2 * jnp.pi * y)


def main(cfg: Config, session: run.Session) -> dict[str, float]:
    # Data
    examples = data.inverse_sine(cfg.points, seed=2 * cfg.seed)
    test = data.inverse_sine(5000, seed=2 * cfg.seed + 1)
    fit, valid = data.split_validation(examples, cfg.valid, seed=cfg.seed)
    inputs, targets = data.fit_standard(fit["x"]), data.fit_standard(fit["y"])

    def scaled(part):  # with what was learned on the training examples alone
        return {"x": inputs.apply(part["x"]), "y": targets.apply(part["y"])}

    fit, valid, test = scaled(fit), scaled(valid), scaled(test)

    # Model
    units = {
        "gaussian": outputs.heteroscedastic(1, by="log_variance"),
        "mixture": outputs.mixture(1, cfg.components),
    }
    applies, params = {}, {}
    for name, unit in units.items():
        config = models.MLPConfig(
            1, cfg.hidden, unit.size, unit=models.dense(ops.tanh), output_init=SMALL
        )
        applies[name], params[name], _ = pure(models.MLP(config, rngs=nnx.Rngs(cfg.seed)))
        params[name]["output"]["bias"] = unit.fit(fit["y"])  # apart, or all would stay the same

    def predict(params, x):
        """Return the distribution of y that each network predicts."""
        return {n: unit.distribution(applies[n](params[n], {}, x)[0]) for n, unit in units.items()}

    # Objective
    def objective(params, extra, batch, key):
        del key  # nothing is random here
        nll = {name: p.nll(batch["y"]) for name, p in predict(params, batch["x"]).items()}
        loss = sum(each.mean() for each in nll.values())  # the networks share no parameter
        metrics = {f"nll_{name}": train.mean(each) for name, each in nll.items()}
        return loss + regularizers.l2(params, cfg.l2), (extra, metrics)

    log_unit = float(np.log(targets.std[0]))  # densities of y itself, not of y / std

    @jax.jit
    def score(params, extra, batch):
        del extra
        scores = {}
        for name, p in predict(params, batch["x"]).items():
            x = inputs.invert(batch["x"])
            off = jnp.square(forward(targets.invert(p.mode())) - x)[:, 0]  # is the answer one?
            each = {"nll": p.nll(batch["y"]) + log_unit, "answer_mse": off}
            scores |= {f"{k}_{name}": train.mean(v, batch["mask"]) for k, v in each.items()}
        return scores

    def evaluate(params, part, prefix):
        return train.evaluate(score, params, {}, data.pad_batches(part, 256), prefix=prefix)

    # Optimizer
    tx = optax.adam(optax.cosine_decay_schedule(cfg.lr, cfg.steps))

    # Step
    runner = session.lift(train.make_step(objective, tx))
    state = train.init_state(params, {}, tx, seed=cfg.seed)
    best = {name: train.init_early_stopping(params[name]) for name in params}
    state, best = session.restore((state, best), data=fit)
    state = runner.put(state)

    # Loop
    for i in session.steps():
        batch = data.batch(fit, cfg.batch, seed=cfg.seed, step=i - 1, process=session.process)
        state, metrics = runner.step(state, batch)
        session.log(i, metrics)
        if session.due(i):
            now = runner.get(state.params)
            scores = evaluate(now, valid, "valid_")
            best = {  # each network keeps its own best parameters
                name: train.update_early_stopping(
                    best[name], scores[f"valid_nll_{name}"], step=i, params=now[name]
                )
                for name in best
            }
            session.record(i, scores)
        session.checkpoint(i, lambda: (runner.get(state), best))  # noqa: B023

    # Result
    final = {name: each.best_params for name, each in best.items()}
    grid = {"x": np.linspace(-0.2, 1.2, 281)[:, None], "y": np.linspace(-0.1, 1.1, 241)[:, None]}
    x, y = scaled(grid).values()
    some = {name: a[:500] for name, a in test.items()}
    sample = predict(final, some["x"])["mixture"].sample(jax.random.key(cfg.seed))
    points = {"Gaussian, and examples": some["y"], "mixture, and samples of it": sample}
    points = {
        title: (inputs.invert(some["x"])[:, 0], targets.invert(np.asarray(y))[:, 0])
        for title, y in points.items()
    }
    table = np.broadcast_to(y[:, None], (len(y), len(x), 1))
    densities = [np.exp(-p.nll(table) - log_unit) for p in predict(final, x).values()]
    panels = dict(zip(points, densities, strict=True))
    xs, ys = grid["x"][:, 0], grid["y"][:, 0]
    session.picture("densities.png", plots.densities, xs, ys, panels, points=points)
    scores = evaluate(final, test, "test_")
    nll = {name: value for name, value in scores.items() if "nll" in name}
    return nll | {f"test_answer_rmse_{n}": scores[f"test_answer_mse_{n}"] ** 0.5 for n in units}


if __name__ == "__main__":
    run.launch(main, Config)
