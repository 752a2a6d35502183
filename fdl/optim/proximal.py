"""Proximal steps: penalties that make exact zeros, as the last link of a chain.

    chain(scale_by_adam(), scale_by_learning_rate(r), proximal_l1(a, r, mask=m))

After a step of gradient descent from w to v, w <- argmin_z |z - v|^2 / (2 r) + penalty(z), which
has a closed form. The gradient of such a penalty jumps at zero: following it only comes near.

Behind gradient descent this is the proximal gradient method (ISTA), which minimises loss + penalty.
Behind an adaptive method, whose steps have no single length, the threshold stays r * strength: that
is what a decoupled L1 decay, L1 in the manner of AdamW, has to be. Subtracting r * strength *
sign(w) instead, as AdamW does with its w, would step over zero and back for ever.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from fdl.optim.constraints import unit_norms
from fdl.optim.hyperparams import at, require
from fdl.types import Array, Params, PyTree

Mask: TypeAlias = Callable[[Params], PyTree]


class ProximalState(NamedTuple):
    """State of a proximal step.

    Attributes:
      count: updates done, int32 scalar.
    """

    count: Array  # type: ignore[assignment]


def proximal_l1(
    strength: float, learning_rate: optax.ScalarOrSchedule, *, mask: Mask
) -> optax.GradientTransformationExtraArgs:
    """Shrink weights after each step by the L1 penalty's own solution, so that zeros are exact.

    w <- S(w + u, lr * strength),  S(a, t) = sign(a) * max(|a| - t, 0)

    Args:
      strength: >= 0, as in `fdl.regularizers.l1`.
      learning_rate: number or schedule, the one the updates were scaled by.
      mask: params -> tree of bools; `fdl.regularizers.weight_mask` leaves biases and scales alone.

    Returns:
      An optax transformation, to be the last of a chain; `update` needs `params`.

    Raises:
      ValueError: when the strength is negative; from `update` when `params` are missing.

    Example:
      >>> tx = optax.chain(optax.sgd(0.1), proximal_l1(1.0, 0.1, mask=lambda p: True))
      >>> w = jnp.array([0.05, 1.0])
      >>> updates, _ = tx.update(jnp.zeros(2), tx.init(w), w)
      >>> (w + updates).tolist()
      [0.0, 0.8999999761581421]

    Source: Daubechies et al. 2004; Parikh and Boyd 2014, section 4.2; DLB 7.1.2, equation 7.23.
    """
    require("proximal_l1(strength=...)", strength, ">= 0", lambda s: s >= 0)
    return _proximal("proximal_l1", lambda w, r: _shrink(w, r * strength), learning_rate, mask)


def proximal_elastic_net(
    strength: float,
    learning_rate: optax.ScalarOrSchedule,
    *,
    l1_ratio: float,
    mask: Mask,
) -> optax.GradientTransformationExtraArgs:
    """Shrink weights after each step by the elastic net's own solution.

    w <- S(w + u, lr * strength * l1_ratio) / (1 + lr * strength * (1 - l1_ratio))

    Args:
      strength: >= 0, as in `fdl.regularizers.elastic_net`.
      learning_rate: number or schedule, the one the updates were scaled by.
      l1_ratio: share of the first norm, in [0, 1].
      mask: params -> tree of bools; `fdl.regularizers.weight_mask` leaves biases and scales alone.

    Returns:
      An optax transformation, to be the last of a chain; `update` needs `params`.

    Raises:
      ValueError: when the strength is negative or the ratio outside [0, 1]; from `update` when
        `params` are missing.

    Example:
      >>> tx = proximal_elastic_net(2.0, 0.5, l1_ratio=0.5, mask=lambda p: True)
      >>> w = jnp.array([0.25, 2.0])
      >>> updates, _ = tx.update(jnp.zeros(2), tx.init(w), w)
      >>> (w + updates).tolist()
      [0.0, 1.0]

    Source: Zou and Hastie 2005; Parikh and Boyd 2014, section 6.5.3.
    """
    require("proximal_elastic_net(strength=...)", strength, ">= 0", lambda s: s >= 0)
    require("proximal_elastic_net(l1_ratio=...)", l1_ratio, "in [0, 1]", lambda r: 0 <= r <= 1)

    def operator(w: Array, rate: Array | float) -> Array:
        both = rate * strength
        return (_shrink(w, both * l1_ratio) / (1 + both * (1 - l1_ratio))).astype(w.dtype)

    return _proximal("proximal_elastic_net", operator, learning_rate, mask)


def proximal_group_lasso(
    strength: float,
    learning_rate: optax.ScalarOrSchedule,
    *,
    groups: Literal["columns", "rows"] = "columns",
    mask: Mask,
) -> optax.GradientTransformationExtraArgs:
    """Shrink the norms of groups after each step, so that whole units or inputs become zero.

    w_g <- w_g max(0, 1 - lr * strength / |w_g|),  w standing for w + u: block soft threshold

    Args:
      strength: >= 0, as in `fdl.regularizers.group_lasso`.
      learning_rate: number or schedule, the one the updates were scaled by.
      groups: "columns": all axes but the last form a group, for each output; "rows": all axes but
        the last but one, for each input (channel).
      mask: params -> tree of bools, true for leaves with two axes or more only;
        `fdl.regularizers.weight_mask` leaves biases and scales alone.

    Returns:
      An optax transformation, to be the last of a chain; `update` needs `params`.

    Raises:
      ValueError: when the strength is negative or the groups are unknown; from `update` when
        `params` are missing or a leaf that is chosen has less than two axes.

    Example:
      >>> tx = proximal_group_lasso(1.0, 1.0, mask=lambda p: True)
      >>> w = jnp.array([[3.0, 0.3], [4.0, 0.4]])  # columns of norms 5 and 0.5
      >>> updates, _ = tx.update(jnp.zeros((2, 2)), tx.init(w), w)
      >>> [[round(float(x), 4) for x in row] for row in w + updates]
      [[2.4, 0.0], [3.2, 0.0]]

    Source: Yuan and Lin 2006; Parikh and Boyd 2014, section 6.5.4.
    """
    require("proximal_group_lasso(strength=...)", strength, ">= 0", lambda s: s >= 0)
    if groups not in ("columns", "rows"):
        raise ValueError(f"proximal_group_lasso(groups=...) must be columns or rows, got {groups}")

    def operator(w: Array, rate: Array | float) -> Array:
        if w.ndim < 2:
            raise ValueError(f"proximal_group_lasso(mask=...) must choose matrices, got {w.shape}")
        kept = w.ndim - (1 if groups == "columns" else 2)
        return _shrink_groups(w, rate * strength, tuple(a for a in range(w.ndim) if a != kept))

    return _proximal("proximal_group_lasso", operator, learning_rate, mask)


def _proximal(
    name: str,
    operator: Callable[[Array, Array | float], Array],
    learning_rate: optax.ScalarOrSchedule,
    mask: Mask,
) -> optax.GradientTransformationExtraArgs:
    """Make a transformation of an operator `(w, lr) -> w` on a leaf."""

    def init(params: Params) -> ProximalState:
        del params
        return ProximalState(jnp.zeros((), jnp.int32))

    def update(
        updates: PyTree, state: ProximalState, params: Params | None = None, **extra: object
    ) -> tuple[PyTree, ProximalState]:
        del extra
        if params is None:
            raise ValueError(f"{name}: update(params=...) must be given")
        rate = at(learning_rate, state.count)
        updates = jax.tree.map(
            lambda on, u, w: operator(w + u, rate) - w if on else u,
            _broadcast(mask(params), params),
            updates,
            params,
        )
        return updates, ProximalState(optax.safe_increment(state.count))

    return optax.GradientTransformationExtraArgs(init, update)


def _broadcast(mask: PyTree, params: Params) -> PyTree:
    """Repeat a bool that stands for a whole branch, as optax allows, for each leaf below."""
    return jax.tree.map(lambda on, below: jax.tree.map(lambda _: on, below), mask, params)


def _shrink(w: Array, threshold: Array | float) -> Array:
    threshold = jnp.asarray(threshold, w.dtype)
    return jnp.where(jnp.abs(w) <= threshold, 0, w - jnp.sign(w) * threshold)


def _shrink_groups(w: Array, threshold: Array | float, axes: tuple[int, ...]) -> Array:
    norm = unit_norms(w, axes)
    kept = jnp.where(norm > 0, 1 - threshold / jnp.where(norm > 0, norm, 1), 0)
    return (w * jnp.maximum(kept, 0)).astype(w.dtype)
