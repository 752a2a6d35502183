"""A small network learns from a large one: soft targets at a temperature (Hinton et al. 2015).

    scripts/run recipes/distillation.py
    scripts/run recipes/distillation.py --teachers 3             # an ensemble teaches
    scripts/run recipes/distillation.py --omit 3                 # no student ever sees a 3
    scripts/run recipes/distillation.py --cache FOLDER           # keep the teachers' outputs there

Teachers are convolutional networks that have seen digits turned, moved and scaled. Two students,
multilayer perceptrons, see them as they are: "hard" learns from the labels, "distilled" from the
teachers' probabilities, too. A class that was left out costs its own logit a bias, which validation
digits choose for each student.

Result: of 360 digits of other writers the distilled student misreads 17.2 +- 2.3, the one that had
labels alone 28.6 +- 2.1, the teacher 6.2 +- 1.6 (5 seeds, 30 s each on 2 CPU cores). Where no
student saw a 3 the distilled one reads 0.52 of them, 0.82 +- 0.13 with a bias, the other one none
and 0.22 +- 0.22; accuracy 0.936 +- 0.009 and 0.853 +- 0.009, both with their bias.
"""

from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import optax
from flax import nnx

from fdl import averaging, data, losses, models, regularizers, run, train
from fdl.errors import InputError
from fdl.pure import pure

STUDENTS = ("hard", "distilled")


@dataclass(frozen=True)
class Config(run.Settings):
    steps: run.PositiveInt = 2000  # updates of the students
    batch: run.PositiveInt = 64  # examples in an update, over all devices
    hidden: tuple[run.PositiveInt, ...] = (256, 256)  # widths of the students' hidden layers
    lr: run.PositiveFloat = 0.003  # of Adam, falling to 0 along a cosine
    l2: run.NonNegativeFloat = 1e-4  # times half of sum w^2 over the students' weights
    temperature: run.PositiveFloat = 4.0  # T of the teachers' probabilities
    soft: run.Fraction = 0.9  # weight of the teachers against the labels
    teachers: run.PositiveInt = 1
    channels: tuple[run.PositiveInt, ...] = (16, 32, 32)  # of a teacher's stages
    teacher_steps: run.PositiveInt = 1500  # updates of each teacher
    cache: str = ""  # folder for the teachers' outputs; "": none, each run makes them
    omit: int = -1  # class that the students do not see; -1: none
    valid: run.OpenFraction = 0.1  # share of the training part that chooses and never trains


def main(cfg: Config, session: run.Session) -> dict[str, float]:
    # Data
    if not -1 <= cfg.omit <= 9:
        raise InputError(f"--omit must be a class from 0 to 9, or -1 for none, got {cfg.omit}")
    digits = data.digits()
    fit, valid = data.split_validation(digits.train, cfg.valid, by="order")
    parts = {"fit": fit, "valid": valid, "test": digits.test}
    taught = teach(cfg, parts)
    log_p = averaging.arithmetic_mean(jax.nn.log_softmax(taught["fit"] / cfg.temperature))
    fit |= {"teacher": np.asarray(cfg.temperature * log_p)}  # the logits of the teachers' mean
    seen = {name: array[fit["y"] != cfg.omit] for name, array in fit.items()}

    # Model
    config = models.MLPConfig(64, cfg.hidden, 10)
    apply, params, extra = pure(models.MLP(config, rngs=nnx.Rngs(cfg.seed)))

    # Objective
    def objective(params, extra, batch, key):
        del key  # nothing is random here
        logits = {name: apply(params[name], extra, batch["x"])[0] for name in STUDENTS}
        hard = {name: losses.softmax_cross_entropy(z, batch["y"]) for name, z in logits.items()}
        soft = losses.distillation(
            logits["distilled"], batch["teacher"], temperature=cfg.temperature
        )
        both = cfg.soft * soft + (1 - cfg.soft) * hard["distilled"]
        loss = (hard["hard"] + both).mean() + regularizers.l2(params, cfg.l2)
        return loss, (extra, {"hard": train.mean(hard["hard"]), "distilled": train.mean(both)})

    predict = jax.jit(lambda params, x: {n: apply(params[n], extra, x)[0] for n in STUDENTS})

    def evaluate(params, bias):
        """Count what is right: of all digits, and of those of the class left out."""
        figures = {}
        for part in ("valid", "test"):
            y = parts[part]["y"]
            for name, z in predict(params, parts[part]["x"]).items():
                right = (np.asarray(z) + bias[name]).argmax(1) == y
                figures[f"{part}_accuracy_{name}"] = float(right.mean())
                if cfg.omit >= 0:
                    figures[f"{part}_omitted_{name}"] = float(right[y == cfg.omit].mean())
        return figures

    # Optimizer
    tx = optax.adam(optax.cosine_decay_schedule(cfg.lr, cfg.steps))

    # Step
    runner = session.lift(train.make_step(objective, tx))
    state = train.init_state({name: params for name in STUDENTS}, extra, tx, seed=cfg.seed)
    state = runner.put(session.restore(state, data=seen))

    # Loop
    none = dict.fromkeys(STUDENTS, np.zeros(10))
    for i in session.steps():
        batch = data.batch(seen, cfg.batch, seed=cfg.seed, step=i - 1, process=session.process)
        state, metrics = runner.step(state, batch)
        session.log(i, metrics)
        if session.due(i):
            figures = evaluate(runner.get(state.params), none)
            session.record(i, {n: v for n, v in figures.items() if n.startswith("valid")})
        session.checkpoint(i, lambda: runner.get(state))  # noqa: B023

    # Result
    final = runner.get(state.params)
    figures = evaluate(final, none)
    if cfg.omit >= 0:
        bias = choose_bias(predict(final, valid["x"]), valid["y"], cfg.omit)
        figures |= {f"{n}_biased": v for n, v in evaluate(final, bias).items()}
        figures |= {f"bias_{name}": float(b[cfg.omit]) for name, b in bias.items()}
    for part in ("valid", "test"):
        mean = np.asarray(averaging.arithmetic_mean(jax.nn.log_softmax(taught[part])))
        figures[f"{part}_accuracy_teacher"] = float((mean.argmax(1) == parts[part]["y"]).mean())
    return figures


