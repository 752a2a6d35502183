"""A thin and deep student gets a hint from half-way up its teacher (Romero et al. 2014).

    scripts/run recipes/fitnets.py

Three students of 24 layers of 32 tanh units begin with the same small weights and take as many
steps: "plain" learns from labels, "distilled" from the teacher's softened probabilities as well,
and "fitnets" in two stages: first its lower layers, through a regressor, learn to compute the
teacher's hidden layer; then all of it learns from labels, as in the paper with the teacher's
probabilities if --soft-fitnets is not 0. In the run folder students.png shows how many validation
digits each misreads, and curves.png the losses; that of "fitnets" is another one in each stage.

Result: of the digits of other writers "fitnets" reads 0.842 +- 0.031, "plain" 0.546 +- 0.050 and
"distilled" 0.465 +- 0.054; of those they learned from 0.976, 0.681 and 0.569; the teacher reads
0.956 +- 0.004 (5 seeds, 53 s each on 2 CPU cores). Every student has the best of the rates tried
for it; with larger first weights a plain one needs no hints.
"""

from dataclasses import dataclass

import jax
import numpy as np
import optax
from flax import nnx

from fdl import data, initializers, losses, models, ops, plots, regularizers, run, train
from fdl.errors import InputError
from fdl.pure import pure

STUDENTS = ("plain", "distilled", "fitnets")


@dataclass(frozen=True)
class Config(run.Settings):
    steps: run.PositiveInt = 4000  # updates of every student
    hint_steps: run.PositiveInt = 2000  # of them, those of the first stage of "fitnets"
    batch: run.PositiveInt = 64  # examples in an update, over all devices
    eval_every: run.PositiveInt = 200  # steps between two evaluations
    depth: run.PositiveInt = 24  # hidden layers of a student
    guided: run.PositiveInt = 14  # the layer that gets the hint, counted from 1
    width: run.PositiveInt = 32  # units of each
    lr: run.PositiveFloat = 0.0005  # of Adam without hints, falling to 0 along a cosine
    lr_fitnets: run.PositiveFloat = 0.003  # with them, in each stage
    slower: run.Fraction = 0.1  # times that rate for the layers up to the guided one in stage 2
    temperature: run.PositiveFloat = 3.0  # T of the teacher's probabilities
    soft: run.NonNegativeFloat = 1.0  # first weight of the teacher beside the labels, falling to 0
    soft_fitnets: run.NonNegativeFloat = 0.0  # the same for "fitnets"
    teacher_steps: run.PositiveInt = 1500
    valid: run.OpenFraction = 0.1  # share of the training part that chooses and never trains


