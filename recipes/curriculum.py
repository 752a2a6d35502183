"""Easy examples first, and the controls that a curriculum has to beat (DLB 8.7.6).

    scripts/run recipes/curriculum.py

Three in ten labels of the training part of MNIST-1D are made wrong. Networks trained on one half of
it say by their loss how hard each example of the other half is. Five networks of one start then
learn from a growing share of the examples: from the easy to the hard, the same with a third of each
batch from everywhere (mixed: the stochastic curriculum), from the hard to the easy, in a random
order, and plainly from all.

Result: test accuracy plain 0.513 +- 0.010, easy first 0.515 +- 0.010, mixed 0.526 +- 0.019, random
0.498 +- 0.008, hard first 0.485 +- 0.015 (mean and deviation of seeds 0 to 4), in 16 s on 2 CPU
cores. With --wrong 0 plain 0.659 +- 0.008, easy first 0.633 +- 0.014, mixed 0.644 +- 0.006, random
0.648 +- 0.014, hard first 0.671 +- 0.010. So the order matters, and which one is good depends on
what makes an example hard: a wrong label, or being worth a look. A curriculum is no sure gain.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fdl import data, losses, models, regularizers, run, train
from fdl.pure import pure

PACINGS = {
    "linear": data.linear_pacing,
    "root": data.root_pacing,
    "exponential": data.exponential_pacing,
}
NETWORKS = ("plain", "easy_first", "mixed", "hard_first", "random")


@dataclass(frozen=True)
class Config(run.Settings):
    steps: run.PositiveInt = 3000  # updates of every network
    batch: run.PositiveInt = 64  # examples in an update, over all devices
    eval_every: run.PositiveInt = 500  # steps between two evaluations
    hidden: tuple[run.PositiveInt, ...] = (128, 128)  # widths of the hidden layers
    lr: run.PositiveFloat = 2e-3  # of Adam, falling to 0 along a cosine
    l2: run.NonNegativeFloat = 1e-4  # times half of sum w^2 over the weights
    dropout: run.DropRate = 0.2  # of hidden units
    pacing: Literal[*PACINGS] = "root"  # how the share of the examples grows
    start: run.OpenFraction = 0.2  # share of the examples that the first step draws from
    until: run.OpenFraction = 0.5  # share of the steps after which all examples are in
    mixed: run.Fraction = 0.33  # share of a batch from everywhere, in the stochastic curriculum
    teacher_steps: run.PositiveInt = 1000  # updates of the teacher
    wrong: run.Fraction = 0.3  # share of the examples that are trained on a wrong label
    valid: run.OpenFraction = 0.1  # share of the training part that never trains


def main(cfg: Config, session: run.Session) -> dict[str, float]:
    # Data
    curves = data.mnist1d()
    fit, valid = data.split_validation(curves.train, cfg.valid)
    keys = jax.random.split(jax.random.key(cfg.seed), len(fit["y"]))
    fit["y"] = np.asarray(data.label_noise(keys, fit["y"], rate=cfg.wrong, classes=10))

    # Model
    config = models.MLPConfig(40, cfg.hidden, 10, dropout=cfg.dropout)
    apply, params, extra = pure(models.MLP(config, rngs=nnx.Rngs(cfg.seed)))

    # Curriculum
    order = data.easy_to_hard(difficulty(apply, params, extra, fit, cfg), labels=fit["y"])
    n = len(order)
    orders = {
        "plain": order,
        "easy_first": order,
        "mixed": order,
        "hard_first": order[::-1],
        "random": data.permutation(n, seed=cfg.seed, stream=2**60),
    }
    pacing = PACINGS[cfg.pacing](cfg.start, max(1, round(cfg.until * cfg.steps)))

    def lesson(name, step):
        return data.curriculum_batch(
            fit,
            cfg.batch,
            order=orders[name],
            share=1.0 if name == "plain" else pacing(step),
            mixed=cfg.mixed if name == "mixed" else 0.0,
            seed=cfg.seed,
            step=step,
            process=session.process,
        )

    def lessons(step):  # a batch whose examples hold one for each network
        each = [lesson(name, step) for name in NETWORKS]
        return {k: np.stack([batch[k] for batch in each], axis=1) for k in fit}

    # Objective
    def network_loss(params, x, y, key):
        logits, _ = apply(params, extra, x, key=key, train=True)
        loss = losses.softmax_cross_entropy(logits, y)
        return loss.mean() + regularizers.l2(params, cfg.l2), train.mean(loss)

    def objective(params, extra, batch, key):
        total, each = jax.vmap(network_loss, (0, 1, 1, None))(params, batch["x"], batch["y"], key)
        parts = {
            f"{name}_fit": train.Ratio(each.total[i], each.count[i])
            for i, name in enumerate(NETWORKS)
        }
        return total.sum(), (extra, parts)  # of networks that do not touch each other

    @jax.jit
    def score(params, extra, batch):
        logits = jax.vmap(lambda p: apply(p, extra, batch["x"])[0])(params)
        right = {
            name: 1 - losses.zero_one(z, batch["y"])
            for name, z in zip(NETWORKS, logits, strict=True)
        }
        return {f"{name}_accuracy": train.mean(r, batch["mask"]) for name, r in right.items()}

    def evaluate(params, part, prefix):
        return train.evaluate(score, params, extra, data.pad_batches(part, 500), prefix=prefix)

    # Optimizer
    tx = optax.adam(optax.cosine_decay_schedule(cfg.lr, cfg.steps))

    # Step
    runner = session.lift(train.make_step(objective, tx))
    alike = jax.tree.map(lambda p: jnp.stack([p] * len(NETWORKS)), params)
    state = session.restore(train.init_state(alike, extra, tx, seed=cfg.seed), data=fit)
    state = runner.put(state)

    # Loop
    for i in session.steps():
        state, metrics = runner.step(state, lessons(i - 1))
        session.log(i, metrics)
        if session.due(i):
            session.record(i, evaluate(runner.get(state.params), valid, "valid_"))
        session.checkpoint(i, lambda: runner.get(state))  # noqa: B023

    # Result
    final = runner.get(state.params)
    return evaluate(final, valid, "valid_") | evaluate(final, curves.test, "test_")


def difficulty(apply, params, extra, part, cfg):
    """Return the loss of each example under networks that were trained on the other half."""
    tx = optax.adam(optax.cosine_decay_schedule(cfg.lr, cfg.teacher_steps))

    def update(carry, batch):
        p, state = carry
        grads = jax.grad(
            lambda p: losses.softmax_cross_entropy(
                apply(p, extra, batch["x"])[0], batch["y"]
            ).mean()
        )(p)
        updates, state = tx.update(grads, state, p)
        return (optax.apply_updates(p, updates), state), None

    @jax.jit
    def teach(taught, asked, rows):
        batches = {k: a[rows] for k, a in taught.items()}
        (p, _), _ = jax.lax.scan(update, (params, tx.init(params)), batches)
        return losses.softmax_cross_entropy(apply(p, extra, asked["x"])[0], asked["y"])

    halves = np.array_split(data.permutation(len(part["y"]), seed=cfg.seed, stream=2**60 + 1), 2)
    hard = np.empty(len(part["y"]))
    for mine, others in (halves, halves[::-1]):
        taught, asked = ({k: a[h] for k, a in part.items()} for h in (others, mine))
        steps = range(cfg.teacher_steps)
        rows = [data.batch_indices(len(others), 64, seed=cfg.seed, step=s) for s in steps]
        hard[mine] = teach(taught, asked, np.stack(rows))
    return hard


if __name__ == "__main__":
    run.launch(main, Config)
