"""How raw outputs become parameters, the way back, and targets beside parameters."""

import itertools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array


def at_least_float32(x: ArrayLike) -> Array:
    """Return x as floating point of 32 bits or more: bfloat16 would lose a likelihood's digits."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def split(unit: str, raw: ArrayLike, *sizes: int) -> list[Array]:
    """Cut raw outputs along the last axis, which must have as many as the sizes make together."""
    raw = at_least_float32(raw)
    if raw.shape[-1:] != (sum(sizes),):
        raise ValueError(
            f"{unit}(...).distribution(raw) must have a last axis of {sum(sizes)}, got {raw.shape}"
        )
    return jnp.split(raw, list(itertools.accumulate(sizes))[:-1], axis=-1)


def positive(raw: Array, floor: float) -> Array:
    """Return softplus(raw) + floor."""
    return jax.nn.softplus(raw) + floor


def raw_of(value: Array, floor: float) -> Array:
    """Return raw with softplus(raw) + floor = value; the smallest there is where value <= floor."""
    above = jnp.maximum(value - floor, jnp.finfo(value.dtype).tiny)
    return above + jnp.log(-jnp.expm1(-above))


def against(method: str, y: ArrayLike, *parameters: Array) -> list[Array]:
    """Return the target and the parameters in the target's shape, which ends with theirs."""
    y, shape = jnp.asarray(y), parameters[0].shape
    check_target(method, y, shape)
    return [y.astype(parameters[0].dtype), *(jnp.broadcast_to(p, y.shape) for p in parameters)]


def check_target(method: str, y: Array, shape: tuple[int, ...]) -> None:
    """Refuse a target whose last axes are not of this shape: (b,) beside (b, 1) is a mistake."""
    if y.ndim < len(shape) or y.shape[y.ndim - len(shape) :] != shape:
        raise ValueError(f"{method}(y) must have a shape that ends with {shape}, got {y.shape}")


def sample_of(unit: str, y: ArrayLike, dimensions: int) -> Array:
    """Return targets to fit, at least float32, shape (n, dimensions), n >= 1."""
    y = at_least_float32(y)
    if y.ndim != 2 or y.shape[1] != dimensions or not len(y):
        raise ValueError(
            f"{unit}(...).fit(y) must be of shape (n >= 1, {dimensions}), got {y.shape}"
        )
    return y


def check_options(unit: str, *, floor: float = 0.0, **sizes: int) -> None:
    """Refuse sizes below 1 and a floor below 0."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{unit}({name}) must be >= 1, got {size}")
    if not floor >= 0:
        raise ValueError(f"{unit}(floor=...) must be >= 0, got {floor}")
