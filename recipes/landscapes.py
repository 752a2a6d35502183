"""Paths of the optimizers on functions of two variables (DLB chapter 8).

    scripts/run recipes/landscapes.py

One step of the loop is one update of every path, each with its own function and its own optimizer.
The run folder gets a picture of each function, with a panel for each path and its figure.

Result, in 30 s on 2 CPU cores: in a valley of condition number 100 gradient descent zigzags for
346 steps, momentum glides down in 88, or in 48 at its fastest. Where momentum overshoots by 48 %,
Nesterov's look-ahead does by 33 %. A step off a cliff is 47 long, clipped 0.2. Newton ends on a
saddle, saddle-free Newton in a minimum. Descent stays in a local minimum of 3.9, continuation finds
the best, of 0. Along Rosenbrock's valley descent takes 5450 gradients, momentum, Nesterov and Adam
570 to 720, conjugate gradients, quasi-Newton and Newton methods 35 to 58.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fdl import optim, plots, run

TRACE = 6000  # updates of a path that are measured and drawn


class Landscape(NamedTuple):
    f: Callable[[jax.Array], jax.Array]
    start: tuple[float, float]
    view: tuple[float, float, float, float]  # left, right, bottom and top of the picture
    measure: str  # of a path: a name in MEASURES


class Path(NamedTuple):
    theta: jax.Array  # (2,)
    memory: Any  # state of the optimizer
    steps: jax.Array  # made so far
    gradients: jax.Array  # asked for so far
    trace: jax.Array  # (TRACE + 1, 3): theta, and the cost of coming there


# Functions of theta, (2,) or (2, ...)
def ellipses(condition, theta):
    return (theta[0] ** 2 + condition * theta[1] ** 2) / 2


def cliff(theta):
    """Squared error of a logistic unit that feeds itself 20 times and shall end at 0.7."""
    weight, bias = theta
    feed = lambda x, _: (weight * jax.nn.sigmoid(x) + bias, None)  # noqa: E731
    x, _ = jax.lax.scan(feed, jnp.full_like(weight, 0.5), length=20)
    return (jax.nn.sigmoid(x) - 0.7) ** 2


def saddle(theta):
    return theta[0] ** 2 - theta[1] ** 2 + theta[1] ** 4 / 4  # minima at (0, +-sqrt 2)


def waves(theta):
    return (1 + 0.05 * theta**2 - jnp.cos(2 * theta)).sum(0)  # the least value is 0, at 0


def rosenbrock(theta):
    return 100 * (theta[1] - theta[0] ** 2) ** 2 + (1 - theta[0]) ** 2


K = 100.0  # condition number of the valley: the square of its length over its width
LANDSCAPES = {
    "valley": Landscape(partial(ellipses, K), (-10, 1), (-11, 4, -4, 4), "steps"),
    "bowl": Landscape(partial(ellipses, 4), (-2, 1), (-2.5, 2.5, -1.5, 1.5), "overshoot"),
    "cliff": Landscape(cliff, (5, -3.2), (3, 7, -4, -1), "longest_step"),
    "saddle": Landscape(saddle, (1.5, 0.3), (-2, 2, -2, 2), "distance"),
    "waves": Landscape(waves, (5, 6), (-7.5, 7.5, -7.5, 7.5), "value"),
    "rosenbrock": Landscape(rosenbrock, (-1.2, 1), (-1.8, 1.8, -0.7, 2.2), "cost"),
}


def first(there, numbers):
    """Return the number at the first place where `there` is true; None if it nowhere is."""
    return numbers[there.argmax()] if there.any() else None


MEASURES = {  # f, points [n, 2], costs [n] -> figure
    "steps": lambda f, points, costs: first(  # until a thousandth of the way is left
        np.hypot(*points.T) < 1e-3 * np.hypot(*points[0]), np.arange(len(points))
    ),
    "overshoot": lambda f, points, costs: (-points[:, 0] / points[0, 0]).clip(0).max(),
    "longest_step": lambda f, points, costs: np.hypot(*np.diff(points, axis=0).T).max(),
    "distance": lambda f, points, costs: np.hypot(*points[-1]),  # of the end from the saddle
    "value": lambda f, points, costs: f(points[-1]),  # at the end
    # gradients until the value is below 0.001; a product with the Hessian costs about as much
    "cost": lambda f, points, costs: first(np.asarray(f(points.T)) < 1e-3, costs),
}


@dataclass(frozen=True)
class Config(run.Settings):
    steps: run.PositiveInt = 6000  # updates of every path
    log_every: run.PositiveInt = 50  # steps between two records of the values
    eval_every: run.PositiveInt = 2000  # steps between two checkpoints
    landscapes: tuple[Literal[*LANDSCAPES], ...] = tuple(LANDSCAPES)  # functions, a picture each


def main(cfg: Config, session: run.Session) -> dict[str, float]:
    # Optimizers
    descent, momentum = optax.sgd, optim.momentum
    nesterov = partial(optim.nesterov, form="lookahead")
    root, sigma = K**0.5, optax.linear_schedule(2.0, 0.0, 500)
    optimizers = {
        "valley": {
            "gradient_descent": descent(2 / (1 + K)),  # the fastest rate for a quadratic function
            "momentum": momentum(1 / K, (1 - 1 / root) ** 2),
            "fastest_momentum": momentum(4 / (root + 1) ** 2, ((root - 1) / (root + 1)) ** 2),
        },
        "bowl": {"momentum": momentum(0.05, 0.9), "nesterov": nesterov(0.05, 0.9)},
        "cliff": {
            "gradient_descent": descent(1.0),
            "clipped": optax.chain(optax.clip_by_global_norm(0.2), descent(1.0)),
        },
        "saddle": {
            "gradient_descent": descent(0.05),
            "newton": optim.newton(mode="plain", linesearch=None),
            "saddle_free_newton": optim.saddle_free_newton(),
        },
        "waves": {
            "gradient_descent": descent(0.1),
            "graduated": optim.graduated(descent(0.1), sigma, seed=cfg.seed),
        },
        "rosenbrock": {
            "gradient_descent": descent(0.0012),
            "momentum": momentum(0.001, 0.9),
            "nesterov": nesterov(0.001, 0.9),
            "adam": optax.adam(0.1),
            "nonlinear_cg": optim.nonlinear_cg(),
            "bfgs": optim.bfgs(),
            "lbfgs": optim.lbfgs(),
            "newton": optim.newton(),
            "newton_cg": optim.newton_cg(),
            "saddle_free_newton": optim.saddle_free_newton(),
        },
    }
    pairs = [(name, who) for name in cfg.landscapes for who in optimizers[name]]

    # Paths
    def begin(name, who):
        theta = jnp.array(LANDSCAPES[name].start, jnp.float32)
        trace = jnp.zeros((TRACE + 1, 3), jnp.float32).at[0].set(jnp.append(theta, 1))
        state = optimizers[name][who].init(theta)
        return Path(theta, state, jnp.int32(0), jnp.int32(1), trace)

    def advance(f, tx, path):
        value, grad = jax.value_and_grad(f)(path.theta)
        updates, memory = optax.with_extra_args_support(tx).update(
            grad, path.memory, path.theta, value=value, grad=grad, value_fn=f
        )
        theta = optax.apply_updates(path.theta, updates)
        searched = optax.tree.get_all_with_path(memory, "num_grads")
        products = optax.tree.get_all_with_path(memory, "hessian_products")
        steps = path.steps + 1
        gradients = path.gradients + (searched[0][1] if searched else 1)
        cost = gradients + (products[0][1] if products else 0)
        trace = path.trace.at[steps].set(jnp.append(theta, cost), mode="drop")
        return Path(theta, memory, steps, gradients, trace), value

    # Step
    def step(paths, batch):
        del batch  # there are no data: many devices all make the same paths
        paths, values = dict(paths), {}
        for name, who in pairs:
            key, tx = f"{name}_{who}", optimizers[name][who]
            paths[key], values[key] = advance(LANDSCAPES[name].f, tx, paths[key])
        return paths, values | {"loss": sum(values.values())}

    runner = session.lift(step)
    paths = {f"{name}_{who}": begin(name, who) for name, who in pairs}
    paths = runner.put(session.restore(paths))

    # Loop
    for i in session.steps():
        paths, metrics = runner.step(paths, {})
        session.log(i, metrics)
        session.checkpoint(i, lambda: runner.get(paths))  # noqa: B023

    # Pictures
    figures = {}
    for name in cfg.landscapes:
        f, _, (left, right, bottom, top), measure = LANDSCAPES[name]
        x, y = np.linspace(left, right, 241), np.linspace(bottom, top, 241)
        values = np.asarray(f(np.stack(np.meshgrid(x, y))))
        panels = {}
        for who in optimizers[name]:
            trace = runner.get(paths[f"{name}_{who}"].trace)[: cfg.steps + 1]
            figure = MEASURES[measure](f, trace[:, :2], trace[:, 2])
            if figure is not None:
                figures[f"{name}_{measure}_{who}"] = float(figure)
            title = f"{who}: {measure} {'unknown' if figure is None else format(figure, '.4g')}"
            panels[title.replace("_", " ")] = plots.Landscape(x, y, values, {who: trace[:, :2]})
        session.picture(f"{name}.png", plots.landscapes, panels)
    return figures


if __name__ == "__main__":
    run.launch(main, Config)
