"""Time `fdl.optim.minimize` against optimistix, SciPy and a BFGS loop written by hand.

    python scripts/bench/minimize.py [--parts solve,step,size,starts,import] [--rounds 9]

All is float64, compiled and warm; compilation is told apart. A figure is the median over
interleaved rounds of the ratio inside a round, its quartiles beside it, so that a load that comes
and goes touches all alike. Whoever is compared stops by the same rule, max|g| <= 1e-6
max(1, max|g0|), and must have met it: values, gradients and the last value of f are shown.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

jax.config.update("jax_enable_x64", True)

import bfgs_step  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import mgh  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import scipy.optimize  # noqa: E402
from timing import Turn, calls, ratio, rounds, spread  # noqa: E402

from fdl.optim import bfgs, lbfgs, minimize, nonlinear_cg  # noqa: E402

Array = jax.Array
Function = Callable[[Array], Array]
GTOL = 1e-6
STEP_SIZE, ITERATIONS, SCIPY_ITERATIONS = 1000, 60, 10
STARTS = 256


class Figure(NamedTuple):
    """A line of the report: met where the figure is at most the goal."""

    what: str
    value: float
    goal: float | None = None
    more: str = ""

    def __str__(self) -> str:
        verdict = ""
        if self.goal is not None:
            verdict = f"<= {self.goal:<5g} " + ("met" if self.value <= self.goal else "MISSED")
        return f"  {self.what:58} {self.value:9.3f} {verdict:16} {self.more}".rstrip()


def extended(x: Array) -> Array:
    """Rosenbrock's function of each pair of neighbours: a problem of two variables, repeated."""
    return jnp.sum(jnp.square(mgh.rosenbrock(x)))


def chained(x: Array) -> Array:
    """Rosenbrock's valley through all variables."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def start(n: int) -> Array:
    return jnp.tile(jnp.array([-1.2, 1.0]), n // 2)


def minimized(tx: optax.GradientTransformation, f: Function, x: Array, **rule: Any) -> Any:
    """Minimise and leave the state, with its n^2 numbers, behind, as the peers do."""
    return minimize(tx, f, x, **rule)._replace(state=None)


def gmax(f: Function, x: Array) -> float:
    return float(jnp.max(jnp.abs(jax.grad(f)(x))))


def compared(
    turns: dict[str, Turn], number: int, what: str, goal: float | None, more: str = ""
) -> Figure:
    """Time the two contenders and return the ratio of the first to the second."""
    spent = rounds(turns, number)
    a, b = turns
    low, high = spread(spent, a, b)
    ms = [1e3 * statistics.median(spent[name]) for name in (a, b)]
    times = f"[{low:.2f}, {high:.2f}] {ms[0]:.3g} ms / {ms[1]:.3g} ms"
    return Figure(what, ratio(spent, a, b), goal, f"{times}; {more}" if more else times)


def ruled(solver: type, goal: float) -> Any:
    """Return an optimistix solver that stops by the common rule."""

    class Ruled(solver):  # type: ignore[misc]
        def terminate(
            self, fn: Any, y: Any, args: Any, options: Any, state: Any, tags: Any
        ) -> tuple[Array, Any]:
            small = jnp.max(jnp.abs(state.f_info.grad)) <= goal
            return small & ~state.first_step, state.result

    return Ruled(rtol=0.0, atol=0.0)


def solve(number: int) -> list[Figure]:
    """Minimise Rosenbrock's function of 100 variables, beside optimistix."""
    import optimistix as optx

    figures = []
    x0 = start(100)
    for f in (extended, chained):
        goal = GTOL * max(1.0, gmax(f, x0))
        for tx, solver in ((bfgs(), optx.BFGS), (lbfgs(), optx.LBFGS)):
            theirs = ruled(solver, goal)
            run = jax.jit(lambda x, f=f, tx=tx: minimized(tx, f, x, gtol=GTOL))
            peer = jax.jit(
                lambda x, f=f, s=theirs: _brief(
                    optx.minimise(lambda x, _: f(x), s, x, max_steps=10**6, throw=False)
                )
            )
            found, (x, evals, grads) = run(x0), peer(x0)
            for end in (found.params, x):
                if gmax(f, end) > goal:
                    raise SystemExit(f"{solver.__name__}, {f.__name__}: not solved by both")
            more = (
                f"f {found.value:.1e} / {f(x):.1e}, values {found.nfev} / {evals}, "
                f"gradients {found.njev} / {grads}"
            )
            turns = {"ours": calls(lambda r=run: r(x0)), "theirs": calls(lambda p=peer: p(x0))}
            what = f"{f.__name__}, n = 100: {solver.__name__.lower()} / optimistix"
            figures.append(compared(turns, number, what, 1.0, more))
    return figures


def _brief(solution: Any) -> tuple[Array, Array, Array]:
    # a step of optimistix is one value; what it accepts costs a gradient
    return solution.value, solution.stats["num_steps"], solution.state.num_accepted_steps


def per_iteration(turn: Turn, iterations: int) -> Turn:
    return lambda repetitions: turn(repetitions) / iterations


