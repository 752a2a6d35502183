"""Training on adversarial examples, and accuracy against them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.objectives.attacks import InputLoss
from fdl.types import Array


def adversarial_loss(
    loss_fn: InputLoss, x: ArrayLike, *, adversarial: ArrayLike, alpha: float = 0.5
) -> Array:
    """Mix the losses of clean inputs and of their adversarial versions.

    L~ = alpha L(x) + (1 - alpha) L(x'), with x' a constant

    How x' depends on the parameters is not differentiated: the model learns to resist these
    examples, not to spoil the attack.

    Args:
      loss_fn: inputs (b, ...) -> losses (b,), a closure over the parameters that are trained.
      x: clean inputs, (b, ...).
      adversarial: x', the shape of x; `fgsm`, `fgm_l2` and `pgd` make them.
      alpha: weight of the clean loss, in [0, 1].

    Returns:
      The loss of each example, (b,).

    Raises:
      ValueError: for an alpha outside [0, 1] or inputs of two shapes.

    Example:
      >>> loss = lambda x: x[:, 0] ** 2
      >>> adversarial_loss(loss, jnp.ones((1, 1)), adversarial=jnp.full((1, 1), 3.0)).tolist()
      [5.0]

    Source: Goodfellow et al. 2015, arXiv 1412.6572, section 6; DLB 7.13.
    """
    x, adversarial = jnp.asarray(x), jnp.asarray(adversarial)
    if not 0 <= alpha <= 1:
        raise ValueError(f"adversarial_loss(alpha=...) must lie in [0, 1], got {alpha}")
    if x.shape != adversarial.shape:
        raise ValueError(
            f"adversarial_loss(adversarial=...) must have the shape of x {x.shape}, "
            f"got {adversarial.shape}"
        )
    return alpha * loss_fn(x) + (1 - alpha) * loss_fn(jax.lax.stop_gradient(adversarial))


def robust_correct(correct: Sequence[ArrayLike]) -> Array:
    """Tell for each example whether every version of it is classified rightly.

    r_i = min_j c_ij; its mean is the robust accuracy against the worst of several attacks

    Each attack misses some examples that another finds, so that the mean of this is at most the
    accuracy against any one of them. Let the clean inputs be a version: an example that is wrong
    without any attack does not count as robust.

    Args:
      correct: for each version (clean, attacked by one method, by another): 1 where it is right, 0
        where it is wrong, (b,); `1 - losses.zero_one(logits, labels)`.

    Returns:
      1 or 0 for each example, (b,), for `train.mean`.

    Raises:
      ValueError: for no version, or versions of several shapes.

    Example:
      >>> clean, attacked = jnp.array([1.0, 1.0, 0.0]), jnp.array([0.0, 1.0, 1.0])
      >>> robust_correct([clean, attacked]).tolist()
      [0.0, 1.0, 0.0]

    Source: Carlini et al. 2019, arXiv 1902.06705, section 5.
    """
    versions = [jnp.asarray(c) for c in correct]
    if len({c.shape for c in versions}) != 1:
        shapes = [c.shape for c in versions]
        raise ValueError(f"robust_correct(correct) must be of one shape, got {shapes}")
    return jnp.stack(versions).min(axis=0)
