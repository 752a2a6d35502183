"""Networks that give back their input learn what is in it: auto-encoders (DLB chapter 14).

    scripts/run recipes/autoencoder.py

Five auto-encoders learn from digits without labels: one with a code smaller than the input, against
as many principal components; and four with a code four times as large, of which one is free, one
sparse, one restores digits of which pixels are hidden (denoising), and one keeps its code from
moving (contractive). Then a linear classifier reads each code, taught by few labels and by all. The
picture codes.png in the run folder shows what they learned.

Result on the digits of other writers (mean and deviation of seeds 0 to 4): the small code of 8
units gives digits back with a squared error of 1.02 +- 0.02, 8 principal components with 1.60. Read
by all labels the sparse code is right for 0.917 +- 0.003, the contractive one for 0.909 +- 0.005,
the free one for 0.904 +- 0.005, the pixels themselves for 0.906; by 100 labels none helps (sparse
0.849 +- 0.018, pixels 0.846 +- 0.008). It takes about 22 s on 2 CPU cores.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fdl import data, losses, models, plots, regularizers, run, train
from fdl.linear_probe import fit_linear_probe
from fdl.pure import pure

OVERCOMPLETE = ("free", "sparse", "denoising", "contractive")


@dataclass(frozen=True)
class Config(run.Settings):
    steps: run.PositiveInt = 3000  # updates of every network
    batch: run.PositiveInt = 128  # examples in an update, over all devices
    eval_every: run.PositiveInt = 500  # steps between two evaluations
    small: run.PositiveInt = 8  # units of the small code, and principal components
    hidden: run.PositiveInt = 128  # rectifiers before and behind the small code
    large: run.PositiveInt = 256  # sigmoid units of the large codes
    lr: run.PositiveFloat = 0.003  # of Adam, falling to 0 along a cosine
    sparsity: run.NonNegativeFloat = 0.3  # times KL(rate || mean activation), over all units
    rate: run.OpenFraction = 0.05  # wanted mean activation of the sparse code
    hide: run.Fraction = 0.4  # share of the pixels hidden from the denoising one
    contraction: run.NonNegativeFloat = 0.1  # times |dh/dx|^2
    labels: run.PositiveInt = 100  # the few
    valid: run.OpenFraction = 0.1  # share of the training part that chooses and never trains


def main(cfg: Config, session: run.Session) -> dict[str, float]:
    # Data
    digits = data.digits(flat=True)
    fit, valid = data.split_validation(digits.train, cfg.valid, by="order")
    pca = data.fit_pca(fit["x"], cfg.small)

    # Model
    configs = {"under": models.AutoencoderConfig.digits(hidden=(cfg.hidden, cfg.small))}
    for name in OVERCOMPLETE:
        configs[name] = models.AutoencoderConfig(64, (cfg.large,), tied=True)
    nets = {n: pure(models.Autoencoder(c, rngs=nnx.Rngs(cfg.seed))) for n, c in configs.items()}

    def apply(params, name, x, **how):
        return nets[name].apply(params[name], nets[name].extra, x, **how)[0]

    # Objective
    def penalty(name, params, code):
        """What keeps a large code from being a copy; that of denoising is in its input."""
        if name == "sparse":
            return cfg.sparsity * regularizers.activation_kl(code, target=cfg.rate)
        if name == "contractive":
            kernel = params["encoder"][0]["kernel"]
            return cfg.contraction * regularizers.contractive_sigmoid(code, kernel).mean()
        return 0.0

    def objective(params, extra, batch, key):
        x, total, metrics = batch["x"], 0.0, {}
        for name in nets:
            seen = data.masking_noise(key, x, rate=cfg.hide) if name == "denoising" else x
            out, features = apply(params, name, seen, features=True)
            error = losses.squared_error(out, x).sum(-1)
            total += error.mean() + penalty(name, params[name], features["code"])
            metrics[f"{name}_error"] = train.mean(error)
        return total, (extra, metrics)

    @jax.jit
    def score(params, extra, batch):
        del extra
        x, each = batch["x"], {}
        for name in nets:
            each[name] = losses.squared_error(apply(params, name, x), x).sum(-1)
        return {f"{name}_error": train.mean(e, batch["mask"]) for name, e in each.items()}

    def evaluate(params, part, prefix):
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
            session.record(i, evaluate(runner.get(state.params), valid, "valid_"))
        session.checkpoint(i, lambda: runner.get(state))  # noqa: B023

    # Result
    params, figures = runner.get(state.params), {}
    parts = {"fit": fit, "valid": valid, "test": digits.test}
    labels = {part: a["y"] for part, a in parts.items()}
    encode = {"pixels": lambda x: x, "pca": pca.encode}
    encode |= {name: partial(apply, params, name, method="encode") for name in nets}
    few = data.batch_indices(len(fit["y"]), cfg.labels, seed=cfg.seed, step=0)
    for name, function in encode.items():
        codes = {part: np.asarray(function(a["x"])) for part, a in parts.items()}
        for taught, rows in (("few", few), ("all", slice(None))):
            right = read(codes, labels, rows)
            figures |= {f"{part}_{name}_{taught}": share for part, share in right.items()}
    for part in ("valid", "test"):
        off = pca.decode(pca.encode(parts[part]["x"])) - parts[part]["x"]
        figures[f"{part}_pca_error"] = float((off**2).sum(-1).mean())
        figures |= evaluate(params, parts[part], f"{part}_")
    session.picture("codes.png", picture, digits.test, pca, partial(apply, params), params, cfg)
    return figures


fit_probe = jax.jit(partial(fit_linear_probe, classes=10, gtol=1e-4, max_iter=200))


def read(codes, labels, rows) -> dict[str, float]:
    """Classify codes linearly, taught by some rows; validation digits choose the weight decay."""
    scale = data.fit_standard(codes["fit"], axis=(0, 1))  # one for all units: quiet ones stay so
    x = {part: jnp.asarray(scale.apply(c)) for part, c in codes.items()}
    found = []
    for l2 in (1e-4, 1e-3, 1e-2, 1e-1):
        probe = fit_probe(x["fit"][rows], labels["fit"][rows], l2)
        read_as = {part: probe(x[part]).argmax(-1) for part in ("valid", "test")}
        found.append({part: float((y == labels[part]).mean()) for part, y in read_as.items()})
    return max(found, key=lambda right: right["valid"])


def picture(test, pca, apply, params, cfg, path) -> None:
    """Draw what becomes of digits, and the weights of ten units of each large code."""
    x = test["x"][[int(np.flatnonzero(test["y"] == label)[0]) for label in range(10)]]
    hidden = data.masking_noise(jax.random.split(jax.random.key(0), 10), x, rate=cfg.hide)
    images = {
        "digit": x,
        f"{cfg.small} principal\ncomponents": pca.decode(pca.encode(x)),
        f"code of {cfg.small}": apply("under", x),
        "pixels hidden": hidden,
        "restored": apply("denoising", hidden),
    }
    rows = {n: plots.ImageRow(np.reshape(r, (-1, 8, 8)).clip(0)) for n, r in images.items()}
    for name in OVERCOMPLETE:
        kernel = np.asarray(params[name]["encoder"][0]["kernel"]).T[:10]
        kernel = kernel / np.linalg.norm(kernel, axis=1, keepdims=True)
        rows[f"weights,\n{name}"] = plots.ImageRow(kernel.reshape(-1, 8, 8), signed=True)
    plots.image_rows(rows, path)


if __name__ == "__main__":
    run.launch(main, Config)
