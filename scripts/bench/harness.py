"""Run one solver on one problem by rules that are the same for all.

A solver is a function of a `Trial`: it starts at `trial.x0`, evaluates through the trial and hands
every iterate it accepts to `trial.accept`, which raises `Stop` as soon as

    max|g| <= gtol max(1, max|g0|),  or 1000 iterates, or 15 seconds of processor time
                                     (a clock on the wall would count what else the machine does).

The trial looks at the gradient itself, without counting: what a solver believes plays no part.
"""

import time
import warnings
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from counting import Counts, counted

Array = jax.Array
SECONDS = 15.0


class Problem(Protocol):
    """A family's entry: a name, a starting point and a scalar function of one array."""

    @property
    def name(self) -> str: ...

    @property
    def x0(self) -> np.ndarray: ...

    @property
    def value(self) -> Callable[[Array], Array]: ...


class Stop(Exception):
    """The common rule is met, or a limit is."""


class Result(NamedTuple):
    """What one run gave; `solved` is the gradient test, `x` the last accepted iterate."""

    solver: str
    problem: str
    n: int
    solved: bool
    stop: str  # solved, iterations, seconds, gave up, or the exception
    f0: float
    f: float
    gmax: float
    nf: int
    ng: int
    nh: int
    work: int  # nf + 2 ng + 4 nh
    iterations: int
    seconds: float
    bad: bool  # an exception, or an end that is not finite
    x: list[float]


class Trial:
    """A problem as a solver sees it: `value` for JAX; `f`, `g`, `h`, `hv` for NumPy."""

    def __init__(
        self, problem: Problem, gtol: float, max_iter: int, dtype: type, count: bool = True
    ):
        self.problem, self.gtol, self.max_iter = problem, gtol, max_iter
        self.counts = Counts()
        self.x0 = jnp.asarray(problem.x0, dtype)
        self.value: Callable[[Array], Array] = (
            counted(problem.value, self.counts) if count else problem.value
        )
        self._f = jax.jit(problem.value)
        self._g = jax.jit(jax.grad(problem.value))
        self.x = np.asarray(self.x0)
        self.f0, self.g0 = float(self._f(self.x0)), self.gmax(self.x0)
        self.restart()

    def gmax(self, x: Array | np.ndarray) -> float:
        return float(np.max(np.abs(self._g(x))))

    def restart(self) -> None:
        """Forget all that was counted, as after a warm-up that compiles."""
        self.counts.reset()
        self._seen: set[bytes] = set()
        self._paid: tuple[bytes, np.ndarray] | None = None
        self.iterations = -1  # the starting point is iterate 0
        self.clock, self.processor = time.perf_counter(), time.process_time()

    def accept(self, x: Array | np.ndarray) -> None:
        self.x = np.array(x, self.x0.dtype)
        self.iterations += 1
        if self.gmax(self.x) <= self.gtol * max(1.0, self.g0):
            raise Stop("solved")
        if self.iterations >= self.max_iter:
            raise Stop("iterations")
        self.watch()

    def watch(self) -> None:
        if time.process_time() - self.processor > SECONDS:
            raise Stop("seconds")

    def f(self, x: np.ndarray) -> float:
        self.counts.nf += 1
        self.watch()
        return float(self._f(np.asarray(x, self.x0.dtype)))

    def g(self, x: np.ndarray) -> np.ndarray:
        if self._paid and self._paid[0] == x.tobytes():
            return self._paid[1]
        self.counts.ng += 1
        self._seen.add(x.tobytes())
        return np.asarray(self._g(np.asarray(x, self.x0.dtype)), float)

    def accept_counted(self, x: np.ndarray) -> None:
        """Accept an iterate of a NumPy solver that may not have asked for the gradient there.

        The stopping rule needs it: it is counted now, and not again when the solver asks.
        """
        if x.tobytes() not in self._seen:
            self._paid = x.tobytes(), self.g(x)
        self.accept(x)

    def h(self, x: np.ndarray) -> np.ndarray:
        self.counts.nh += self.x0.size
        return np.asarray(self._h(np.asarray(x, self.x0.dtype)), float)

    def hv(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        self.counts.nh += 1
        x, v = np.asarray(x, self.x0.dtype), np.asarray(v, self.x0.dtype)
        return np.asarray(self._hv(x, v), float)

    def compile_second_order(self) -> None:
        """Have `h` and `hv` ready; only the solvers that use them pay for it."""
        value = self.problem.value
        self._h = jax.jit(jax.hessian(value))
        self._hv = jax.jit(lambda x, v: jax.jvp(jax.grad(value), (x,), (v,))[1])
        self._h(self.x0), self._hv(self.x0, self.x0)

    def end(self, solver: str, stop: str, failed: bool) -> Result:
        seconds = time.perf_counter() - self.clock
        f, gmax = float(self._f(self.x)), self.gmax(self.x)
        return Result(
            solver=solver,
            problem=self.problem.name,
            n=self.x0.size,
            solved=gmax <= self.gtol * max(1.0, self.g0),
            stop=stop,
            f0=self.f0,
            f=f,
            gmax=gmax,
            nf=self.counts.nf,
            ng=self.counts.ng,
            nh=self.counts.nh,
            work=self.counts.work,
            iterations=max(self.iterations, 0),
            seconds=seconds,
            bad=failed or not np.isfinite(f),
            x=self.x.tolist(),
        )


Solver = Callable[[Trial], None]


def run(
    name: str,
    solver: Solver,
    problem: Problem,
    gtol: float = 1e-6,
    max_iter: int = 1000,
    dtype: type = np.float64,
    count: bool = True,
) -> Result:
    """Return the result of one solver on one problem; an exception is a result too."""
    trial = Trial(problem, gtol, max_iter, dtype, count)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            solver(trial)
        except Stop as stop:
            return trial.end(name, str(stop), failed=False)
        except Exception as error:  # whatever a solver throws belongs into the table
            return trial.end(name, f"{type(error).__name__}: {error}"[:200], failed=True)
    return trial.end(name, "gave up", failed=False)