def main(cfg: Config, session: run.Session) -> dict[str, float]:
    # Data
    if cfg.hint_steps >= cfg.steps:
        raise InputError(f"--hint-steps must be below --steps {cfg.steps}, got {cfg.hint_steps}")
    if cfg.guided >= cfg.depth:
        raise InputError(f"--guided must be below --depth {cfg.depth}, got {cfg.guided}")
    digits = data.digits(flat=True)
    fit, valid = data.split_validation(digits.train, cfg.valid, by="order")
    teacher, weights = taught(cfg, fit)
    (logits, seen), _ = jax.jit(lambda x: teacher(weights, {}, x, capture=("hidden.0",)))(fit["x"])
    fit |= {"logits": np.asarray(logits), "hint": np.asarray(seen["hidden.0"])}

    # Model
    config = models.MLPConfig(
        64,
        (cfg.width,) * cfg.depth,
        10,
        unit=models.dense(ops.tanh),
        kernel_init=initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
    )
    rngs = nnx.Rngs(cfg.seed)
    apply, params, extra = pure(models.MLP(config, rngs=rngs))
    regress, regressor, _ = pure(models.regressor((cfg.width,), fit["hint"].shape[1:], rngs=rngs))
    guided = f"hidden.{cfg.guided - 1}"

    # Objective
    weight = {"plain": 0.0, "distilled": cfg.soft, "fitnets": cfg.soft_fitnets}

    def learn(name, params, batch):
        """From labels and, with a weight that falls, from the teacher's outputs."""
        z, _ = apply(params[name], extra, batch["x"])
        hard = losses.softmax_cross_entropy(z, batch["y"])
        soft = losses.distillation(z, batch["logits"], temperature=cfg.temperature)
        return hard + weight[name] * batch["teaching"] * soft

    def imitate(params, batch):
        """What the guided layer knows of the teacher's hidden layer; no layer above has a part."""
        (_, seen), _ = apply(params["fitnets"], extra, batch["x"], capture=(guided,))
        r, _ = regress(params["regressor"], {}, seen[guided])
        return losses.hint(r, batch["hint"])

    def objective(stage):
        def of_all(params, extra, batch, key):
            del key  # nothing is random here
            each = {name: learn(name, params, batch) for name in STUDENTS}
            if stage == 1:
                each["fitnets"] = imitate(params, batch)
            total = sum(loss.mean() for loss in each.values())
            return total, (extra, {name: train.mean(loss) for name, loss in each.items()})

        return of_all

    @jax.jit
    def score(params, extra, batch):
        figures = {}
        for name in STUDENTS:
            z, _ = apply(params[name], extra, batch["x"])
            right = 1 - losses.zero_one(z, batch["y"])
            figures[f"accuracy_{name}"] = train.mean(right, batch["mask"])
        return figures

    def evaluate(params, part, prefix):
        return train.evaluate(score, params, extra, data.pad_batches(part, 512), prefix=prefix)

    # Optimizer
    def adam(rate, steps):
        return optax.adam(optax.cosine_decay_schedule(rate, steps))

    def stages(rate):
        """Two optimizers, of which each begins with its stage."""
        first, second = adam(cfg.lr_fitnets, cfg.hint_steps), adam(rate, cfg.steps - cfg.hint_steps)
        return optax.chain(
            optax.conditionally_transform(first, lambda step: step < cfg.hint_steps),
            optax.conditionally_transform(second, lambda step: step >= cfg.hint_steps),
        )

    rules = dict.fromkeys(("plain", "distilled"), adam(cfg.lr, cfg.steps))
    rules |= {"lower": stages(cfg.slower * cfg.lr_fitnets), "upper": stages(cfg.lr_fitnets)}
    of_layer = {i: "lower" if i < cfg.guided else "upper" for i in range(cfg.depth)}
    of_params = {name: name for name in STUDENTS[:2]} | {"regressor": "lower"}
    tx = optax.partition(rules, of_params | {"fitnets": {"hidden": of_layer, "output": "upper"}})

    # Step
    runners = {s: session.lift(train.make_step(objective(s), tx)) for s in (1, 2)}
    start = {name: params for name in STUDENTS} | {"regressor": regressor}
    state = session.restore(train.init_state(start, extra, tx, seed=cfg.seed), data=fit)
    state = runners[1].put(state)

    # Loop
    falling = optax.linear_schedule(1.0, 0.0, cfg.steps)
    for i in session.steps():
        batch = data.batch(fit, cfg.batch, seed=cfg.seed, step=i - 1, process=session.process)
        batch["teaching"] = np.full(len(batch["y"]), falling(i - 1), np.float32)
        runner = runners[1 if i <= cfg.hint_steps else 2]
        state, metrics = runner.step(state, batch)
        session.log(i, metrics)
        if session.due(i):
            session.record(i, evaluate(runner.get(state.params), valid, "valid_"))
        session.checkpoint(i, lambda: runner.get(state))  # noqa: B023

    # Result
    seen = [r for r in session.records() if "valid_accuracy_plain" in r]
    steps = np.array([r["step"] for r in seen])
    misread = {n: (steps, np.array([1 - r[f"valid_accuracy_{n}"] for r in seen])) for n in STUDENTS}
    session.picture(
        "students.png",
        plots.convergence,
        {"steps": misread},
        quantity="validation digits misread",
        xscale="linear",
    )
    final = runners[2].get(state.params)
    read, _ = teacher(weights, {}, digits.test["x"])
    figures = {"test_accuracy_teacher": float((read.argmax(1) == digits.test["y"]).mean())}
    for part, arrays in (("fit", fit), ("valid", valid), ("test", digits.test)):
        figures |= evaluate(final, arrays, f"{part}_")
    return figures


def taught(cfg: Config, fit: data.Arrays):
    """Train the teacher, wide and shallow, on digits that are turned and moved a little."""
    apply, params, extra = pure(
        models.MLP(models.MLPConfig.digits(dropout=0.2), rngs=nnx.Rngs(cfg.seed + 1000))
    )

    def move(key, image):
        image = image.reshape(8, 8)
        return data.random_affine(key, image, rotate=10, translate=0.5, scale=0.1).reshape(64)

    def objective(params, extra, batch, key):
        z, _ = apply(params, extra, jax.vmap(move)(key, batch["x"]), key=key, train=True)
        loss = losses.softmax_cross_entropy(z, batch["y"]).mean()
        return loss + regularizers.l2(params, 1e-4), (extra, {})

    tx = optax.adam(optax.cosine_decay_schedule(0.001, cfg.teacher_steps))
    step = jax.jit(train.make_step(objective, tx))
    state = train.init_state(params, extra, tx, seed=cfg.seed + 1000)
    for i in range(cfg.teacher_steps):
        state, _ = step(state, data.batch(fit, 64, seed=cfg.seed + 1000, step=i))
    return apply, state.params


if __name__ == "__main__":
    run.launch(main, Config)
