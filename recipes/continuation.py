"""From an easy objective to the one that is meant, against plain descent (DLB 8.7.6).

    scripts/run recipes/continuation.py

Three problems with bad minima, each with a sequence of objectives J(0), ..., J(n) that begins with
an easy one. A polynomial with two wells, and the frequency of a sine unit, are smoothed by a
Gaussian in closed form, ever less. A network that learns XOR begins linear and is bent into tanh
units. Adam descends from the same random starts, with and without.

Result: of 64 starts descent solves 0.53 +- 0.06 (polynomial), 0.23 +- 0.05 (frequency) and 0.77 +-
0.09 (XOR); continuation 0.98 +- 0.02, 0.98 +- 0.02 and 0.93 +- 0.02 (mean and deviation of seeds 0
to 4), in 7 s on 2 CPU cores. The picture objectives.png in the run folder shows the polynomials.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fdl import objectives, plots, run

X = np.linspace(-2, 2, 41)
WAVE = np.sin(6 * X + 0.5)  # what the sine unit shall learn
CORNERS = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
XOR = np.array([-1.0, 1.0, 1.0, -1.0])
WELLS = np.array([1.0, 0.0, -2.0, 0.3, 0.0])  # x^4 - 2 x^2 + 0.3 x: the well on the left is best


@dataclass(frozen=True)
class Config(run.Settings):
    steps: run.PositiveInt = 1500  # updates from every start
    log_every: run.PositiveInt = 50  # steps between two records
    eval_every: run.PositiveInt = 1500  # steps between two checkpoints
    starts: run.PositiveInt = 64  # for each problem
    lr: run.PositiveFloat = 0.02  # of Adam, falling to 0 along a cosine
    until: run.OpenFraction = 0.67  # share of the steps after which the objective is the one meant
    wide: run.PositiveFloat = 1.0  # first deviation of the smoothing: of the polynomial
    waves: run.PositiveFloat = 4.0  # and of the frequency


# Objectives J(params, level): easy at level 0, the one that is meant at level 1
def polynomial(x, level, wide):
    return jnp.polyval(objectives.smoothed_polynomial(WELLS, wide * (1 - level)), x)


def frequency(params, level, wide):
    """E (v sin((10 w + s z) x + b) - y)^2, z ~ N(0, 1): waves of the loss die, slopes stay."""
    s = wide * (1 - level)
    phase = 10 * params["w"] * X + params["b"]  # so that Adam's steps suit w
    square = (1 - jnp.exp(-2 * (s * X) ** 2) * jnp.cos(2 * phase)) / 2  # E sin^2
    product = jnp.exp(-((s * X) ** 2) / 2) * jnp.sin(phase)  # E sin
    return (params["v"] ** 2 * square - 2 * params["v"] * WAVE * product + WAVE**2).mean()


def exclusive_or(params, level):
    z = CORNERS @ params["w"] + params["b"][None]
    out = objectives.homotopy(jnp.tanh, level)(z) @ params["v"] + params["c"]
    return ((out - XOR) ** 2).mean()


def start(key):
    """Draw one start for each problem."""
    k = jax.random.split(key, 5)
    return {
        "polynomial": jax.random.uniform(k[0], (), minval=-2.0, maxval=2.0),
        "frequency": {
            "w": jax.random.uniform(k[1], (), maxval=2.0),
            "b": jnp.zeros(()),
            "v": jnp.ones(()),
        },
        "exclusive_or": {
            "w": jax.random.normal(k[2], (2, 2)) / 2**0.5,
            "b": jax.random.normal(k[3], (2,)) / 2,
            "v": jax.random.normal(k[4], (2,)) / 2**0.5,
            "c": jnp.zeros(()),
        },
    }


def main(cfg: Config, session: run.Session) -> dict[str, float]:
    # Objectives
    best = np.polyval(WELLS, np.roots(np.polyder(WELLS)).real).min()
    problems = {
        "polynomial": lambda p, level: polynomial(p, level, cfg.wide) - best,
        "frequency": lambda p, level: frequency(p, level, cfg.waves),
        "exclusive_or": exclusive_or,
    }

    def values(params, level):
        return {name: jax.vmap(f, (0, None))(params[name], level) for name, f in problems.items()}

    def total(params, level):  # of starts that do not touch each other
        return sum(v.sum() for v in values(params, level).values())

    # Optimizer
    tx = optax.adam(optax.cosine_decay_schedule(cfg.lr, cfg.steps))

    # Step
    def step(state, batch):
        del batch  # there are no data: many devices all do the same
        done, params, memory = state
        level = jnp.minimum(1.0, done / (cfg.until * cfg.steps))
        levels = {"plain": jnp.ones_like(level), "continued": level}
        grads = {who: jax.grad(total)(params[who], at) for who, at in levels.items()}
        updates, memory = tx.update(grads, memory, params)
        params = optax.apply_updates(params, updates)
        metrics = {"level": level}
        for who, each in params.items():
            for name, v in values(each, 1.0).items():
                metrics[f"{name}_{who}"] = v.mean()
                metrics[f"{name}_solved_{who}"] = (v < 0.01).mean()
        metrics["loss"] = sum(metrics[f"{name}_continued"] for name in problems)
        return (done + 1, params, memory), metrics

    runner = session.lift(step)
    starts = jax.vmap(start)(jax.random.split(jax.random.key(cfg.seed), cfg.starts))
    params = {"plain": starts, "continued": starts}
    state = runner.put(session.restore((jnp.zeros((), jnp.int32), params, tx.init(params))))

    # Loop
    for i in session.steps():
        state, metrics = runner.step(state, {})
        session.log(i, metrics)
        session.checkpoint(i, lambda: runner.get(state))  # noqa: B023

    # Result
    session.picture("objectives.png", picture, cfg)
    final = runner.get(state)[1]
    return {
        f"solved_{name}_{who}": float((np.asarray(v) < 0.01).mean())
        for who in final
        for name, v in values(final[who], 1.0).items()
    }


def picture(cfg: Config, path) -> None:
    """Draw the smoothed polynomials; the place of their minimum is what is followed."""
    x, curves = np.linspace(-1.7, 1.7, 341), {}
    for level in (1.0, 0.75, 0.5, 0.25, 0.0):
        c = np.asarray(objectives.smoothed_polynomial(WELLS, cfg.wide * (1 - level)))
        y = np.polyval(c, x)
        y -= y.min()
        name = f"smoothed by {cfg.wide * (1 - level):.2f}" if level < 1 else "J itself"
        curves[name] = np.where(y < 3, y, np.nan)
    plots.functions(x, curves, path, title="A polynomial, ever less smoothed, above its minimum")


if __name__ == "__main__":
    run.launch(main, Config)
