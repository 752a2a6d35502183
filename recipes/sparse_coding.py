"""Sparse coding of pictures: a dictionary is learned, and four ways to use it race (DLB 13.4).

    scripts/run recipes/sparse_coding.py

9x9 patches of pictures are coded by few of 128 atoms, which learn from the codes that FISTA finds.
LISTA networks of 1, 2 and 4 layers learn beside them, as what is to be added to the weights of as
many steps of ISTA, to find codes of the same objective F. Then ISTA, FISTA, coordinate descent and
LISTA code patches of pictures never seen. The picture atoms.png in the run folder shows the
dictionary, race.png how fast each comes to the optimum.

Result on patches of two pictures that chose nothing (mean and deviation of seeds 0 to 4): sweeps of
coordinate descent come within 1 % of the optimum after 5, FISTA after 7, ISTA after 10.6 +- 0.5
steps. With 1, 2 and 4 layers LISTA is 7.9, 4.3 and 1.9 % above it, where as many steps of FISTA are
26, 8.9 and 2.9 %. Of the codes 86 % are 0. It takes about 25 s on one CPU core.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fdl import data, models, ops, optim, plots, run, train
from fdl.pure import pure


@dataclass(frozen=True)
class Config(run.Settings):
    steps: run.PositiveInt = 1500  # updates of the dictionary and of each network
    batch: run.PositiveInt = 128  # patches in an update, over all devices
    eval_every: run.PositiveInt = 500  # steps between two comparisons
    size: run.PositiveInt = 9  # side of a patch, pixels
    patches: run.PositiveInt = 20_000  # to learn from; 1 in 40 as many each to choose and to test
    epsilon: run.NonNegativeFloat = 0.01  # of the whitening
    atoms: run.PositiveInt = 128
    layers: tuple[run.PositiveInt, ...] = (1, 2, 4)  # of LISTA, a network each
    l1: run.NonNegativeFloat = 0.5  # times |z|_1, beside half of |x - D z|^2
    inference: run.PositiveInt = 20  # steps of FISTA in an update
    race: run.PositiveInt = 100  # steps of each way in the end; so many sweeps are the optimum
    lr: run.PositiveFloat = 0.01  # of Adam for the dictionary, falling to 0 along a cosine
    lista_lr: run.PositiveFloat = 0.001  # of Adam for the networks, likewise


def main(cfg: Config, session: run.Session) -> dict[str, float]:
    # Data
    def cut(pictures, count, seed):
        x = data.patches(pictures, cfg.size, max(count, 1), seed=seed).reshape(-1, cfg.size**2)
        return x - x.mean(1, keepdims=True)

    pictures, others = data.natural_images()  # the lowest fifth of each chooses
    fit = cut([p[: -(len(p) // 5)] for p in pictures], cfg.patches, 0)
    white = data.fit_whitening(fit, epsilon=cfg.epsilon)
    fit = {"x": white.apply(fit)}
    valid = white.apply(cut([p[-(len(p) // 5) :] for p in pictures], cfg.patches // 40, 1))
    test = white.apply(cut(others, cfg.patches // 40, 2))

    # Model
    key = jax.random.key(cfg.seed)
    drawn = jax.random.normal(key, (cfg.size**2, cfg.atoms), jnp.float32)
    params = {"dictionary": optim.projection_unit_norm(drawn)}
    nets = {
        f"lista_{n}": pure(models.LISTA.from_dictionary(params["dictionary"], cfg.l1, layers=n))
        for n in cfg.layers
    }
    params |= {name: jax.tree.map(jnp.zeros_like, net.params) for name, net in nets.items()}

    # Objective
    def codes(params, name, x):
        first = models.ista_weights(jax.lax.stop_gradient(params["dictionary"]), cfg.l1)
        weights = jax.tree.map(jnp.add, first, params[name])
        return nets[name].apply(weights, nets[name].extra, x)[0]

    def objective(params, extra, batch, key):
        del key  # nothing is random here
        x, dictionary = batch["x"], params["dictionary"]
        z = ops.fista(x, dictionary, cfg.l1, steps=cfg.inference)  # a constant
        each = {"fista": ops.sparse_objective(x, z, dictionary, cfg.l1)}
        fixed = jax.lax.stop_gradient(dictionary)  # which the networks must not bend to themselves
        for name in nets:
            each[name] = ops.sparse_objective(x, codes(params, name, x), fixed, cfg.l1)
        metrics = {f"{name}_objective": train.mean(value) for name, value in each.items()}
        return sum(value.mean() for value in each.values()), (extra, metrics)

    @jax.jit
    def compare(params, x):
        """Mean F by the number of steps for each way, and at the optimum."""
        d = params["dictionary"]
        bound, zeros = ops.sparse_lipschitz(d), jnp.zeros((len(x), cfg.atoms), d.dtype)

        def mean(z):
            return ops.sparse_objective(x, z, d, cfg.l1).mean()

        def sweep(z, _):
            z = ops.coordinate_descent(x, d, cfg.l1, sweeps=1, start=z)
            return z, mean(z)

        def slope(z):
            return ops.correlate_sparse(ops.decode_sparse(z, d) - x, d)

        way = {"lipschitz": bound, "l1": cfg.l1, "steps": cfg.race}
        path = {
            name: jax.lax.map(
                mean, ops.proximal_path(slope, zeros, accelerate=name == "fista", **way)
            )
            for name in ("ista", "fista")
        }
        z, path["sweeps"] = jax.lax.scan(sweep, zeros, None, length=cfg.race)
        lista = {name: mean(codes(params, name, x)) for name in nets}
        return path, lista, mean(z), (z == 0).mean(), ops.kkt_residual(x, z, d, cfg.l1).max()

    def evaluate(params, x, prefix):
        path, lista, best, zeros, _ = jax.device_get(compare(params, x))
        found = {f"{prefix}objective": float(best), f"{prefix}zeros": float(zeros)}
        for name, along in path.items():  # the first step within a hundredth of the optimum
            found[f"{prefix}{name}_to_1_percent"] = float((along > 1.01 * best).sum() + 1)
        for name, value in lista.items():
            layers = int(name.removeprefix("lista_"))
            found[f"{prefix}{name}_above"] = float(value / best - 1)
            found[f"{prefix}fista_{layers}_above"] = float(path["fista"][layers - 1] / best - 1)
        return found

    # Optimizer
    kinds = {name: "dictionary" if name == "dictionary" else "lista" for name in params}
    rates = {"dictionary": cfg.lr, "lista": cfg.lista_lr}
    adams = {k: optax.adam(optax.cosine_decay_schedule(r, cfg.steps)) for k, r in rates.items()}
    tx = optax.chain(
        optax.partition(adams, kinds),
        optim.project(
            optim.projection_unit_norm,
            {k: jax.tree.map(lambda _, k=k: k == "dictionary", p) for k, p in params.items()},
        ),
    )

    # Step
    runner = session.lift(train.make_step(objective, tx))
    state = train.init_state(params, {}, tx, seed=cfg.seed)
    state = runner.put(session.restore(state, data=fit))

    # Loop
    for i in session.steps():
        batch = data.batch(fit, cfg.batch, seed=cfg.seed, step=i - 1, process=session.process)
        state, metrics = runner.step(state, batch)
        session.log(i, metrics)
        if session.due(i):
            session.record(i, evaluate(runner.get(state.params), valid, "valid_"))
        session.checkpoint(i, lambda: runner.get(state))  # noqa: B023

    # Result
    final = runner.get(state.params)
    path, lista, best, _, residual = jax.device_get(compare(final, test))
    count = np.arange(1, cfg.race + 1)
    curves = {name: (count, along / best - 1) for name, along in path.items()}
    curves["lista"] = (np.array(cfg.layers), np.array(list(lista.values())) / best - 1)
    session.picture(
        "race.png", plots.convergence, {"steps, sweeps or layers": curves}, quantity="F / F* - 1"
    )
    session.picture("atoms.png", picture, final["dictionary"].T.reshape(-1, cfg.size, cfg.size))
    return (
        evaluate(final, valid, "valid_")
        | evaluate(final, test, "test_")
        | {"kkt_residual": float(residual)}
    )


def picture(atoms: np.ndarray, path) -> None:
    """Draw up to 40 atoms: red adds up, blue takes off."""
    atoms = atoms / np.abs(atoms).max((1, 2), keepdims=True)
    rows = {"\u200b" * i: plots.ImageRow(atoms[i : i + 10], signed=True) for i in range(0, 40, 10)}
    rows = {name: row for name, row in rows.items() if len(row.images)}
    plots.image_rows(rows, path, title="Atoms of the dictionary")


if __name__ == "__main__":
    run.launch(main, Config)
