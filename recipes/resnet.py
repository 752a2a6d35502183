"""Shortcuts let a network of 50 layers train that without them hardly does (He et al. 2015).

    scripts/run recipes/resnet.py                     # on one device, on many by pmap
    scripts/run recipes/resnet.py --depth 20 --widths 16 32 64

Two networks of the same layers, one of them with shortcuts, see the same batches of handwritten
digits, each at the learning rate that suits it best on validation data. losses.png in the run
folder has the training losses of both, gradients.png the gradient that reaches each layer before
the first update.

Result: with shortcuts the network reads .931 +- .015 of the test digits after 300 updates, without
them .46 +- .13; the training losses are .0008 +- .0001 and 1.36 +- .34. The gradient at the first
layer begins 8.5 +- 2.8 and 419 +- 128 in size (5 seeds, 50 s each on 2 CPU cores). At rates
from .003 to .1 the plain network's validation losses differ by less than its seeds' do.
"""

from dataclasses import dataclass

import jax
import numpy as np
import optax
from flax import nnx

from fdl import data, losses, models, plots, run, train
from fdl.pure import pure


@dataclass(frozen=True)
class Config(run.Settings):
    steps: run.PositiveInt = 300  # updates of both networks
    batch: run.PositiveInt = 64  # examples in an update, over all devices
    eval_every: run.PositiveInt = 50  # steps between two looks at the losses
    depth: run.PositiveInt = 50  # layers: 6n + 2
    widths: tuple[run.PositiveInt, run.PositiveInt, run.PositiveInt] = (8, 16, 32)  # channels
    lr_plain: run.PositiveFloat = 0.01  # learning rate without shortcuts, falling along a cosine
    lr_skip: run.PositiveFloat = 0.03  # with them
    momentum: run.Fraction = 0.9  # of both
    valid: run.OpenFraction = 0.1  # share of the training part that chooses and never trains


def main(cfg: Config, session: run.Session) -> dict[str, float]:
    # Data
    digits = data.digits()
    fit, valid = data.split_validation(digits.train, cfg.valid, by="order")

    # Model
    nets = {}
    for name in ("plain", "skip"):
        config = models.ResNetConfig.cifar(
            cfg.depth, features_in=1, widths=cfg.widths, skip=name == "skip"
        )
        nets[name] = pure(models.ResNet(config, rngs=nnx.Rngs(cfg.seed)))
    params = {name: net.params for name, net in nets.items()}
    extra = {name: net.extra for name, net in nets.items()}

    # Objective
    def objective(params, extra, batch, key):
        del key  # nothing is random here
        loss, new = {}, {}
        for name, net in nets.items():
            images = batch["x"][..., None]
            logits, new[name] = net.apply(params[name], extra[name], images, train=True)
            loss[name] = losses.softmax_cross_entropy(logits, batch["y"])
        metrics = {f"loss_{name}": train.mean(each) for name, each in loss.items()}
        return sum(each.mean() for each in loss.values()), (new, metrics)

    @jax.jit
    def score(params, extra, batch):
        figures = {}
        for name, net in nets.items():
            logits, _ = net.apply(params[name], extra[name], batch["x"][..., None])
            loss = losses.softmax_cross_entropy(logits, batch["y"])
            figures[f"loss_{name}"] = train.mean(loss, batch["mask"])
            right = 1 - losses.zero_one(logits, batch["y"])
            figures[f"accuracy_{name}"] = train.mean(right, batch["mask"])
        return figures

    def evaluate(model, part, prefix):
        return train.evaluate(score, *model, data.pad_batches(part, 256), prefix=prefix)

    # Optimizer
    rates = {"plain": cfg.lr_plain, "skip": cfg.lr_skip}
    descents = {
        name: optax.scale_by_learning_rate(optax.cosine_decay_schedule(rate, cfg.steps))
        for name, rate in rates.items()
    }
    tx = optax.chain(
        optax.trace(cfg.momentum), optax.partition(descents, {name: name for name in nets})
    )

    # Step
    runner = session.lift(train.make_step(objective, tx))
    state = session.restore(train.init_state(params, extra, tx, seed=cfg.seed), data=fit)
    state = runner.put(state)

    # Loop
    for i in session.steps():
        batch = data.batch(fit, cfg.batch, seed=cfg.seed, step=i - 1, process=session.process)
        state, metrics = runner.step(state, batch)
        session.log(i, metrics)
        if i == 1:  # the momentum is the first gradient
            gradient = runner.get(state.opt_state)[0].trace
            sizes = {name: norms(gradient[name]) for name in nets}
            layers = {name: (np.arange(1, cfg.depth), each) for name, each in sizes.items()}
            how = {"quantity": "norm of the gradient", "xscale": "linear"}
            session.picture("gradients.png", plots.convergence, {"layer": layers}, **how)
            session.record(i, {f"gradient_{name}": each[0] for name, each in sizes.items()})
        if session.due(i):
            model = runner.get((state.params, state.extra))
            session.record(i, evaluate(model, fit, "fit_") | evaluate(model, valid, "valid_"))
        session.checkpoint(i, lambda: runner.get(state))  # noqa: B023

    # Result
    records = session.records()
    seen = [r for r in records if "fit_loss_plain" in r]
    steps = np.array([r["step"] for r in seen])
    curves = {name: (steps, np.array([r[f"fit_loss_{name}"] for r in seen])) for name in nets}
    how = {"quantity": "loss", "xscale": "linear"}
    session.picture("losses.png", plots.convergence, {"updates": curves}, **how)
    figures = evaluate(runner.get((state.params, state.extra)), digits.test, "test_")
    figures |= {f"fit_loss_{name}": seen[-1][f"fit_loss_{name}"] for name in nets}
    first = {f"gradient_{name}" for name in nets}
    return figures | {n: v for r in records for n, v in r.items() if n in first}


def norms(gradient):
    """Norm of the gradient of each convolution's kernel, from the first to the last."""
    blocks = [b for stage in gradient["stages"].values() for b in stage.values()]
    convs = [gradient["stem"]["conv"], *(c for b in blocks for c in b["convs"].values())]
    return np.array([float(np.sqrt(np.square(conv["kernel"]).sum())) for conv in convs])


if __name__ == "__main__":
    run.launch(main, Config)
