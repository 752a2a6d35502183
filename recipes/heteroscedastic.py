"""A network learns how far it may be wrong, as a function of the input (DLB 6.2.2.4).

    scripts/run recipes/heteroscedastic.py                    # a sine whose noise grows with x
    scripts/run recipes/heteroscedastic.py --data sunspots    # next year's from the last nine

Two networks maximise a Gaussian likelihood: "learned" puts out the spread beside the mean,
"constant" has one spread for all inputs. The picture bands.png in the run folder shows both.

Result: on 5000 new points the negative log-likelihood is 1.386 +- 0.008 with a learned spread and
1.475 +- 0.012 with a constant one (mean and deviation of seeds 0 to 4; the noise itself has 1.374),
in 10 s on 2 CPU cores. On sunspots, which are few, either may win: it depends on the settings.
"""

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fdl import data, models, ops, outputs, plots, regularizers, run, train
from fdl.pure import pure

PAST = 9  # years that predict the next one


def sine(points, seed):
    x = np.linspace(0, 1, 201)
    fit = data.heteroscedastic_sine(points, seed=2 * seed)
    shown = {"xs": x, "truth": (2 * np.sin(2 * np.pi * x), x + 0.5)}
    shown["points"] = (fit["x"][:, 0], fit["y"][:, 0])
    return fit, data.heteroscedastic_sine(5000, seed=2 * seed + 1), x[:, None], shown


def sunspots(points, seed):
    del points, seed  # these are what they are
    before, after = data.sunspots()
    fit = data.windows(before["x"], PAST)
    test = data.windows(np.concatenate([before["x"][-PAST:], after["x"]]), PAST)
    fit, test = ({"x": part["x"], "y": part["y"][:, None]} for part in (fit, test))
    return fit, test, test["x"], {"xs": after["year"], "points": (after["year"], after["x"])}


DATA = {"sine": sine, "sunspots": sunspots}


@dataclass(frozen=True)
class Config(run.Settings):
    steps: run.PositiveInt = 1500  # updates of both networks
    batch: run.PositiveInt = 64  # examples in an update, over all devices
    eval_every: run.PositiveInt = 50  # steps between two evaluations
    data: Literal[*DATA] = "sine"  # what is learned
    points: run.PositiveInt = 500  # examples of the sine to learn from
    hidden: tuple[run.PositiveInt, ...] = (64,)  # widths of the hidden layers
    by: Literal["precision", "variance", "log_variance"] = "precision"  # what a network puts out
    lr: run.PositiveFloat = 0.01  # of Adam, falling to 0 along a cosine
    l2: run.NonNegativeFloat = 1e-4  # times half of sum w^2 over the weights, not the biases
    valid: run.OpenFraction = 0.2  # share of the training part that chooses and never trains


def main(cfg: Config, session: run.Session) -> dict[str, float]:
    # Data
    examples, test, grid, shown = DATA[cfg.data](cfg.points, cfg.seed)
    fit, valid = data.split_validation(examples, cfg.valid, seed=cfg.seed)
    inputs, targets = data.fit_standard(fit["x"]), data.fit_standard(fit["y"])

    def scaled(part):  # with what was learned on the training examples alone
        return {"x": inputs.apply(part["x"]), "y": targets.apply(part["y"])}

    fit, valid, test = scaled(fit), scaled(valid), scaled(test)

    # Model
    unit = outputs.heteroscedastic(1, by=cfg.by)
    start = unit.fit(fit["y"])  # mean and spread of the targets, whatever the input
    features_in, unit_hidden = fit["x"].shape[1], models.dense(ops.tanh)
    config = models.MLPConfig(features_in, cfg.hidden, unit.size, unit=unit_hidden)
    apply, net, extra = pure(models.MLP(config, rngs=nnx.Rngs(cfg.seed)))
    net["output"]["bias"] = start
    params = {"learned": {"net": net}, "constant": {"net": net, "spread": start[1:]}}

    def predict(params, x):
        """Return the distribution of the target that each network predicts."""
        raws = {name: apply(p["net"], extra, x)[0] for name, p in params.items()}
        mean = raws["constant"][:, :1]
        spread = jnp.broadcast_to(params["constant"]["spread"], mean.shape)
        raws["constant"] = jnp.concatenate([mean, spread], -1)  # of its net the mean alone
        return {name: unit.distribution(raw) for name, raw in raws.items()}

    # Objective
    def objective(params, extra, batch, key):
        del key  # nothing is random here
        nll = {name: p.nll(batch["y"]) for name, p in predict(params, batch["x"]).items()}
        loss = sum(each.mean() for each in nll.values())  # the networks share no parameter
        metrics = {f"nll_{name}": train.mean(each) for name, each in nll.items()}
        return loss + regularizers.l2(params, cfg.l2), (extra, metrics)

    @jax.jit
    def score(params, extra, batch):
        del extra
        scores = {}
        for name, p in predict(params, batch["x"]).items():
            off = jnp.abs(batch["y"] - p.mean())[:, 0]
            inside = off < 1.96 * jnp.sqrt(p.variance()[:, 0])  # where 95 % ought to be
            each = {"nll": p.nll(batch["y"]), "mse": jnp.square(off), "within_95": inside}
            scores |= {f"{k}_{name}": train.mean(v, batch["mask"]) for k, v in each.items()}
        return scores

    def evaluate(params, part, prefix):
        return train.evaluate(score, params, extra, data.pad_batches(part, 256), prefix=prefix)

    # Optimizer
    tx = optax.adam(optax.cosine_decay_schedule(cfg.lr, cfg.steps))

    # Step
    runner = session.lift(train.make_step(objective, tx))
    state = train.init_state(params, extra, tx, seed=cfg.seed)
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

    # Result, in the units of the data
    final, std = {name: each.best_params for name, each in best.items()}, float(targets.std[0])
    drawn = {
        name: (targets.invert(p.mean())[:, 0], std * np.sqrt(p.variance())[:, 0])
        for name, p in predict(final, inputs.apply(grid)).items()
    }
    session.picture("bands.png", plots.bands, shown.pop("xs"), drawn, **shown)
    scores, found = evaluate(final, test, ""), {}
    for name in sorted(final):
        found[f"test_nll_{name}"] = scores[f"nll_{name}"] + math.log(std)
        found[f"test_rmse_{name}"] = std * scores[f"mse_{name}"] ** 0.5
        found[f"test_within_95_{name}"] = scores[f"within_95_{name}"]
    return found


if __name__ == "__main__":
    run.launch(main, Config)