def step(number: int) -> list[Figure]:
    """Time an iteration of BFGS at n = 1000, whatever it costs to get somewhere."""
    x0 = start(STEP_SIZE)
    tx = bfgs()
    run = jax.jit(lambda x: minimized(tx, chained, x, gtol=0.0, max_iter=ITERATIONS))
    plain = jax.jit(lambda x: bfgs_step.hand_written(chained, ITERATIONS)(x)[:2])
    both = jax.jit(jax.value_and_grad(chained))
    found, (_, value) = run(x0), plain(x0)
    if found.nit != ITERATIONS:
        raise SystemExit(f"bfgs stopped after {found.nit} of {ITERATIONS} iterations")

    def scipy_bfgs() -> Any:
        return scipy.optimize.minimize(
            lambda x: [np.asarray(v, float) for v in both(x)],
            x0,
            jac=True,
            method="BFGS",
            options={"maxiter": SCIPY_ITERATIONS, "gtol": 0.0},
        ).fun

    ours = per_iteration(calls(lambda: run(x0)), ITERATIONS)
    hand = per_iteration(calls(lambda: plain(x0)), ITERATIONS)
    theirs = per_iteration(calls(scipy_bfgs), SCIPY_ITERATIONS)
    scipy_bfgs()
    more = f"f after {ITERATIONS}: {found.value:.4g} / {value:.4g}"
    what = f"n = {STEP_SIZE}: an iteration of bfgs / "
    return [
        compared({"ours": ours, "hand": hand}, number, what + "by hand", 1.3, more),
        compared({"ours": ours, "scipy": theirs}, number, what + "SciPy", 0.05),
    ]


def size(_: int) -> list[Figure]:
    """Read what XLA says of one update of BFGS at n = 1000, and how long the programs are."""
    ours = bfgs_step.ours(STEP_SIZE)
    figures = [
        Figure("update of bfgs: operations / n^2", ours.flops, 10),
        Figure("update of bfgs: numbers read or written / n^2", ours.traffic, 3.2),
        Figure("update of bfgs: state / n^2", ours.state, 1.02),
        Figure("update of bfgs: further memory / n^2", ours.further, 0.05),
    ]
    try:
        theirs = bfgs_step.of_optimistix(chained, STEP_SIZE)
    except ImportError:
        pass
    else:
        for name, value in theirs._asdict().items():
            figures.append(Figure(f"step of optimistix's BFGS: {name} / n^2", value))
    reference = characters(optax.lbfgs())
    for make in (bfgs, lbfgs, nonlinear_cg):
        what = f"characters of {make.__name__}'s update / optax.lbfgs's"
        figures.append(Figure(what, characters(make()) / reference, 0.7))
    return figures


def characters(tx: optax.GradientTransformation) -> int:
    """Return the length of the jaxpr of one update."""
    tx, x = optax.with_extra_args_support(tx), start(10)

    def update(grad: Array, state: Any, x: Array, value: Array) -> Any:
        return tx.update(grad, state, x, value=value, grad=grad, value_fn=extended)

    return len(str(jax.make_jaxpr(update)(x, tx.init(x), x, jnp.zeros(()))))


def starts(number: int) -> list[Figure]:
    """Minimise from 256 starts in one call, against 256 calls."""
    xs = jnp.asarray(np.random.default_rng(0).uniform(-2, 2, (STARTS, 10)))
    rows = list(xs)
    figures = []
    for tx, name in ((bfgs(), "bfgs"), (lbfgs(), "lbfgs")):
        one = jax.jit(lambda x, tx=tx: minimized(tx, extended, x, gtol=GTOL))
        many = jax.jit(jax.vmap(one))
        apart, together = jnp.stack([one(x).status for x in rows]), many(xs).status
        figures.append(Figure(f"{name}: of {STARTS} starts not solved apart", sum(apart != 0), 0))
        figures.append(
            Figure(f"{name}: of {STARTS} starts not solved by one vmap", sum(together != 0), 0)
        )
        turns = {
            "vmap": calls(lambda many=many: many(xs)),
            "calls": calls(lambda one=one: [one(x) for x in rows]),
        }
        figures.append(compared(turns, number, f"{name}: one vmap / {STARTS} calls", 1.0))
    return figures


def imports(number: int) -> list[Figure]:
    """Import the room in fresh interpreters that have optax already."""
    code = (
        "import sys, time, optax; t = time.perf_counter(); import fdl.optim; "
        "print(time.perf_counter() - t, sum(m.split('.')[0] == 'flax' for m in sys.modules))"
    )
    lines = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(number)
    ]
    seconds, flax = zip(*(line.stdout.split() for line in lines), strict=True)
    return [
        Figure("import of fdl.optim after optax, s", statistics.median(map(float, seconds)), 0.3),
        Figure("modules of flax it brings", max(map(int, flax)), 0),
    ]


PARTS = {"solve": solve, "step": step, "size": size, "starts": starts, "import": imports}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS), help="which, comma between them")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds, 7 or more")
    parser.add_argument("--json", help="also write the figures to this file")
    args = parser.parse_args()
    unknown = [name for name in args.parts.split(",") if name not in PARTS]
    if unknown:
        raise SystemExit(f"--parts: {unknown} not among {sorted(PARTS)}")
    print(f"jax {jax.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    figures: list[Figure] = []
    for name in args.parts.split(","):
        print(name, flush=True)
        for figure in PARTS[name](args.rounds):
            figures.append(figure)
            print(figure, flush=True)
        jax.clear_caches()
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(
                [figure._asdict() | {"value": float(figure.value)} for figure in figures], file
            )


if __name__ == "__main__":
    main()
