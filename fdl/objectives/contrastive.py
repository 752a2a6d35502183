"""Contrastive divergence: an energy is lowered at the data and raised where chains are."""

from collections.abc import Callable

import jax

from fdl.types import Array


def contrastive_divergence(
    free_energy: Callable[[Array], Array], positive: Array, negative: Array
) -> Array:
    """Return what to minimise so that its gradient is the update of contrastive divergence.

    F(v+) - F(v-), with v- held fixed;  gradient of the mean: <dF/dw>_data - <dF/dw>_chains

    With negative samples from the model that is the gradient of -log p(v+). CD-k takes them from k
    Gibbs steps that start at the data; persistent CD from chains that go on from update to update
    and are never set back. The value itself is no measure of progress, it stays about 0.

    Args:
      free_energy: visible units (b, d) -> F, (b,), of the parameters to be trained.
      positive: examples, (b, d).
      negative: samples, (b, d), one for each example, from any sampler; no gradient passes.

    Returns:
      Shape (b,).

    Raises:
      ValueError: when the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> def loss(w):
      ...     data, chains = jnp.array([[1.0]]), jnp.array([[0.25]])
      ...     return contrastive_divergence(lambda v: -w * v[:, 0], data, chains).mean()
      >>> jax.grad(loss)(2.0).item()  # -(1 - 0.25)
      -0.75

    Source: Hinton 2002; Tieleman 2008 for persistent chains; DLB algorithms 18.2 and 18.3.
    """
    if positive.shape != negative.shape:
        raise ValueError(
            "contrastive_divergence(positive, negative) must have the same shape, "
            f"got {positive.shape} and {negative.shape}"
        )
    return free_energy(positive) - free_energy(jax.lax.stop_gradient(negative))
