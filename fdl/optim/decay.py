"""Norm penalties as optax transformations, which act on the parameters themselves.

Their place in a chain is part of their meaning:

    chain(decoupled_l2(a, mask=m), scale_by_adam(), scale_by_learning_rate(r))   L2 in the loss
    chain(scale_by_adam(), decoupled_l2(a, mask=m), scale_by_learning_rate(r))   decoupled: AdamW
    chain(scale_by_adam(), scale_by_learning_rate(r), proximal_l1(a, r, mask=m))   always last
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fdl.optim.hyperparams import require
from fdl.types import Array, Params, PyTree


def decoupled_l2(
    strength: float, *, mask: Callable[[Params], PyTree]
) -> optax.GradientTransformationExtraArgs:
    """Decay weights: u <- u + strength * w, so that w <- w - lr * (u + strength * w).

    `optax.add_decayed_weights` with a mask that is not forgotten. Behind the scaling by an adaptive
    method and before the learning rate it is the decoupled decay of AdamW: every weight shrinks by
    the same factor 1 - lr * strength a step, whatever its gradients were. For plain gradient
    descent, and with momentum when it comes before it, it equals `fdl.regularizers.l2` in the loss.

    Args:
      strength: >= 0; per step the share of w that goes is lr * strength.
      mask: params -> tree of bools; `fdl.regularizers.weight_mask` leaves biases and scales alone.

    Returns:
      An optax transformation; `update` needs `params`.

    Raises:
      ValueError: when the strength is negative.

    Example:
      >>> decay = decoupled_l2(0.5, mask=lambda p: {"w": True, "b": False})
      >>> tx = optax.chain(decay, optax.sgd(0.1))
      >>> params = {"w": jnp.array(1.0), "b": jnp.array(1.0)}
      >>> zeros = {"w": jnp.array(0.0), "b": jnp.array(0.0)}
      >>> updates, _ = tx.update(zeros, tx.init(params), params)
      >>> {name: abs(round(float(u), 4)) for name, u in updates.items()}
      {'b': 0.0, 'w': 0.05}

    Source: Loshchilov and Hutter 2019, arXiv 1711.05101; DLB 7.1.1, equation 7.5.
    """
    require("decoupled_l2(strength=...)", strength, ">= 0", lambda s: s >= 0)
    return optax.with_extra_args_support(optax.add_decayed_weights(strength, mask=mask))


class ProximalL1State(NamedTuple):
    """State of `proximal_l1`.

    Attributes:
      count: updates done, int32 scalar.
    """

    count: Array  # type: ignore[assignment]


def proximal_l1(
    strength: float,
    learning_rate: optax.ScalarOrSchedule,
    *,
    mask: Callable[[Params], PyTree],
) -> optax.GradientTransformationExtraArgs:
    """Shrink weights after each step by the L1 penalty's own solution, so that zeros are exact.

    w <- S(w + u, lr * strength),  S(a, t) = sign(a) * max(|a| - t, 0)

    Behind gradient descent this is the proximal gradient method (ISTA) for loss + strength * |w|_1.
    Behind an adaptive method, whose steps have no single length, the threshold stays lr * strength:
    a decoupled L1 decay, whose fixed points are not exactly the penalty's.

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

    def init(params: Params) -> ProximalL1State:
        del params
        return ProximalL1State(jnp.zeros((), jnp.int32))

    def update(
        updates: PyTree, state: ProximalL1State, params: Params | None = None, **extra: object
    ) -> tuple[PyTree, ProximalL1State]:
        del extra
        if params is None:
            raise ValueError("proximal_l1: update(params=...) must be given")
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        chosen = _broadcast(mask(params), params)
        updates = jax.tree.map(
            lambda on, u, w: _shrink(w + u, rate * strength) - w if on else u,
            chosen,
            updates,
            params,
        )
        return updates, ProximalL1State(optax.safe_increment(state.count))

    return optax.GradientTransformationExtraArgs(init, update)


def _broadcast(mask: PyTree, params: Params) -> PyTree:
    """Repeat a bool that stands for a whole branch, as optax allows, for each leaf below."""
    return jax.tree.map(lambda on, below: jax.tree.map(lambda _: on, below), mask, params)


def _shrink(w: Array, threshold: Array | float) -> Array:
    threshold = jnp.asarray(threshold, w.dtype)
    return jnp.where(jnp.abs(w) <= threshold, 0, w - jnp.sign(w) * threshold)
