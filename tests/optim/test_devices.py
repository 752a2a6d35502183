"""Every family of transformations on many devices goes the way of one device with the whole batch.

Searches and curvature products evaluate the objective again by themselves. Where devices disagree
about its value they take different numbers of trials, and wait for each other for ever: a watchdog
ends the process then, and says where it stood.
"""

import faulthandler
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax.projections import projection_l2_ball

from fdl import train
from fdl.optim.adaptive import rmsprop_nesterov
from fdl.optim.armijo import scale_by_armijo
from fdl.optim.averaging import averaged_params, polyak_average
from fdl.optim.bfgs import bfgs
from fdl.optim.blocks import blockwise, coordinate_descent
from fdl.optim.constraints import project
from fdl.optim.continuation import graduated
from fdl.optim.hager_zhang import scale_by_hager_zhang
from fdl.optim.lbfgs import lbfgs
from fdl.optim.momentum import momentum, nesterov
from fdl.optim.newton import scale_by_newton
from fdl.optim.newton_cg import scale_by_newton_cg
from fdl.optim.nonlinear_cg import nonlinear_cg
from fdl.optim.saddle_free import scale_by_saddle_free_krylov
from fdl.optim.wolfe import scale_by_wolfe

pytestmark = pytest.mark.usefixtures("compile_quickly")

B, IN, HIDDEN, STEPS = 16, 3, 3, 4
WATCHDOG = 60  # seconds for a step that is compiled
Tree = Any

FAMILIES: dict[str, Callable[[], optax.GradientTransformation]] = {
    "first order": lambda: optax.chain(
        rmsprop_nesterov(0.05), project(lambda p: projection_l2_ball(p, 2.0)), polyak_average()
    ),
    "lookahead": lambda: nesterov(0.1, form="lookahead"),
    "graduated": lambda: graduated(momentum(0.1), 0.1, 4),
    "coordinates": lambda: coordinate_descent(order="gauss_southwell", l1=1e-3),
    "leaves": lambda: coordinate_descent(momentum(0.1), blocks="leaves", order="random"),
    "part": lambda: blockwise(
        optax.chain(optax.sgd(1.0), scale_by_wolfe()), {"b": False, "v": True, "w": True}
    ),
    "armijo": lambda: optax.chain(optax.sgd(1.0), scale_by_armijo()),
    "hager-zhang": lambda: optax.chain(optax.sgd(1.0), scale_by_hager_zhang()),
    "bfgs": bfgs,
    "lbfgs": lbfgs,
    "nonlinear cg": nonlinear_cg,
    "newton": lambda: optax.chain(scale_by_newton(), optax.scale(-1.0)),
    "newton cg": lambda: optax.chain(scale_by_newton_cg(), optax.scale(-1.0)),
    "saddle-free krylov": lambda: optax.chain(scale_by_saddle_free_krylov(4), optax.scale(-1.0)),
}
RUNNERS = [("pmap", False), ("shard_map", False), ("shard_map", True)]


def cases() -> Iterator[Any]:
    """Yield the whole grid; all but every third family, on one runner each, are slow."""
    for k, family in enumerate(FAMILIES):
        for j, (how, checked) in enumerate(RUNNERS):
            for n in (2, 8):
                quick = k % 3 == 0 and j == k // 3 % 3 and n == (8 if k % 4 == 0 else 2)
                name = f"{family}-{how}{' checked' if checked else ''}-{n}"
                marks = [] if quick else [pytest.mark.slow]
                yield pytest.param(family, how, checked, n, id=name, marks=marks)


@contextmanager
def watchdog(seconds: float) -> Iterator[None]:
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def problem() -> tuple[Tree, Tree]:
    """Return parameters and a batch: a regression whose examples differ a lot."""
    rng = np.random.default_rng(0)
    shapes = {"b": (HIDDEN,), "v": (HIDDEN,), "w": (IN, HIDDEN)}
    params = {k: 0.5 * rng.standard_normal(s) for k, s in shapes.items()}
    x = rng.standard_normal((B, IN)) * np.geomspace(0.3, 3, B)[:, None]
    return params, {"x": x, "y": np.sin(x.sum(1))}


def loss(params: Tree, batch: Tree) -> jax.Array:
    hidden = jnp.tanh(batch["x"] @ params["w"] + params["b"][None])
    return jnp.square(hidden @ params["v"] - batch["y"]).mean()


def objective(params: Tree, extra: Tree, batch: Tree, key: jax.Array) -> tuple:
    del key
    return loss(params, batch), (extra, {})


@cache
def one_device(family: str) -> Tree:
    """The truth: the loss of the whole batch, in a plain loop without anything of fdl.train."""
    tx = optax.with_extra_args_support(FAMILIES[family]())
    params, batch = problem()

    def f(params: Tree) -> jax.Array:
        return loss(params, batch)

    @jax.jit
    def step(params: Tree, state: Tree) -> tuple[Tree, Tree]:
        value, grad = jax.value_and_grad(f)(params)
        updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=f)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for _ in range(STEPS):
        params, state = step(params, state)
    assert f(params) < f(problem()[0])
    return jax.device_get((params, state))


def on_devices(family: str, how: str, checked: bool, n: int) -> tuple[Tree, Tree]:
    tx = FAMILIES[family]()
    params, batch = problem()
    runner = train.lift(train.make_step(objective, tx), how, devices=n, check_vma=checked)
    state = runner.put(train.init_state(params, {}, tx, seed=0))
    for i in range(STEPS):
        with watchdog(WATCHDOG if i else 4 * WATCHDOG):  # the first one compiles
            state, _ = runner.step(state, batch)
            jax.block_until_ready(state)
    runner.check(state)  # all replicas are equal, bit for bit
    final = runner.get(state)
    return final.params, final.opt_state


@pytest.mark.devices
@pytest.mark.parametrize(("family", "how", "checked", "n"), list(cases()))
def test_many_devices_go_the_way_of_one(family: str, how: str, checked: bool, n: int) -> None:
    found, in_state = on_devices(family, how, checked, n)
    expected, state = one_device(family)
    for leaf in expected:
        np.testing.assert_allclose(found[leaf], expected[leaf], rtol=1e-10, atol=1e-12)
    if family == "first order":
        for leaf, mean in averaged_params(state).items():
            np.testing.assert_allclose(averaged_params(in_state)[leaf], mean, rtol=1e-10)


@pytest.mark.devices
def test_the_comparison_notices_a_local_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line search that is handed each device's own loss takes another step on each of them."""
    monkeypatch.setattr("fdl.train.step.mean_over_devices", lambda tree, axis=None: tree)
    monkeypatch.setattr("fdl.train.step.shared", lambda tree, axis=None: tree)
    with pytest.raises((AssertionError, RuntimeError)):
        test_many_devices_go_the_way_of_one("armijo", "pmap", False, 2)


def test_the_watchdog_bites() -> None:
    """In a process of its own: one that hangs ends with a traceback of where it hung."""
    import subprocess
    import sys

    code = (
        "import faulthandler, time\n"
        "faulthandler.dump_traceback_later(0.3, exit=True)\n"
        "time.sleep(30)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert ended.returncode == 1 and "line 3" in ended.stderr
