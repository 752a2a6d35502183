"""Newton's method with the Hessian written out, for up to some thousand parameters."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from fdl import tree
from fdl.curvature import dense
from fdl.optim import objective, trust_region
from fdl.optim.alias import searched
from fdl.optim.armijo import scale_by_armijo
from fdl.optim.hyperparams import require
from fdl.optim.trust_region import Model
from fdl.types import Array, Params, PyTree

Mode = Literal["shift", "abs", "cholesky", "plain"]


class NewtonState(NamedTuple):
    """State of `scale_by_newton`.

    Attributes:
      count: updates made, int32.
      radius: how long the next step may be to begin with; infinite for "as long as it is".
      hessian_products: made so far, n for each Hessian, int32.
      function_values: of f, looked at so far, int32.
      curvatures: eigenvalues of the Hessian, [n]; [0] unless they are kept for several updates.
      basis: its eigenvectors, [n, n]; [0, 0] likewise.
    """

    count: Array  # type: ignore[assignment]
    radius: Array
    hessian_products: Array
    function_values: Array
    curvatures: Array
    basis: Array


def scale_by_newton(
    damping: float = 0.0,
    *,
    mode: Mode = "shift",
    radius: float | Literal["params"] | None = None,
    every: int = 1,
    hessian_fn: Callable[[Params], Array] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Precondition by the inverse of the Hessian: u <- A^-1 g.

    "shift":    A = H + m I with the least m >= damping that makes A positive definite
    "abs":      A = |H| + damping I, |H| of the absolute eigenvalues: saddle-free Newton
    "cholesky": A = L D L', the Cholesky factors of H + damping I changed where D is not positive
    "plain":    A = H + damping I as it is, attracted by saddles and maxima as well

    With a radius m is raised further until |u| is no longer than it, and the radius is searched for
    by values of f: shortened where f does not fall as the model says, doubled where it does; no
    gradient is asked for. The radius found is the one that the next update begins with.

    Args:
      damping: >= 0, in units of the curvature.
      mode: see above.
      radius: the first radius, > 0, for the modes "shift" and "abs"; "params": |params|, at least
        1; None for steps of any length.
      every: compute the Hessian at every so many updates. A static argument.
      hessian_fn: params -> [n, n] over the tree ravelled by `fdl.tree.ravel`, where it is known;
        by default it is that of `value_fn`, at the cost of n Hessian-vector products.

    Returns:
      A transformation; `update` needs `params` and the keyword `value_fn`, with a radius `value`
      saves one evaluation. Memory n^2 numbers and time 10 n^3 for the eigenvectors.

    Raises:
      ValueError: for a negative damping, a radius that is not positive, every below 1, an unknown
        mode; from `update` when `params` are missing.

    Example:
      >>> tx = scale_by_newton()
      >>> f, x = lambda x: x[0] ** 2 + 50 * x[1] ** 2, jnp.array([3.0, 1.0])
      >>> direction, _ = tx.update(jax.grad(f)(x), tx.init(x), x, value_fn=f)
      >>> [round(float(u), 4) for u in direction]
      [3.0, 1.0]

    Source: DLB 8.6.1, algorithm 8.8 and equation 8.28; Nocedal and Wright 2006, section 3.4;
    Dauphin et al. 2014, arXiv 1406.2572; the search: Dennis and Schnabel 1983, section 6.4.
    """
    require("scale_by_newton(damping=...)", damping, ">= 0", lambda d: d >= 0)
    trust_region.check_radius("scale_by_newton", radius)
    require("scale_by_newton(every=...)", every, ">= 1", lambda e: e >= 1)
    if mode not in ("shift", "abs", "cholesky", "plain"):
        raise ValueError(
            f"scale_by_newton(mode=...) must be shift, abs, cholesky or plain, got {mode!r}"
        )
    searched = radius is not None and mode in ("shift", "abs")

    def init(params: Params) -> NewtonState:
        kind = tree.dtype(params)
        n = tree.ravel(params)[0].size if every > 1 else 0
        first = trust_region.first_radius(radius if searched else None, params)
        count = jnp.zeros((), jnp.int32)
        return NewtonState(count, first, count, count, jnp.zeros(n, kind), jnp.zeros((n, n), kind))

    def update(
        updates: PyTree,
        state: NewtonState,
        params: Params | None = None,
        *,
        value_fn: objective.ValueFn,
        value: Array | None = None,
        grad: PyTree | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, NewtonState]:
        if params is None:
            raise ValueError("scale_by_newton: update(params=...) must be given")
        f = objective.bind(value_fn, params, grad, extra_args)
        gradient, unravel = tree.ravel(updates)
        cost = jnp.where(state.count % every == 0, gradient.size, 0).astype(jnp.int32)
        cost = cost if hessian_fn is None else jnp.zeros_like(cost)
        new = state._replace(
            count=optax.safe_increment(state.count), hessian_products=state.hessian_products + cost
        )
        compute = _hessian_of(f, hessian_fn)
        if compute is None or gradient.size == 0:
            return updates, new  # nothing is known of the curvature: the gradient itself

        def hessian() -> Array:
            return compute(params).astype(gradient.dtype)

        if mode == "cholesky":
            lower, d = modified_cholesky(hessian() + damping * _eye(gradient))
            return unravel(_finite(_solve(lower, d, gradient), gradient)), new
        curvatures, basis = _eigenvectors(hessian, state, every)
        if every > 1:
            new = new._replace(curvatures=curvatures, basis=basis)
        model = make_model(curvatures, gradient, basis, absolute=mode == "abs")
        least = jnp.asarray(damping, gradient.dtype)
        if mode == "plain":
            step = _plain(model, least)
        elif f is None or not searched:
            step = basis @ trust_region.solve(model, state.radius, least)
        else:
            start = f(params) if value is None else value
            step, wide, evals = trust_region.search(
                trust_region.restrict(f, unravel, params),
                jnp.asarray(start).astype(gradient.dtype).reshape(()),
                model,
                state.radius,
                least,
            )
            seen = state.function_values + evals + (value is None)
            new = new._replace(radius=wide, function_values=seen)
        return unravel(_finite(-step, gradient)), optax.tree.cast_like(new, state)

    return optax.GradientTransformationExtraArgs(init, update)


