"""An objective on trees of any shape and type, and a way to run a transformation on it."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

Tree = Any


def params_of(dtype: Any = np.float64) -> Tree:
    """Return a tree with a matrix, a vector and a number."""
    rng = np.random.default_rng(0)
    tree = {
        "a": rng.standard_normal((3, 2)),
        "b": {"c": rng.standard_normal(4), "d": np.array(-0.5)},
    }
    if jnp.issubdtype(dtype, jnp.complexfloating):
        tree = jax.tree.map(lambda x: x + 0.5j * x[::-1] if x.ndim else x - 0.3j, tree)
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)


def residuals(params: Tree) -> jax.Array:
    """Return what `objective` is the sum of squares of: distances from 0.6, and from their mean."""
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(params)]
    x = jnp.concatenate(leaves) - 0.6 if leaves else jnp.zeros(0)
    mean = x.sum() / max(x.size, 1) ** 0.5
    both = jnp.concatenate([x + 0.05 * x**2, jnp.stack([mean])])
    return both * jnp.linspace(0.5, 1.0, x.size + 1, dtype=both.real.dtype)


def half_square(out: jax.Array) -> jax.Array:
    return 0.5 * (jnp.abs(out) ** 2).sum()


def objective(params: Tree) -> jax.Array:
    """A nearly quadratic function with curvatures from 1/4 to 2; its minimum is 0, at 0.6."""
    return half_square(residuals(params))


@contextmanager
def hidden_parameters_are_known() -> Iterator[None]:
    """Where optax hides parameters the transformations say that they cannot search."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "value_fn cannot be evaluated")
        yield


def update(
    tx: optax.GradientTransformationExtraArgs, f: Callable, params: Tree, state: Tree
) -> tuple[Tree, Tree, jax.Array]:
    """Make one update, as a loop that knows nothing of the transformation does."""
    value, grad = jax.value_and_grad(f)(params)
    updates, state = tx.update(
        jax.tree.map(jnp.conj, grad),
        state,
        params,
        value=value,
        grad=grad,
        value_fn=f,
        a_keyword_of_another_transformation=1.0,
    )
    return optax.apply_updates(params, updates), state, value


def history(
    tx: optax.GradientTransformationExtraArgs, steps: int, f: Callable = objective
) -> Callable[[Tree], tuple[Tree, Tree]]:
    """Return the function from a start to the parameters and states after each of some updates.

    It is one compiled scan; the arrays that it returns have one more axis, of length `steps`.
    """

    def step(carry: Tree, _: None) -> tuple[Tree, Tree]:
        params, state, _ = update(tx, f, *carry)
        return (params, state), (params, state)

    return jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), length=steps)[1])


def at(trees: Tree, k: int) -> Tree:
    """Return what a history holds after its k-th update."""
    return jax.tree.map(lambda x: x[k - 1], jax.device_get(trees))


def run(tx: optax.GradientTransformationExtraArgs, params: Tree, steps: int) -> tuple[Tree, Tree]:
    """Return the parameters and the state after some steps on `objective`."""
    with hidden_parameters_are_known():
        return at(history(tx, steps)(params), steps)
