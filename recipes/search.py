"""Random and grid search for hyper-parameters, all trials trained at once (DLB 11.4).

    scripts/run recipes/search.py                               # 32 trials drawn at random
    scripts/run recipes/search.py --method grid --points 3 --space lr=log:1e-3:1,dropout=0:0.8

Learning rate, momentum, weight decay and dropout rate are numbers in the training state, so that
one compiled step updates all networks, each device some of them. The lowest loss on validation
data chooses, and only the chosen network reads the test digits. The run folder gets trials.md, the
best first, and trials.png. For options that change shapes, and other recipes: `scripts/search`.

Result: test accuracy 0.917 +- 0.003, 0.31 +- 0.04 nats (mean and deviation of seeds 0 to 4); with
the settings of recipes/mlp.py 0.904 +- 0.007 and 0.36 +- 0.01; in 9 s on 2 CPU cores.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fdl import averaging, data, initializers, losses, models, plots, regularizers, run, train
from fdl.errors import InputError, NonFiniteError
from fdl.run import search_space
from fdl.run.trials import Trial, markdown, ranked, score

USUAL = {"lr": 0.05, "momentum": 0.9, "l2": 1e-4, "dropout": 0.2}  # where the space has no say
BELOW = {"lr": np.inf, "momentum": 1, "l2": np.inf, "dropout": 1}  # all are >= 0


@dataclass(frozen=True)
class Config(run.Settings):
    space: str = "lr=log:1e-3:1,momentum=0:0.99,l2=log:1e-6:1e-2,dropout=0:0.8"  # NAME=LOW:HIGH,...
    method: Literal["random", "grid"] = "random"
    trials: run.PositiveInt = 32  # of random search; devices must share the trials equally
    points: run.PositiveInt = 3  # values of each range in a grid, >= 2
    steps: run.PositiveInt = 1000  # updates of every network
    batch: run.PositiveInt = 64  # examples of an update, the same for all networks
    hidden: tuple[run.PositiveInt, ...] = (128,)  # widths of the hidden layers
    valid: run.OpenFraction = 0.2  # share of the training part that chooses and never trains


def planned(cfg: Config) -> list[dict[str, np.float32]]:
    """Return the numbers of every trial."""
    space = search_space.parse(cfg.space)
    if cfg.method == "grid":
        plan = search_space.grid(space, points=cfg.points)
    else:
        plan = [search_space.draw(space, index, seed=cfg.seed) for index in range(cfg.trials)]
    for name, value in [item for trial in plan for item in trial.items()]:
        if name not in USUAL:
            raise InputError(f"--space must be of {', '.join(USUAL)}, got {name!r}")
        try:
            number = float(value)
        except ValueError:
            number = np.nan
        if not 0 <= number < BELOW[name]:
            raise InputError(f"--space {name}=... must lie in [0, {BELOW[name]}), got {value!r}")
    return [{name: np.float32((USUAL | trial)[name]) for name in USUAL} for trial in plan]


def main(cfg: Config, session: run.Session) -> dict[str, float]:
    # Data
    digits = data.digits(flat=True)
    fit, valid = data.split_validation(digits.train, cfg.valid, by="order")
    plan = planned(cfg)
    rows = np.broadcast_to(np.arange(len(fit["x"])), (len(plan), len(fit["x"])))

    # Model
    def init(key):
        widths = (64, *cfg.hidden, 10)
        shapes = list(zip(widths[:-1], widths[1:], strict=True))
        draw = initializers.he_normal()
        return [
            {"kernel": draw(key, shape, jnp.float32), "bias": jnp.zeros(shape[1], jnp.float32)}
            for key, shape in zip(jax.random.split(key, len(shapes)), shapes, strict=True)
        ]

    def network(params, x, keys=None, dropout=0.0):
        *hidden, output = params
        for number, layer in enumerate(hidden):
            x = jax.nn.relu(x @ layer["kernel"] + layer["bias"][None])
            if keys is not None:
                own = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
                x = jnp.where(models.bernoulli(own, 1 - dropout, x.shape), x / (1 - dropout), 0)
        return x @ output["kernel"] + output["bias"][None]

    # Objective
    def objective(trial, params, extra, batch, key):
        """The loss of one trial; it knows of no other."""
        logits = network(params, batch["x"], key, trial["dropout"])
        loss = losses.softmax_cross_entropy(logits, batch["y"]).mean()
        return loss + regularizers.l2(params, trial["l2"]), (extra, {})

    @jax.jit
    def scores(params, part):
        """Loss and accuracy of each network on the whole part."""
        logits = jax.vmap(network, (0, None))(params, part["x"])
        loss = jax.vmap(losses.softmax_cross_entropy, (0, None))(logits, part["y"])
        right = logits.argmax(-1) == part["y"][None]
        return {"loss": loss.mean(1), "accuracy": right.mean(1)}

    # Optimizer
    cosine = optax.cosine_decay_schedule(1.0, cfg.steps)

    def optimizer(trial):
        return optax.sgd(lambda i: trial["lr"] * cosine(i), momentum=trial["momentum"])

    # Step
    def step(both, batch):
        """Make one update of one trial; where it would not be finite the network stays."""
        state, trial = both
        update = train.make_step(partial(objective, trial), optimizer(trial), axis=None)
        new, metrics = update(state, batch)
        good = jnp.isfinite(metrics["loss"]) & jnp.isfinite(optax.tree.norm(new.params))
        state = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, state)
        return (state, trial), {"loss": train.mean(metrics["loss"], good)}

    runner = session.lift(train.members_step(step))
    params = init(jax.random.key(cfg.seed))  # trials differ by what is searched, by nothing else
    first = train.init_state(params, {}, optimizer(plan[0]), seed=cfg.seed)
    states = session.restore(averaging.stack_members([(first, trial) for trial in plan]), data=fit)
    states = runner.put(states)

    # Loop
    for i in session.steps():
        batch = data.members_batch(
            fit, rows, cfg.batch, seed=cfg.seed, step=i - 1, process=session.process
        )
        states, metrics = runner.step(states, batch)
        session.log(i, metrics)
        if session.due(i):
            found = scores(runner.get(states[0].params), valid)
            session.record(i, {"valid_loss": float(jnp.nanmin(found["loss"]))})
        session.checkpoint(i, lambda: runner.get(states))  # noqa: B023

    # Result
    final = runner.get(states[0])
    found = jax.device_get(scores(final.params, valid))
    trials = [
        Trial(
            number,
            {name: float(value) for name, value in trial.items()},
            {f"valid_{name}": float(values[number]) for name, values in found.items()},
            failed="" if updates == cfg.steps else f"not finite after {updates} updates",
        )
        for number, (trial, updates) in enumerate(zip(plan, final.step, strict=True))
    ]
    order = ranked(trials, "valid_loss")
    best = order[0]
    if best.failed:
        raise NonFiniteError(f"all {len(trials)} trials failed: {best.failed}")
    table = markdown(order, list(USUAL))
    if session.process[0] == 0:
        (session.folder / "trials.md").write_text(table + "\n")
        if not cfg.quiet:
            print(table)
    space = search_space.parse(cfg.space)
    session.picture(
        "trials.png",
        plots.trials,
        [{name: trial.settings[name] for name in space} for trial in trials],
        [score(trial, "valid_loss") for trial in trials],
        quantity="valid_loss",
        logarithmic=search_space.logarithmic(space),
        best=best.number,
    )
    chosen = jax.tree.map(lambda a: a[best.number][None], final.params)
    tested = {f"test_{name}": float(v[0]) for name, v in scores(chosen, digits.test).items()}
    good = [trial.figures["valid_loss"] for trial in trials if not trial.failed]
    return {
        **best.settings,
        **best.figures,
        "valid_loss_median": float(np.median(good)),
        "failed": len(trials) - len(good),
        **tested,
    }


if __name__ == "__main__":
    run.launch(main, Config)
