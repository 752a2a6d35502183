"""A network pre-trained on one task learns another from few labels (DLB 15.2).

    scripts/run recipes/finetune.py                       # on one device, on many by pmap
    scripts/run recipes/finetune.py --labels 10
    scripts/run recipes/finetune.py --pretrained FOLDER   # a checkpoint of your own instead

A residual network learns to read mirrored digits, is saved and read back, and gets a new head for
others as they are, few of them with labels. Five ways go on with the same batches: "head" trains
the new head alone, "head_stats" does and lets the running statistics follow, "whole" trains all at
one rate, "groups" the rest at a lower one, and "scratch" new weights.

Result: with 5 labels a class the test accuracy is .697 +- .044 for "whole", .691 +- .062 for
"groups", .636 +- .034 for "scratch", .631 +- .047 for "head" and .630 +- .051 for "head_stats" (5
seeds, 21 s each on 2 CPU cores). What is frozen does not beat a new network here.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fdl import data, interop, losses, models, regularizers, run, train
from fdl.errors import InputError
from fdl.pure import pure

WAYS = ("head", "head_stats", "groups", "whole", "scratch")


@dataclass(frozen=True)
class Config(run.Settings):
    steps: run.PositiveInt = 200  # updates in every way
    batch: run.PositiveInt = 32  # examples in an update, over all devices
    eval_every: run.PositiveInt = 50  # steps between two looks at the digits without labels
    labels: run.PositiveInt = 5  # labelled examples of each digit
    pretrained: str = ""  # folder of a checkpoint for images of one channel; "" makes one
    first_steps: run.PositiveInt = 500  # updates of the pre-training
    widths: tuple[run.PositiveInt, run.PositiveInt, run.PositiveInt] = (8, 16, 32)  # channels
    lr: run.PositiveFloat = 0.05  # of the head, falling to 0 along a cosine
    lr_rest: run.PositiveFloat = 0.02  # of the rest in "groups"
    momentum: run.Fraction = 0.9


def main(cfg: Config, session: run.Session) -> dict[str, float]:
    # Data
    digits = data.digits()
    first, second = ({k: v[i::2] for k, v in digits.train.items()} for i in range(2))
    mirrored = first | {"x": first["x"][:, :, ::-1].copy()}
    few, valid = labelled(second, cfg.labels)

    # Model
    rngs = nnx.Rngs(cfg.seed)
    if cfg.pretrained:
        source = interop.load_pretrained(cfg.pretrained, dtype=jnp.float32)
        if not isinstance(source, models.ResNet) or source.config.features_in != 1:
            raise InputError(
                f"--pretrained {cfg.pretrained} is no ResNet for images of one channel"
            )
    else:
        net = models.ResNet(models.ResNetConfig.digits(widths=cfg.widths), rngs=rngs)
        with tempfile.TemporaryDirectory() as folder:
            interop.save_pretrained(pretrain(cfg, mirrored, net), Path(folder) / "digits")
            source = interop.load_pretrained(Path(folder) / "digits")
    apply, start, statistics = pure(source.with_outputs(10, rngs=rngs))
    _, fresh, zero = pure(models.ResNet(source.with_outputs(10, rngs=rngs).config, rngs=rngs))
    params = {way: fresh if way == "scratch" else start for way in WAYS}
    extra = {way: zero if way == "scratch" else statistics for way in WAYS}

    # Objective
    def objective(params, extra, batch, key):
        del key  # nothing is random here
        loss, new = {}, {}
        for way in WAYS:
            train_it = way != "head"  # False keeps the running statistics as well
            logits, new[way] = apply(params[way], extra[way], batch["x"][..., None], train=train_it)
            loss[way] = losses.softmax_cross_entropy(logits, batch["y"])
        metrics = {f"loss_{way}": train.mean(each) for way, each in loss.items()}
        return sum(each.mean() for each in loss.values()), (new, metrics)

    @jax.jit
    def score(params, extra, batch):
        figures = {}
        for way in WAYS:
            logits, _ = apply(params[way], extra[way], batch["x"][..., None])
            right = 1 - losses.zero_one(logits, batch["y"])
            figures[f"accuracy_{way}"] = train.mean(right, batch["mask"])
        return figures

    def evaluate(model, part, prefix):
        return train.evaluate(score, *model, data.pad_batches(part, 512), prefix=prefix)

    # Optimizer
    def descent(rate):
        return optax.sgd(optax.cosine_decay_schedule(rate, cfg.steps), momentum=cfg.momentum)

    before = dict.fromkeys(WAYS, descent(cfg.lr))  # what the layers before the head learn by
    before |= {"groups": descent(cfg.lr_rest)}
    before |= dict.fromkeys(("head", "head_stats"), optax.set_to_zero())
    is_head = regularizers.mask(regularizers.select_paths(r".*output\..*"))
    rules = {w: optax.partition({True: descent(cfg.lr), False: before[w]}, is_head) for w in WAYS}
    tx = optax.partition(rules, {way: way for way in WAYS})

    # Step
    runner = session.lift(train.make_step(objective, tx))
    state = session.restore(train.init_state(params, extra, tx, seed=cfg.seed), data=few)
    state = runner.put(state)

    # Loop
    for i in session.steps():
        batch = data.batch(few, cfg.batch, seed=cfg.seed, step=i - 1, process=session.process)
        state, metrics = runner.step(state, batch)
        session.log(i, metrics)
        if session.due(i):
            session.record(i, evaluate(runner.get((state.params, state.extra)), valid, "valid_"))
        session.checkpoint(i, lambda: runner.get(state))  # noqa: B023

    # Result
    return evaluate(runner.get((state.params, state.extra)), digits.test, "test_")


def labelled(part, n):
    """The first n examples of each class, and all others."""
    chosen = np.concatenate([np.flatnonzero(part["y"] == label)[:n] for label in range(10)])
    rest = np.delete(np.arange(len(part["y"])), chosen)
    return tuple({k: v[np.sort(which)] for k, v in part.items()} for which in (chosen, rest))


def pretrain(cfg, part, model):
    """Train on the first task, one batch of 64 after the other."""
    apply, params, extra = pure(model)

    def objective(params, extra, batch, key):
        del key
        logits, extra = apply(params, extra, batch["x"][..., None], train=True)
        return losses.softmax_cross_entropy(logits, batch["y"]).mean(), (extra, {})

    tx = optax.sgd(optax.cosine_decay_schedule(0.1, cfg.first_steps), momentum=cfg.momentum)
    step = jax.jit(train.make_step(objective, tx))
    state = train.init_state(params, extra, tx, seed=cfg.seed)
    for i in range(cfg.first_steps):
        state, _ = step(state, data.batch(part, 64, seed=cfg.seed, step=i))
    return interop.filled(model, state.params, state.extra)


if __name__ == "__main__":
    run.launch(main, Config)
