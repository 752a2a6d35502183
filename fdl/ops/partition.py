"""How much a restricted Boltzmann machine sums to: the partition function, exact and estimated."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from fdl.ops.energy import RBMWeights, draw_visible, rbm_free_energy, rbm_gibbs
from fdl.types import Array

LARGEST = 20  # units to enumerate: a million states, some seconds
TOGETHER = 12  # units of which all states are held at a time


class LogPartition(NamedTuple):
    """An estimate of log Z.

    Attributes:
      value: the estimate, ().
      standard_error: its standard deviation, as the spread of the chains tells it, (). Where all
        chains miss a mode it is too small, and so is the value.

    Example:
      >>> LogPartition(jnp.float32(2.0), jnp.float32(0.1)).value.item()
      2.0
    """

    value: Array
    standard_error: Array


def rbm_log_partition(weights: RBMWeights) -> Array:
    """Sum over all states: log Z = log sum_v sum_h exp(-E(v, h)), exactly.

    All states of the smaller layer are enumerated, the other layer is summed in closed form; of
    real visible units the integral is. Differentiable: the gradient is minus the mean of dE/dw
    under the model.

    Args:
      weights: of a machine with at most 20 units in the smaller layer, or hidden units if the
        visible ones are real.

    Returns:
      log Z, ().

    Raises:
      ValueError: for more units.

    Example:
      >>> weights = RBMWeights(jnp.zeros((3, 2)), jnp.zeros(3), jnp.zeros(2))
      >>> rbm_log_partition(weights).round(4).item()  # 5 log 2
      3.465...

    Source: DLB 18 and 20.2.
    """
    kernel, b, c, variance = weights
    if variance is None and len(b) < len(c):  # the two layers are alike
        return rbm_log_partition(RBMWeights(kernel.T, c, b))
    if len(c) > LARGEST:
        raise ValueError(
            f"rbm_log_partition must enumerate at most {LARGEST} units, got {len(c)}: take rbm_ais"
        )
    low = min(len(c), TOGETHER)
    fast = _states(jnp.arange(2**low), low).astype(c.dtype)

    @jax.checkpoint  # a gradient would keep all states
    def part(number: Array) -> Array:
        slow = _states(number[None], len(c) - low).astype(c.dtype)
        h = jnp.concatenate([fast, jnp.broadcast_to(slow, (len(fast), slow.shape[1]))], axis=1)
        return logsumexp(h @ c + _log_sum_visible(b[None] + h @ kernel.T, b, variance))

    return logsumexp(jax.lax.map(part, jnp.arange(2 ** (len(c) - low))))


def _states(numbers: Array, bits: int) -> Array:
    """Write numbers (n,) in binary digits, (n, bits)."""
    return (numbers[:, None] >> jnp.arange(bits)[None]) & 1


def _log_sum_visible(driven: Array, b: Array, variance: Array | None) -> Array:
    """Sum or integrate exp(-E) over v: of each unit, driven = b + W h (n, d), the logs added."""
    if variance is None:
        return jax.nn.softplus(driven).sum(-1)
    spread = jnp.broadcast_to(variance, b.shape)[None]
    gain = (jnp.square(driven) - jnp.square(b)[None]) / (2 * spread)
    return (gain + 0.5 * jnp.log(2 * jnp.pi * spread)).sum(-1)


def rbm_ais(
    key: Array, weights: RBMWeights, base_bias: Array, *, chains: int = 100, steps: int = 1000
) -> LogPartition:
    """Estimate log Z by annealed importance sampling, from a model whose Z is known.

    Chains start in the base model, which has its own visible biases a and W = 0, and go by Gibbs
    sampling through machines with beta W, beta c and (1 - beta) a + beta b, beta_k = k / steps;
    each gathers log w = sum_k F_{k-1}(v_k) - F_k(v_k). Then Z = Z_base mean(w): unbiased, so that
    its log is too small on average, less so with more steps.

    Args:
      key: a typed PRNG key.
      weights: of the machine, of any size.
      base_bias: visible biases of the base model, (d,): log p / (1 - p), or of real units p, with
        the mean p of the training data, is far better than 0.
      chains: independent weights, >= 2.
      steps: distributions on the way, >= 1. One compiled loop.

    Returns:
      `LogPartition(value, standard_error)`.

    Raises:
      ValueError: for an argument out of range, or biases of another shape.

    Example:
      >>> weights = RBMWeights(jnp.zeros((3, 2)), jnp.ones(3), jnp.zeros(2))
      >>> rbm_ais(jax.random.key(0), weights, jnp.ones(3), chains=5, steps=3).value.round(3).item()
      5.326...

    Source: Salakhutdinov and Murray 2008, On the Quantitative Analysis of Deep Belief Networks;
    DLB 18.7.1. The base has no hidden units of its own: with W = 0 they change nothing. With
    real units the energies on the way differ from the mixed ones by numbers that cancel in w.
    """
    if chains < 2 or steps < 1:
        raise ValueError(f"rbm_ais(chains, steps) must be >= 2 and >= 1, got {chains} and {steps}")
    if jnp.shape(base_bias) != weights.visible_bias.shape:
        raise ValueError(
            f"rbm_ais(base_bias) must be {weights.visible_bias.shape}, got {jnp.shape(base_bias)}"
        )
    base = _log_sum_visible(base_bias[None], base_bias, weights.variance)[0]
    base += len(weights.hidden_bias) * math.log(2)
    first, rest = jax.random.split(key)

    def at(beta: Array | float) -> RBMWeights:
        kernel, b, c, variance = weights
        return RBMWeights(beta * kernel, base_bias + beta * (b - base_bias), beta * c, variance)

    def step(carry: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], None]:
        v, log_w = carry
        before, now = (at((k - back).astype(log_w.dtype) / steps) for back in (1, 0))
        log_w += rbm_free_energy(v, before) - rbm_free_energy(v, now)
        keys = jax.random.split(jax.random.fold_in(rest, k), chains)
        return (rbm_gibbs(keys, v, now), log_w), None

    no_unit = jnp.zeros((chains, len(weights.hidden_bias)), weights.kernel.dtype)
    start = draw_visible(jax.random.split(first, chains), no_unit, at(0.0))
    zeros = jnp.zeros((chains,), start.dtype)
    (_, log_w), _ = jax.lax.scan(step, (start, zeros), jnp.arange(1, steps + 1))
    mean = logsumexp(log_w) - math.log(chains)
    error = jnp.std(jnp.exp(log_w - mean), ddof=1) / math.sqrt(chains)
    return LogPartition(base + mean, error)
