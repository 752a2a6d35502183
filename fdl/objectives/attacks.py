"""Adversarial examples: the changes of an input, within a small ball, that raise its loss.

A loss here is a function of the inputs alone, one value for each example and independent of the
other examples: `lambda x: losses.softmax_cross_entropy(apply(params, extra, x)[0], y)`. Give it the
model as it predicts (no dropout, running statistics).
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array

InputLoss: TypeAlias = Callable[[Array], Array]  # (b, ...) -> (b,)
Norm: TypeAlias = Literal["linf", "l2"]
Range: TypeAlias = tuple[float, float]


def fgsm(
    loss_fn: InputLoss,
    x: ArrayLike,
    *,
    epsilon: float | Array,
    data_range: Range | None = None,
    targeted: bool = False,
) -> Array:
    """Make adversarial examples by the fast gradient sign method.

    x' = clip(x + epsilon sign(dL/dx)), with sign(0) = 0

    The largest rise of the loss in the ball |x' - x|_inf <= epsilon, as far as the loss is linear
    there; exact for logistic regression.

    Args:
      loss_fn: (b, ...) -> losses (b,); the loss of an example depends on that example only.
      x: clean inputs, (b, ...), floating point.
      epsilon: radius, >= 0, in the units of x.
      data_range: (low, high) of valid inputs, applied last; None: no limit.
      targeted: lower the loss instead; `loss_fn` then is the loss of the wanted class.

    Returns:
      The shape and dtype of x. Its direction is a constant to differentiation, in all attacks.

    Raises:
      ValueError: for a negative radius, an empty range, inputs that are not floating point, or
        losses of another shape than (b,).

    Example:
      >>> w = jnp.array([1.0, -2.0, 0.0])
      >>> fgsm(lambda x: (x * w).sum(-1), jnp.full((1, 3), 0.5), epsilon=0.25).tolist()
      [[0.75, 0.25, 0.5]]

    Source: Goodfellow et al. 2015, arXiv 1412.6572, section 4; DLB 7.13.
    """
    x = _inputs("fgsm", x, epsilon, data_range)
    moved = x + epsilon * _ascent(loss_fn, x, "linf", targeted)
    return _clip(moved, data_range).astype(x.dtype)


def fgm_l2(
    loss_fn: InputLoss,
    x: ArrayLike,
    *,
    epsilon: float | Array,
    data_range: Range | None = None,
    targeted: bool = False,
) -> Array:
    """Make adversarial examples by the fast gradient method in the Euclidean norm.

    x' = clip(x + epsilon g / |g|), g = dL/dx of each example, and x' = x where g = 0

    Args:
      loss_fn: (b, ...) -> losses (b,); the loss of an example depends on that example only.
      x: clean inputs, (b, ...), floating point.
      epsilon: radius, >= 0, in the units of x.
      data_range: (low, high) of valid inputs, applied last; None: no limit.
      targeted: lower the loss instead; `loss_fn` then is the loss of the wanted class.

    Returns:
      The shape and dtype of x.

    Raises:
      ValueError: as `fgsm`.

    Example:
      >>> w = jnp.array([3.0, -4.0])
      >>> fgm_l2(lambda x: (x * w).sum(-1), jnp.zeros((1, 2)), epsilon=5.0).tolist()
      [[3.0, -4.0]]

    Source: Miyato et al. 2016, arXiv 1605.07725, equation 4.
    """
    x = _inputs("fgm_l2", x, epsilon, data_range)
    moved = x + epsilon * _ascent(loss_fn, x, "l2", targeted)
    return _clip(moved, data_range).astype(x.dtype)


def pgd(
    loss_fn: InputLoss,
    x: ArrayLike,
    *,
    epsilon: float | Array,
    step_size: float | Array,
    steps: int,
    norm: Norm = "linf",
    start: ArrayLike | None = None,
    data_range: Range | None = None,
    targeted: bool = False,
) -> Array:
    """Make adversarial examples by projected gradient ascent.

    x_{t+1} = clip(project(x_t + step_size u_t)), u_t = sign(g_t) or g_t / |g_t|, g_t = dL/dx at x_t

    The projection is onto the ball of radius epsilon around x in the same norm. As the gradient is
    taken anew at each step, it is stronger than one step of the whole radius; a usual step size is
    2.5 epsilon / steps. The last iterate is returned, not the best.

    Args:
      loss_fn: (b, ...) -> losses (b,); the loss of an example depends on that example only.
      x: clean inputs, (b, ...), floating point.
      epsilon: radius, >= 0, in the units of x.
      step_size: length of a step, >= 0, in the norm.
      steps: >= 0; all in one compiled loop.
      norm: "linf" or "l2".
      start: where to begin, the shape of x; None: at x. `random_start` draws one.
      data_range: (low, high) of valid inputs, applied last in every step; None: no limit.
      targeted: lower the loss instead; `loss_fn` then is the loss of the wanted class.

    Returns:
      The shape and dtype of x. In the ball if x lies in `data_range`.

    Raises:
      ValueError: as `fgsm`; for an unknown norm, a negative step or number of steps, or a start of
        another shape.

    Example:
      >>> loss = lambda x: -((x - 2.0) ** 2).sum(-1)
      >>> ascent = pgd(loss, jnp.zeros((1, 2)), epsilon=0.5, step_size=0.25, steps=4)
      >>> ascent.tolist()
      [[0.5, 0.5]]

    Source: Madry et al. 2018, arXiv 1706.06083, section 2.1.
    """
    x = _inputs("pgd", x, epsilon, data_range)
    _check_norm("pgd", norm)
    _check_at_least_0("pgd(step_size=...)", step_size)
    _check_at_least_0("pgd(steps=...)", steps)
    first = x if start is None else jnp.asarray(start, x.dtype)
    if first.shape != x.shape:
        raise ValueError(f"pgd(start=...) must have the shape of x {x.shape}, got {first.shape}")

    def step(_: int, point: Array) -> Array:
        moved = point + step_size * _ascent(loss_fn, point, norm, targeted)
        return _clip(x + _project(moved - x, epsilon, norm), data_range).astype(x.dtype)

    return jax.lax.fori_loop(0, steps, step, first)


def random_start(
    key: Array,
    x: ArrayLike,
    *,
    epsilon: float | Array,
    norm: Norm = "linf",
    data_range: Range | None = None,
) -> Array:
    """Draw a point of the ball around each input, uniformly, where `pgd` may begin.

    Args:
      key: one typed PRNG key for each example, (b,), as an objective is handed them: what is drawn
        for an example then does not depend on batch or devices.
      x: clean inputs, (b, ...), floating point.
      epsilon: radius, >= 0.
      norm: "linf" or "l2".
      data_range: (low, high) of valid inputs, applied last; None: no limit.

    Returns:
      The shape and dtype of x.

    Raises:
      ValueError: for another number of keys than examples, or as `pgd`.

    Example:
      >>> keys = jax.random.split(jax.random.key(0), 4)
      >>> start = random_start(keys, jnp.zeros((4, 8, 8)), epsilon=0.1)
      >>> start.shape, bool((jnp.abs(start) <= 0.1).all())
      ((4, 8, 8), True)

    Source: Madry et al. 2018, arXiv 1706.06083, section 4.
    """
    x = _inputs("random_start", x, epsilon, data_range)
    _check_norm("random_start", norm)
    if key.shape != x.shape[:1]:
        raise ValueError(
            f"random_start(key) must hold a key for each of {x.shape[:1]} examples, got {key.shape}"
        )
    draw = _uniform_cube if norm == "linf" else _uniform_ball
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    unit = jax.vmap(lambda k: draw(k, x.shape[1:], dtype))(key)
    return _clip(x + epsilon * unit, data_range).astype(x.dtype)


def _uniform_cube(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    return jax.random.uniform(key, shape, dtype, -1.0, 1.0)


def _uniform_ball(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """The direction of a Gaussian is uniform; of the volume, r^d lies within radius r."""
    towards, out = jax.random.split(key)
    direction = jax.random.normal(towards, shape, dtype)
    radius = jax.random.uniform(out, (), dtype) ** (1 / max(direction.size, 1))
    return radius * direction / jnp.sqrt((direction**2).sum())


def _ascent(loss_fn: InputLoss, x: Array, norm: Norm, targeted: bool) -> Array:
    """Return for each example the direction of length 1 in which its loss rises fastest."""

    def total(x: Array) -> Array:
        each = loss_fn(x)
        if jnp.shape(each) != x.shape[:1]:
            raise ValueError(
                f"loss_fn must return a loss for each of {x.shape[:1]} examples, "
                f"got shape {jnp.shape(each)}"
            )
        # of a sum: the gradient of a mean would shrink with the batch
        return -each.sum() if targeted else each.sum()

    # a constant to whoever differentiates on: else a training step would keep what all steps of the
    # attack computed, to no use
    gradient = jax.lax.stop_gradient(jax.grad(total)(x))
    return jnp.sign(gradient) if norm == "linf" else _normalised(gradient)


def _normalised(g: Array) -> Array:
    """Return g / |g| of each example, 0 where g = 0."""
    largest = _over_example(jnp.max, jnp.abs(g))
    # a confident model's gradients are so small that their squares would be 0 in float32
    scaled = g / jnp.where(largest > 0, largest, 1)
    length = jnp.sqrt(_over_example(jnp.sum, scaled**2))
    return scaled / jnp.where(length > 0, length, 1)


def _project(delta: Array, epsilon: float | Array, norm: Norm) -> Array:
    if norm == "linf":
        return jnp.clip(delta, -epsilon, epsilon)
    length = jnp.sqrt(_over_example(jnp.sum, delta**2))
    return delta * jnp.where(length > epsilon, epsilon / jnp.where(length > 0, length, 1), 1)


def _over_example(reduce: Callable[..., Array], a: Array) -> Array:
    return reduce(a, axis=tuple(range(1, a.ndim)), keepdims=True)


def _clip(x: Array, data_range: Range | None) -> Array:
    return x if data_range is None else jnp.clip(x, *data_range)


def _inputs(name: str, x: ArrayLike, epsilon: float | Array, data_range: Range | None) -> Array:
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating) or x.ndim == 0:
        raise ValueError(f"{name}(x) must be floating point (b, ...), got {x.dtype}{x.shape}")
    _check_at_least_0(f"{name}(epsilon=...)", epsilon)
    if data_range is not None and not data_range[0] < data_range[1]:
        raise ValueError(
            f"{name}(data_range=...) must be (low, high), low < high, got {data_range}"
        )
    return x


def _check_norm(name: str, norm: str) -> None:
    if norm not in ("linf", "l2"):
        raise ValueError(f"{name}(norm=...) must be 'linf' or 'l2', got {norm!r}")


def _check_at_least_0(what: str, value: float | Array) -> None:
    if isinstance(value, float | int) and not value >= 0:
        raise ValueError(f"{what} must be >= 0, got {value}")
