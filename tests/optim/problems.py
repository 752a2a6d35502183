"""Objectives that the tests of the optimizers share, and an exact line search."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def beale(x):
    a, b = x
    return (1.5 - a + a * b) ** 2 + (2.25 - a + a * b**2) ** 2 + (2.625 - a + a * b**3) ** 2


def wood(x):
    a, b, c, d = x
    return (
        100 * (b - a**2) ** 2
        + (1 - a) ** 2
        + 90 * (d - c**2) ** 2
        + (1 - c) ** 2
        + 10 * (b + d - 2) ** 2
        + 0.1 * (b - d) ** 2
    )


def logistic(x):
    """A regression with a little weight decay: smooth, convex, no closed form."""
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(40, x.shape[0]))
    labels = np.sign(inputs @ rng.normal(size=x.shape[0]) + rng.normal(size=40))
    return jnp.log1p(jnp.exp(-labels * (inputs @ x))).mean() + 0.005 * x @ x


def trigonometric(x):
    return jnp.sum((x - jnp.sin(x[::-1])) ** 2) + 0.1 * jnp.sum(jnp.cosh(x))


FUNCTIONS = {  # smooth, with a usual start
    "rosenbrock": (rosenbrock, np.array([-1.2, 1.0])),
    "beale": (beale, np.array([1.0, 1.0])),
    "wood": (wood, np.array([-3.0, -1.0, -3.0, -1.0])),
    "logistic": (logistic, np.zeros(5)),
    "trigonometric": (trigonometric, np.array([1.0, -2.0, 0.5])),
}


def usual(*quick):
    """List the functions above for a test of each; all but those named are left to --slow."""
    return [pytest.param(n, marks=[] if n in quick else [pytest.mark.slow]) for n in FUNCTIONS]


def quadratic(n, condition=50.0, seed=0):
    """A strictly convex x'Ax/2 - b'x: (A, b, its minimiser)."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(n, n)))
    a = basis @ np.diag(np.geomspace(1, condition, n)) @ basis.T
    b = rng.normal(size=n)
    return a, b, np.linalg.solve(a, b)


def exact_search(a):
    """Scale a direction u to the exact minimiser of x'Ax/2 - b'x along it."""

    def update(updates, state, params=None, *, grad, **extra_args):
        step = -(updates @ grad) / (updates @ a @ updates)
        return step * updates, state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def fixed_steps(steps):
    """Scale the k-th direction by the k-th of given numbers."""

    def update(updates, count, params=None, **extra_args):
        return jnp.asarray(steps)[count] * updates, count + 1

    return optax.GradientTransformationExtraArgs(lambda params: jnp.zeros((), int), update)


def path(tx, fun, x0, steps):
    """Run a transformation for some steps; return all points and its last state."""
    x = jnp.asarray(x0)
    state = tx.init(x)
    points = [x]

    @jax.jit
    def step(x, state):
        value, grad = jax.value_and_grad(fun)(x)
        updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=fun)
        return optax.apply_updates(x, updates), state

    for _ in range(steps):
        x, state = step(x, state)
        points.append(x)
    return np.array(points), state


def linear_cg(a, b, x, steps):
    """The textbook's conjugate gradients, in NumPy."""
    r = b - a @ x
    d, points = r.copy(), [x]
    for _ in range(steps):
        alpha = r @ r / (d @ a @ d)
        x = x + alpha * d
        new = r - alpha * a @ d
        d = new + (new @ new) / (r @ r) * d
        r = new
        points.append(x)
    return np.array(points)
