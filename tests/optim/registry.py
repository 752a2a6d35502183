"""Every transformation of fdl.optim, in the shape in which the conformance suite tries them all.

A new transformation is one more line of `ENTRIES`. What stands before and after it makes it a
complete optimizer: the value of an objective must fall.
"""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest
from optax.projections import projection_box

from fdl.optim.adaptive import adagrad, rmsprop_nesterov, scale_by_adagrad, scale_by_rmsprop
from fdl.optim.armijo import scale_by_armijo
from fdl.optim.averaging import polyak_average
from fdl.optim.bfgs import bfgs, scale_by_bfgs
from fdl.optim.blocks import blockwise, coordinate_descent
from fdl.optim.constraints import project
from fdl.optim.continuation import graduated
from fdl.optim.decay import decoupled_l2
from fdl.optim.hager_zhang import scale_by_hager_zhang
from fdl.optim.hessian_free import hessian_free, scale_by_hessian_free
from fdl.optim.lbfgs import lbfgs, scale_by_lbfgs
from fdl.optim.momentum import momentum, nesterov, scale_by_momentum, scale_by_nesterov
from fdl.optim.newton import newton, scale_by_newton
from fdl.optim.newton_cg import newton_cg, scale_by_newton_cg
from fdl.optim.nonlinear_cg import nonlinear_cg, scale_by_nonlinear_cg
from fdl.optim.proximal import proximal_elastic_net, proximal_group_lasso, proximal_l1
from fdl.optim.saddle_free import saddle_free_newton, scale_by_saddle_free_krylov
from fdl.optim.wolfe import scale_by_wolfe
from tests.optim.probes import half_square, history, residuals

# what `optax.inject_hyperparams` must leave as it is: functions that are no schedules, and sizes
STATIC = {"loss_fn", "mask", "model_fn", "projection"} | {
    "max_cg",
    "max_steps",
    "memory_size",
    "n_samples",
    "probes",
    "rank",
}


class Entry(NamedTuple):
    """A transformation and how to try it.

    Attributes:
      name: of its factory in fdl.optim; what follows a blank tells variants apart.
      factory: of the transformation.
      kwargs: what it is called with.
      before: links of the chain in front of it.
      after: links behind it.
      real: whether it is for real parameters only.
      static: names of arguments that must not be traced here, though others' may be.
    """

    name: str
    factory: Callable[..., optax.GradientTransformation]
    kwargs: dict[str, Any] = {}
    before: tuple[optax.GradientTransformation, ...] = ()
    after: tuple[optax.GradientTransformation, ...] = ()
    real: bool = False
    static: frozenset[str] = frozenset()

    def make(self) -> optax.GradientTransformationExtraArgs:
        return optax.chain(*self.before, self.factory(**self.kwargs), *self.after)

    def inject(self) -> optax.GradientTransformationExtraArgs:
        static = STATIC & inspect.signature(self.factory).parameters.keys() | self.static
        injected = optax.inject_hyperparams(self.factory, static)(**self.kwargs)
        return optax.chain(*self.before, injected, *self.after)


def everything(params: Any) -> Any:
    return jax.tree.map(lambda _: True, params)


def matrices(params: Any) -> Any:
    return jax.tree.map(lambda p: jnp.ndim(p) > 1, params)


def real_box(params: Any) -> Any:
    return jax.tree.map(
        lambda p: p if jnp.iscomplexobj(p) else projection_box(p, -0.75, 0.75), params
    )


DESCENT = (optax.sgd(0.3),)
STEP = (optax.scale(-0.3),)
SMALL_STEP = (optax.scale(-0.1),)
NEGATE = (optax.scale(-1.0),)

SEARCH = {"max_steps": 20}
GAUSS_NEWTON = {"model_fn": residuals, "loss_fn": half_square, "max_cg": 20}
NEWTON_CG = {"curvature": "gauss_newton", **GAUSS_NEWTON}
ABS = {"mode": "abs", "radius": 1.0}
GREEDY = {"order": "gauss_southwell", "l1": 0.01}
INNER = {"inner": momentum(0.3), "order": "random", "seed": 1}
LEAVES = {"inner": adagrad(0.3), "blocks": "leaves"}
LOOKAHEAD = {"learning_rate": 0.2, "momentum": 0.5, "form": "lookahead"}
RMSPROP = {"decay": 0.5, "delta": 1e-6}
SMOOTHED = {"inner": momentum(0.3, 0.5), "sigma": 0.05, "n_samples": 4}
PROXIMAL = {"strength": 0.01, "learning_rate": 0.3, "mask": everything}
ELASTIC = PROXIMAL | {"l1_ratio": 0.5}
GROUPED = PROXIMAL | {"mask": matrices}

EVERY = frozenset({"every"})  # how often a Hessian is made: whether it is kept

