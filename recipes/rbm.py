"""A restricted Boltzmann machine learns what digits look like, without labels (DLB 20.2).

    scripts/run recipes/rbm.py

It sees each digit in its place and moved by a pixel up, down, left and right; then a linear
classifier reads its hidden units, and another the pixels. digits.png in the run folder shows what
it learned.

Result on the digits of other writers (mean and deviation of seeds 0 to 4): read by hidden units
0.863 +- 0.003 are right, by pixels 0.750. A digit has -25.16 +- 0.05 nats by annealed importance
sampling, -30.49 if all pixels are independent. It takes about 25 s on 2 CPU cores.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fdl import data, losses, models, objectives, ops, plots, run, train
from fdl.linear_probe import fit_linear_probe
from fdl.pure import pure


@dataclass(frozen=True)
class Config(run.Settings):
    steps: run.PositiveInt = 7000  # updates
    batch: run.PositiveInt = 32  # examples in an update, and chains, over all devices
    eval_every: run.PositiveInt = 1000  # steps between two evaluations
    hidden: run.PositiveInt = 100  # units
    lr: run.PositiveFloat = 0.4  # of stochastic gradient descent, falling to 0 linearly
    gibbs: run.PositiveInt = 1  # steps of a chain between two updates
    persistent: bool = True  # chains go on where they are; else each begins at its example
    chains: run.PositiveInt = 100  # of annealed importance sampling, >= 2
    anneal: run.PositiveInt = 1000  # distributions it goes through
    valid: run.OpenFraction = 0.1  # share of the training part that chooses and never trains


def main(cfg: Config, session: run.Session) -> dict[str, float]:
    # Data
    digits = data.digits()
    fit, valid = data.split_validation(digits.train, cfg.valid, by="order")
    fit, valid, test = map(shifted, (fit, valid, digits.test))
    mean = fit["x"].mean(0)

    # Model
    config = models.RBMConfig.digits(hidden=cfg.hidden)
    apply, params, _ = pure(models.RBM(config, rngs=nnx.Rngs(cfg.seed), mean=mean))
    first = data.batch(fit, cfg.batch, seed=cfg.seed, step=0)["x"]
    extra = {"chains": train.PerExample(jnp.asarray(first))}

    # Objective
    def objective(params, extra, batch, key):
        v = batch["x"]
        free_energy = lambda v: apply(params, {}, v, method="free_energy")[0]  # noqa: E731
        begin = extra["chains"].value if cfg.persistent else v
        negative, _ = apply(params, {}, begin, key=key, method="gibbs", steps=cfg.gibbs)
        each = objectives.contrastive_divergence(free_energy, v, negative)
        off = losses.squared_error(apply(params, {}, v)[0], v).sum(-1)
        extra = {"chains": train.PerExample(negative)}
        return each.mean(), (extra, {"reconstruction": train.mean(off)})

    @jax.jit
    def log_likelihood(params, part):
        """Of each digit, in nats: -F(v) - log Z, with an estimate of log Z."""
        weights, _ = apply(params, {}, method="weights")
        base = jax.scipy.special.logit(mean.clip(0.01, 0.99))
        log_z = ops.rbm_ais(
            jax.random.key(cfg.seed), weights, base, chains=cfg.chains, steps=cfg.anneal
        )
        found = -ops.rbm_free_energy(part["x"], weights).mean() - log_z.value
        return {"log_likelihood": found, "log_likelihood_error": log_z.standard_error}

    def evaluate(params, part, prefix):
        return {f"{prefix}{k}": float(v) for k, v in log_likelihood(params, part).items()}

    # Optimizer
    tx = optax.sgd(optax.linear_schedule(cfg.lr, 0, cfg.steps))

    # Step
    runner = session.lift(train.make_step(objective, tx))
    state = session.restore(train.init_state(params, extra, tx, seed=cfg.seed), data=fit)
    state = runner.put(state)

    # Loop
    for i in session.steps():
        batch = data.batch(fit, cfg.batch, seed=cfg.seed, step=i - 1, process=session.process)
        state, metrics = runner.step(state, batch)
        session.log(i, metrics)
        if session.due(i):
            session.record(i, evaluate(runner.get(state.params), valid, "valid_"))
        session.checkpoint(i, lambda: runner.get(state))  # noqa: B023

    # Result
    params, extra = runner.get((state.params, state.extra))
    figures = evaluate(params, valid, "valid_") | evaluate(params, test, "test_")
    encode = jax.jit(lambda x: apply(params, {}, x, method="encode")[0])
    parts = {"fit": fit, "valid": valid, "test": test}
    labels = {name: part["y"] for name, part in parts.items()}
    for name, function in {"pixels": jnp.asarray, "features": encode}.items():
        right = read({part: function(a["x"]) for part, a in parts.items()}, labels)
        figures |= {f"{part}_{name}": share for part, share in right.items()}
    model = partial(apply, params, {})
    session.picture("digits.png", picture, test, model, params, extra["chains"].value)
    return figures


def shifted(part):
    """Each digit as it is and moved by a pixel up, down, left and right, flat."""
    x = np.pad(part["x"], ((0, 0), (1, 1), (1, 1)))
    corners = ((1, 1), (2, 1), (0, 1), (1, 2), (1, 0))
    moved = [x[:, i : i + 8, j : j + 8].reshape(len(x), 64) for i, j in corners]
    return {"x": np.concatenate(moved), "y": np.tile(part["y"], 5)}


fit_probe = jax.jit(partial(fit_linear_probe, classes=10))


def read(codes, labels) -> dict[str, float]:
    """Classify codes linearly: validation digits choose the weight decay, then teach as well."""

    def accuracy(probe, part):
        return float((probe(codes[part]).argmax(-1) == labels[part]).mean())

    found = {}
    for l2 in (1e-7, 1e-5, 1e-3):
        found[accuracy(fit_probe(codes["fit"], labels["fit"], l2), "valid")] = l2
    best = max(found)
    x, y = (jnp.concatenate([a["fit"], a["valid"]]) for a in (codes, labels))
    return {"valid": best, "test": accuracy(fit_probe(x, y, found[best]), "test")}


def picture(test, model, params, chains, path) -> None:
    """Draw the weights of hidden units, reconstructions, and what the chains dream of."""
    kernel = np.asarray(params["kernel"]).T
    strong = np.argsort(-np.linalg.norm(kernel, axis=1))
    x = test["x"][[int(np.flatnonzero(test["y"] == label)[0]) for label in range(10)]]
    rows = {
        " " * i or "weights of\nhidden units": plots.ImageRow(
            kernel[strong[10 * i : 10 * i + 10]].reshape(-1, 8, 8), signed=True
        )
        for i in range(min(3, len(kernel) // 10))
    }
    v = chains[:10]
    images = {"digit": x, "reconstructed": model(x)[0]}
    for later in (0, 1000, 2000):
        if later:
            keys = jax.random.split(jax.random.key(later), len(v))
            v, _ = model(v, key=keys, method="gibbs", steps=1000)
        images[f"samples, {later}\nsteps on" if later else "samples"] = model(v)[0]
    rows |= {n: plots.ImageRow(np.reshape(a, (-1, 8, 8))) for n, a in images.items()}
    plots.image_rows(rows, path)


if __name__ == "__main__":
    run.launch(main, Config)
