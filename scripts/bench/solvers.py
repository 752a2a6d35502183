"""The solvers that the benchmark compares: SciPy, optimistix and anything of optax's kind.

Their own stopping rules are switched off, so that only the common one stops them; constants are
the defaults. SciPy gets compiled JAX functions and never sees the compilation.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import scipy.optimize
from harness import Solver, Stop, Trial

Array = jax.Array

SCIPY = {
    "scipy-bfgs": ("BFGS", {"gtol": 0.0, "maxiter": 10**6}),
    "scipy-lbfgsb": ("L-BFGS-B", {"gtol": 0, "ftol": 0, "maxiter": 10**6, "maxfun": 10**7}),
    "scipy-cg": ("CG", {"gtol": 0.0, "maxiter": 10**6}),
    "scipy-newton-cg": ("Newton-CG", {"xtol": 0.0, "maxiter": 10**6}),
    "scipy-trust-exact": ("trust-exact", {"gtol": 0.0, "maxiter": 10**6}),
}


def scipy_solver(method: str, options: dict[str, Any]) -> Solver:
    def solve(trial: Trial) -> None:
        second = {"Newton-CG": {"hessp": trial.hv}, "trust-exact": {"hess": trial.h}}
        if method in second:
            trial.compile_second_order()
        trial.restart()
        trial.accept(trial.x0)
        scipy.optimize.minimize(
            trial.f,
            np.asarray(trial.x0, float),
            jac=trial.g,
            method=method,
            callback=lambda xk: trial.accept_counted(xk),
            options=options,
            **second.get(method, {}),
        )

    return solve


def optax_solver(make: Callable[[], optax.GradientTransformation]) -> Solver:
    """Drive a complete optax optimizer, as a user's loop would: one compiled step."""

    def solve(trial: Trial) -> None:
        tx = optax.with_extra_args_support(make())
        fun = trial.value

        def evaluate(x: Array, state: Any) -> tuple[Array, Array]:
            # Line searches leave the value and the gradient of the next iterate in their state.
            if any(optax.tree.get_all_with_path(state, key) for key in ("value", "grad")):
                return optax.value_and_grad_from_state(fun)(x, state=state)
            return jax.value_and_grad(fun)(x)

        def begin(x: Array) -> Any:
            state = tx.init(x)
            return x, state, *evaluate(x, state)

        def step(x: Array, state: Any, value: Array, grad: Array) -> Any:
            updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=fun)
            x = optax.apply_updates(x, updates)
            return x, state, *evaluate(x, state)

        begin, step = jax.jit(begin), jax.jit(step)
        jax.block_until_ready(step(*step(*begin(trial.x0))))
        trial.restart()
        carry = begin(trial.x0)
        trial.accept(carry[0])
        while True:
            carry = step(*carry)
            trial.accept(carry[0])

    return solve


def optimistix_solver(make: Callable[[], Any]) -> Solver:
    """Drive an optimistix minimiser step by step; a step is one trial point, accepted or not."""
    import equinox as eqx

    def solve(trial: Trial) -> None:
        solver = make()
        args: tuple[Any, ...] = (None, {})
        struct = jax.ShapeDtypeStruct((), trial.x0.dtype)

        def fn(x: Array, _: None) -> tuple[Array, None]:
            return trial.value(x), None

        # As its own `minimise` does; without it the compiled step would keep Python functions.
        fn = eqx.filter_closure_convert(fn, trial.x0, None)
        step = eqx.filter_jit(lambda x, s: solver.step(fn, x, *args, s, frozenset())[:2])

        start = solver.init(fn, trial.x0, *args, struct, None, frozenset())
        jax.block_until_ready(step(*step(trial.x0, start))[0])
        trial.restart()
        trial.accept(trial.x0)
        x, state, before = trial.x0, start, trial.x
        for _ in range(50 * trial.max_iter):
            x, state = step(x, state)
            now = np.asarray(x)
            if not np.all(np.isfinite(now)):
                raise Stop("gave up")
            if np.any(now != before):
                trial.accept(now)
            trial.watch()
            before = now

    return solve


def peers() -> dict[str, Solver]:
    """Return all peers that are installed, by name."""
    made = {name: scipy_solver(*args) for name, args in SCIPY.items()}
    made["optax-lbfgs"] = optax_solver(optax.lbfgs)
    try:
        import optimistix as optx
    except ImportError:
        return made
    made["optx-bfgs"] = optimistix_solver(lambda: optx.BFGS(rtol=0.0, atol=0.0))
    made["optx-lbfgs"] = optimistix_solver(lambda: optx.LBFGS(rtol=0.0, atol=0.0))
    made["optx-ncg"] = optimistix_solver(lambda: optx.NonlinearCG(rtol=0.0, atol=0.0))
    return made


FDL = ("bfgs", "lbfgs", "nonlinear_cg", "newton", "saddle_free_newton", "newton_cg")


def ours() -> dict[str, Solver]:
    """Return the complete optimizers that `fdl.optim` has, by name: fdl-bfgs and so on."""
    import fdl.optim

    made = {f"fdl-{name}": getattr(fdl.optim, name, None) for name in FDL}
    return {name: optax_solver(make) for name, make in made.items() if make is not None}