ENTRIES = [
    Entry("adagrad", adagrad, {"learning_rate": 0.3}),
    Entry("bfgs", bfgs),
    Entry("bfgs per leaf", bfgs, {"layout": "per_leaf", "damping": "powell"}),
    Entry("blockwise", blockwise, {"inner": momentum(0.3), "mask": everything}),
    Entry("coordinate_descent", coordinate_descent),
    Entry("coordinate_descent greedy", coordinate_descent, GREEDY),
    Entry("coordinate_descent inner", coordinate_descent, INNER),
    Entry("coordinate_descent leaves", coordinate_descent, LEAVES),
    Entry("decoupled_l2", decoupled_l2, {"strength": 0.01, "mask": everything}, after=STEP),
    Entry("graduated", graduated, SMOOTHED),
    Entry("hessian_free", hessian_free, GAUSS_NEWTON),
    Entry("lbfgs", lbfgs, {"memory_size": 5}),
    Entry("momentum", momentum, {"learning_rate": 0.2, "momentum": 0.5}),
    Entry("nesterov", nesterov, {"learning_rate": 0.2, "momentum": 0.5}),
    Entry("nesterov lookahead", nesterov, LOOKAHEAD),
    Entry("newton", newton, static=EVERY),
    Entry("newton_cg", newton_cg, {"max_cg": 20}),
    Entry("nonlinear_cg", nonlinear_cg),
    Entry("polyak_average", polyak_average, {"start": 1, "every": 2}, before=DESCENT),
    Entry("polyak_average ema", polyak_average, {"kind": "ema", "decay": 0.9}, before=DESCENT),
    Entry("project", project, {"projection": real_box}, before=DESCENT),
    Entry("proximal_elastic_net", proximal_elastic_net, ELASTIC, before=DESCENT, real=True),
    Entry("proximal_group_lasso", proximal_group_lasso, GROUPED, before=DESCENT),
    Entry("proximal_l1", proximal_l1, PROXIMAL, before=DESCENT, real=True),
    Entry("rmsprop_nesterov", rmsprop_nesterov, {"learning_rate": 0.05, "momentum": 0.5}),
    Entry("saddle_free_newton", saddle_free_newton, {"rank": 4}),
    Entry("scale_by_adagrad", scale_by_adagrad, {"delta": 1e-6}, after=STEP),
    Entry("scale_by_armijo", scale_by_armijo, SEARCH, before=DESCENT),
    Entry("scale_by_bfgs", scale_by_bfgs, after=STEP),
    Entry("scale_by_hager_zhang", scale_by_hager_zhang, SEARCH, before=DESCENT),
    Entry("scale_by_hessian_free", scale_by_hessian_free, GAUSS_NEWTON, after=NEGATE),
    Entry("scale_by_lbfgs", scale_by_lbfgs, {"memory_size": 5}, after=STEP),
    Entry("scale_by_momentum", scale_by_momentum, {"momentum": 0.5}, before=DESCENT),
    Entry("scale_by_nesterov", scale_by_nesterov, {"momentum": 0.5}, before=DESCENT),
    Entry("scale_by_newton", scale_by_newton, after=NEGATE, static=EVERY),
    Entry("scale_by_newton abs", scale_by_newton, ABS, after=NEGATE, static=EVERY),
    Entry("scale_by_newton_cg", scale_by_newton_cg, {"max_cg": 20}, after=NEGATE),
    Entry("scale_by_newton_cg gauss-newton", scale_by_newton_cg, NEWTON_CG, after=NEGATE),
    Entry("scale_by_nonlinear_cg", scale_by_nonlinear_cg, {"rule": "pr+"}, after=STEP),
    Entry("scale_by_rmsprop", scale_by_rmsprop, RMSPROP, after=SMALL_STEP),
    Entry("scale_by_saddle_free_krylov", scale_by_saddle_free_krylov, {"rank": 4}, after=NEGATE),
    Entry("scale_by_wolfe", scale_by_wolfe, SEARCH, before=DESCENT),
]


@cache
def alone(name: str) -> Callable[[Any], tuple[Any, Any]]:
    """Return the history of 12 updates of a registered transformation, compiled once a type.

    What wrappers, traced hyperparameters, vmap and a loop of its own make of a transformation is
    compared with it.
    """
    return history({entry.name: entry for entry in ENTRIES}[name].make(), 12)


# one without a search and one with it; the others are tried by --slow
QUICK = {"momentum", "bfgs"}


def marks(entry: Entry) -> list[pytest.MarkDecorator]:
    return [] if entry.name in QUICK else [pytest.mark.slow]


def every(test: Callable) -> Callable:
    """Run a test for every transformation."""
    params = [pytest.param(entry, id=entry.name, marks=marks(entry)) for entry in ENTRIES]
    return pytest.mark.parametrize("entry", params)(test)