def make_model(curvatures: Array, gradient: Array, basis: Array, *, absolute: bool) -> Model:
    """Return the quadratic model in a basis of (approximate) eigenvectors.

    Args:
      curvatures: eigenvalues, [k].
      gradient: [n].
      basis: columns, [n, k].
      absolute: whether steps take the curvatures for positive.
    """
    slopes = jnp.dot(gradient, basis, precision=lax.Precision.HIGHEST)
    bent = curvatures
    if absolute:
        bent = jnp.abs(curvatures)
        bent = jnp.maximum(bent, 8 * jnp.finfo(bent.dtype).eps * bent.max(initial=0))
    return Model(curvatures, bent, slopes, basis)


def _hessian_of(
    f: Callable[[Params], Array] | None, known: Callable[[Params], Array] | None
) -> Callable[[Params], Array] | None:
    if known is None and f is not None:
        return functools.partial(dense.hessian, f)
    return known


def _eigenvectors(
    hessian: Callable[[], Array], state: NewtonState, every: int
) -> tuple[Array, Array]:
    def compute() -> tuple[Array, Array]:
        values, vectors = jnp.linalg.eigh(hessian())
        return values, vectors

    if every == 1:
        return compute()
    due = state.count % every == 0
    return lax.cond(due, compute, lambda: (state.curvatures, state.basis))


def _plain(model: Model, damping: Array) -> Array:
    bent = model.bent + damping
    return -model.basis @ jnp.where(bent == 0, 0, model.slopes / jnp.where(bent == 0, 1, bent))


def _eye(like: Array) -> Array:
    return jnp.eye(like.size, dtype=like.dtype)


def _finite(direction: Array, gradient: Array) -> Array:
    """Take a short step along the gradient where a direction is not a number."""
    size = jnp.linalg.norm(gradient)
    steepest = gradient * jnp.minimum(1.0, 1.0 / jnp.where(size > 0, size, 1))
    return jnp.where(jnp.isfinite(direction).all(), direction, steepest)


