"""The L2 penalty as an optax transformation, which acts on the parameters themselves.

Its place in a chain is part of its meaning:

    chain(decoupled_l2(a, mask=m), scale_by_adam(), scale_by_learning_rate(r))   L2 in the loss
    chain(scale_by_adam(), decoupled_l2(a, mask=m), scale_by_learning_rate(r))   decoupled: AdamW

L1, whose zeros are to be exact, is a proximal step: `fdl.optim.proximal_l1`.
"""

from collections.abc import Callable

import optax

from fdl.optim.hyperparams import require
from fdl.types import Params, PyTree


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
      >>> import jax.numpy as jnp
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
