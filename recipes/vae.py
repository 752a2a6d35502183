"""A variational auto-encoder writes digits, and knows how likely each is (DLB 20.10.3).

    scripts/run recipes/vae.py

Three of them learn a density of digits, z ~ N(0, I), x ~ N(decode(z), variance), by its evidence
lower bound: a linear one, which is probabilistic PCA learned step by step; one with a hidden layer
each way; and one with two latent variables, which can be drawn. Probabilistic PCA in closed form
stands beside them. The pictures digits.png and map.png in the run folder show what they write.

Result on the digits of other writers, log-likelihood in nats by 500 weighted samples, a lower bound
(mean and deviation of seeds 0 to 4): with 8 latent variables 12.9 +- 0.1 for the linear one, 13.0
for probabilistic PCA, 31.1 +- 0.4 for the one with hidden layers; with 2 of them 13.1 +- 1.2, and
-0.1 for probabilistic PCA. It takes about 35 s on 2 CPU cores.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fdl import data, models, objectives, outputs, plots, run, train
from fdl.pure import pure


@dataclass(frozen=True)
class Config(run.Settings):
    steps: run.PositiveInt = 3000  # updates of every network
    batch: run.PositiveInt = 128  # examples in an update, over all devices
    eval_every: run.PositiveInt = 500  # steps between two evaluations
    code: run.PositiveInt = 8  # latent variables, but for the map's 2
    hidden: run.PositiveInt = 512  # rectifiers of the encoder, and of the decoder
    lr: run.PositiveFloat = 0.003  # of Adam, falling to 0 along a cosine
    samples: run.PositiveInt = 500  # of the importance-weighted bound
    valid: run.OpenFraction = 0.1  # share of the training part that chooses and never trains


def main(cfg: Config, session: run.Session) -> dict[str, float]:
    # Data
    digits = data.digits(flat=True)
    fit, valid = data.split_validation(digits.train, cfg.valid, by="order")

    # Model
    shapes = {
        "linear": ((), cfg.code),
        "deep": ((cfg.hidden,), cfg.code),
        "map": ((cfg.hidden,), 2),
    }
    nets = {}
    for name, (hidden, code) in shapes.items():
        config = models.VAEConfig.digits(hidden=hidden, code=code)
        nets[name] = pure(models.VAE(config, rngs=nnx.Rngs(cfg.seed)))
    unit = outputs.heteroscedastic(64, by="log_variance")

    # Objective
    def bound(name, params, x, key, function, samples):
        """A lower bound of log p(x) in nats, from an encoder q(z | x) and a decoder p(x | z)."""
        apply, _, extra = nets[name]
        posterior, _ = apply(params[name], extra, x, method="encode")

        def nll(z):
            raw, _ = apply(params[name], extra, z, method="decode")
            return unit.distribution(raw).nll(x)

        return function(posterior, nll, key=key, samples=samples)

    def objective(params, extra, batch, key):
        elbo = {name: bound(name, params, batch["x"], key, objectives.elbo, 1) for name in nets}
        metrics = {f"{name}_elbo": train.mean(each) for name, each in elbo.items()}
        return -sum(each.mean() for each in elbo.values()), (extra, metrics)

    def score(function, samples):
        @jax.jit
        def each(params, extra, batch):
            del extra
            x, keys = batch["x"], jax.random.split(jax.random.key(cfg.seed), len(batch["x"]))
            found = {name: bound(name, params, x, keys, function, samples) for name in nets}
            return {
                f"{n}_{function.__name__}": train.mean(v, batch["mask"]) for n, v in found.items()
            }

        return each

    elbo, iwae = score(objectives.elbo, 16), score(objectives.iwae, cfg.samples)

    def evaluate(score, params, part, prefix):
        return train.evaluate(score, params, {}, data.pad_batches(part, 360), prefix=prefix)

    # Optimizer
    tx = optax.adam(optax.cosine_decay_schedule(cfg.lr, cfg.steps))

    # Step
    runner = session.lift(train.make_step(objective, tx))
    params = {name: net.params for name, net in nets.items()}
    state = session.restore(train.init_state(params, {}, tx, seed=cfg.seed), data=fit)
    state = runner.put(state)

    # Loop
    for i in session.steps():
        batch = data.batch(fit, cfg.batch, seed=cfg.seed, step=i - 1, process=session.process)
        state, metrics = runner.step(state, batch)
        session.log(i, metrics)
        if session.due(i):
            session.record(i, evaluate(elbo, runner.get(state.params), valid, "valid_"))
        session.checkpoint(i, lambda: runner.get(state))  # noqa: B023

    # Result
    params, figures = runner.get(state.params), {}
    for prefix, part in (("valid_", valid), ("test_", digits.test)):
        for function in (elbo, iwae):
            figures |= evaluate(function, params, part, prefix)
        for name, count in (("pca", cfg.code), ("map_pca", 2)):
            likelihood = -data.fit_pca(fit["x"], count).nll(part["x"]).mean()
            figures[f"{prefix}{name}_log_likelihood"] = float(likelihood)
    session.picture("digits.png", written, digits.test, nets["deep"], params["deep"], cfg)
    session.picture("map.png", latent_map, nets["map"], params["map"])
    return figures


def written(test, net, params, cfg, path) -> None:
    """Draw a digit of each class, what becomes of it, and digits from nothing but the prior."""
    x = test["x"][[int(np.flatnonzero(test["y"] == label)[0]) for label in range(10)]]
    key = jax.random.key(cfg.seed)
    rows = {
        "digit": x,
        "reconstructed": net.apply(params, net.extra, x)[0].raw,
        "written": net.apply(params, net.extra, key, 10, method="sample")[0],
        "written ": net.apply(params, net.extra, jax.random.split(key)[0], 10, method="sample")[0],
    }
    plots.image_rows({name: images(raw) for name, raw in rows.items()}, path)


def latent_map(net, params, path) -> None:
    """Draw what is written at places of the plane of two latent variables, by their quantiles."""
    places = jax.scipy.special.ndtri((jnp.arange(10) + 0.5) / 10)
    rows = {}
    for down in places[::-1]:
        codes = jnp.stack([places, jnp.full(10, down)], axis=1)
        rows[f"{down:.1f}"] = images(net.apply(params, net.extra, codes, method="decode")[0])
    plots.image_rows(rows, path, title="Digits at the quantiles of two latent variables")


def images(raw) -> plots.ImageRow:
    return plots.ImageRow(np.asarray(raw)[:, :64].reshape(-1, 8, 8).clip(0))


if __name__ == "__main__":
    run.launch(main, Config)