@functools.partial(jax.jit, inline=True)  # the loop compiles once, not at each call outside jit
def modified_cholesky(matrix: Array) -> tuple[Array, Array]:
    """Return L and D > 0 with L D L' = matrix + E, E diagonal and 0 where it need not be more.

    d_j = max(|c_jj|, (max_i |c_ij| / beta)^2, delta),  c the column that ordinary factors divide

    Args:
      matrix: symmetric, [n, n].

    Returns:
      L, unit lower triangular [n, n], and D, [n].

    Example:
      >>> lower, d = modified_cholesky(jnp.array([[4.0, 2.0], [2.0, 3.0]]))
      >>> lower.tolist(), d.tolist()
      ([[1.0, 0.0], [0.5, 1.0]], [4.0, 2.0])

    Source: Gill, Murray and Wright 1981; Nocedal and Wright 2006, equation 3.51.
    """
    n, eps = len(matrix), jnp.finfo(matrix.dtype).eps
    diagonal = jnp.abs(jnp.diag(matrix)).max()
    beside = jnp.abs(matrix - jnp.diag(jnp.diag(matrix))).max()
    delta = eps * jnp.maximum(diagonal + beside, 1.0)
    beta2 = jnp.maximum(jnp.maximum(diagonal, beside / max(1.0, (n**2 - 1) ** 0.5)), eps)

    def column(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        lower, d = carry
        c = matrix[:, j] - jnp.dot(lower, d * lower[j], precision=lax.Precision.HIGHEST)
        below = jnp.where(jnp.arange(n) > j, c, 0)
        dj = jnp.maximum(jnp.abs(c[j]), jnp.maximum(jnp.max(below**2) / beta2, delta))
        return lower.at[:, j].set((below / dj).at[j].set(1)), d.at[j].set(dj)

    return lax.fori_loop(0, n, column, (jnp.zeros_like(matrix), jnp.zeros_like(matrix[0])))


def _solve(lower: Array, d: Array, b: Array) -> Array:
    half = jax.scipy.linalg.solve_triangular(lower, b, lower=True, unit_diagonal=True)
    return jax.scipy.linalg.solve_triangular(lower.T, half / d, lower=False, unit_diagonal=True)


def newton(
    learning_rate: optax.ScalarOrSchedule | None = None,
    *,
    damping: float = 0.0,
    mode: Mode = "shift",
    radius: float | Literal["params"] | None = "params",
    every: int = 1,
    hessian_fn: Callable[[Params], Array] | None = None,
    linesearch: optax.GradientTransformationExtraArgs | None = scale_by_armijo(),  # noqa: B008
) -> optax.GradientTransformationExtraArgs:
    """Minimise by Newton's method: theta <- theta - e (H + m I)^-1 g, m and e found by values of f.

    For smooth functions of up to some thousand numbers. It needs the fewest gradients of all, one a
    step, and each step n Hessian-vector products and 10 n^3 operations besides. `newton_cg` serves
    more parameters, `saddle_free_newton` uses negative curvature instead of shifting it away.

    Args:
      learning_rate: factor of the direction before the line search; None: 1.
      damping: see `scale_by_newton`, as for all others.
      mode: what is done where H is not positive definite.
      radius: for the first step; None: steps of any length, the line search alone shortens them.
      every: updates for which one Hessian serves.
      hessian_fn: the Hessian, where it is known.
      linesearch: the last link; None: none.

    Returns:
      A complete optimizer; `update` needs `params`, `value`, `grad` and `value_fn`, as that of
      `optax.lbfgs`. `fdl.optim.minimize` hands them over.

    Raises:
      ValueError: for an unknown mode, or an option out of range.

    Example:
      >>> from fdl.optim import minimize
      >>> def rosenbrock(x):
      ...     return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
      >>> found = minimize(newton(), rosenbrock, jnp.array([-1.2, 1.0]))
      >>> [round(float(x), 3) for x in found.params]
      [1.0, 1.0]

    Source: DLB 8.6.1, algorithm 8.8.
    """
    direction = scale_by_newton(
        damping, mode=mode, radius=radius, every=every, hessian_fn=hessian_fn
    )
    return searched(direction, learning_rate, linesearch)