def teach(cfg: Config, parts: dict[str, data.Arrays]) -> dict[str, np.ndarray]:
    """Return the teachers' logits on every part, (teachers, examples, 10), made here or before."""
    if not cfg.cache:
        return outputs(cfg, parts)
    settings = [cfg.teachers, *cfg.channels, cfg.teacher_steps, cfg.seed]
    recipe = np.fromfile(__file__, np.uint8)  # an edited recipe makes other teachers
    depends_on = {"settings": settings, "data": parts, "recipe": recipe}
    return data.cached(Path(cfg.cache), lambda: outputs(cfg, parts), depends_on=depends_on)


def outputs(cfg: Config, parts: dict[str, data.Arrays]) -> dict[str, np.ndarray]:
    stages = [models.Stage(c, pool="max" if i else None) for i, c in enumerate(cfg.channels)]
    config = models.CNNConfig.digits(stages=tuple(stages), dropout=0.3)
    logits = {part: [] for part in parts}
    for i in range(cfg.teachers):
        apply, params, extra = pure(models.CNN(config, rngs=nnx.Rngs(cfg.seed * 1000 + i)))
        model = trained(cfg, apply, params, extra, parts["fit"], seed=cfg.seed * 1000 + i)
        for part, arrays in parts.items():
            logits[part].append(np.asarray(jax.jit(apply)(*model, arrays["x"])[0]))
    return {part: np.stack(each) for part, each in logits.items()}


def trained(cfg, apply, params, extra, fit, *, seed):
    """Train a teacher on digits that are moved a little; return its parameters and statistics."""

    def move(key, image):
        return data.random_affine(key, image, rotate=15, translate=1, scale=0.15)

    def objective(params, extra, batch, key):
        x = jax.vmap(move)(key, batch["x"])
        logits, extra = apply(params, extra, x, key=key, train=True)
        loss = losses.softmax_cross_entropy(logits, batch["y"]).mean()
        return loss + regularizers.l2(params, 1e-4), (extra, {})

    tx = optax.adam(optax.cosine_decay_schedule(0.003, cfg.teacher_steps))
    step = jax.jit(train.make_step(objective, tx))
    state = train.init_state(params, extra, tx, seed=seed)
    for i in range(cfg.teacher_steps):
        state, _ = step(state, data.batch(fit, 64, seed=seed, step=i))
    return state.params, state.extra


def choose_bias(logits, y, label):
    """For each student the bias of a class's logit with which most digits are right."""
    one = np.eye(10)[label]
    found = {}
    for name, z in logits.items():
        right = {
            b: ((np.asarray(z) + b * one).argmax(1) == y).mean() for b in np.arange(0, 20, 0.5)
        }
        found[name] = max(right, key=right.get) * one
    return found


if __name__ == "__main__":
    run.launch(main, Config)
