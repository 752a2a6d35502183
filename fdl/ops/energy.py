"""The restricted Boltzmann machine as functions of arrays: energies, conditionals, Gibbs sampling.

Shapes: v (b, d) visible, h (b, m) hidden units, 0 or 1; kernel W (d, m), biases (d,) and (m,).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array


class RBMWeights(NamedTuple):
    """What defines a restricted Boltzmann machine.

    Attributes:
      kernel: W, (d, m).
      visible_bias: b, (d,).
      hidden_bias: c, (m,).
      variance: None: visible units are 0 or 1; s^2, () or (d,), > 0: they are real, with normal
        noise of that variance.

    Example:
      >>> RBMWeights(jnp.zeros((3, 2)), jnp.zeros(3), jnp.zeros(2)).variance is None
      True
    """

    kernel: Array
    visible_bias: Array
    hidden_bias: Array
    variance: Array | None = None


def rbm_energy(v: ArrayLike, h: ArrayLike, weights: RBMWeights) -> Array:
    """Return the energy of joint states; p(v, h) = exp(-E(v, h)) / Z.

    E = -b.v - c.h - v' W h;  with real visible units  |v - b|^2 / (2 s^2) - c.h - (v / s^2)' W h

    Args:
      v: visible units, (b, d).
      h: hidden units, (b, m).
      weights: of the machine.

    Returns:
      Shape (b,).

    Raises:
      ValueError: for shapes that do not fit.

    Example:
      >>> weights = RBMWeights(jnp.ones((2, 1)), jnp.zeros(2), jnp.ones(1))
      >>> rbm_energy(jnp.array([[1.0, 1.0]]), jnp.array([[1.0]]), weights).tolist()
      [-3.0]

    Source: DLB 20.2, equation 20.4, and 20.5.1 for real units; there W and s^2 are combined in the
    same way with precisions.
    """
    v = _units("rbm_energy", "v", v, weights, weights.visible_bias)
    h = _units("rbm_energy", "h", h, weights, weights.hidden_bias)
    return _visible_part(v, weights) - (h * _drive(v, weights)).sum(-1)


def rbm_free_energy(v: ArrayLike, weights: RBMWeights) -> Array:
    """Return the free energy, the hidden units summed out; p(v) = exp(-F(v)) / Z.

    F = -b.v - sum_j softplus(c_j + v' W_j);  with real units |v - b|^2 / (2 s^2) in place of -b.v
    and v / s^2 in place of v in the sum

    Args:
      v: visible units, (b, d).
      weights: of the machine.

    Returns:
      Shape (b,).

    Raises:
      ValueError: for shapes that do not fit.

    Example:
      >>> weights = RBMWeights(jnp.zeros((2, 3)), jnp.ones(2), jnp.zeros(3))
      >>> rbm_free_energy(jnp.array([[1.0, 0.0]]), weights).round(4).tolist()  # -1 - 3 log 2
      [-3.079...]

    Source: DLB 20.2.
    """
    v = _units("rbm_free_energy", "v", v, weights, weights.visible_bias)
    return _visible_part(v, weights) - jax.nn.softplus(_drive(v, weights)).sum(-1)


def rbm_hidden(v: ArrayLike, weights: RBMWeights) -> Array:
    """Return p(h_j = 1 | v) = sigmoid(c_j + v' W_j), with real units of v / s^2.

    Args:
      v: visible units, (b, d).
      weights: of the machine.

    Returns:
      Probabilities, (b, m).

    Raises:
      ValueError: for shapes that do not fit.

    Example:
      >>> weights = RBMWeights(jnp.zeros((2, 3)), jnp.zeros(2), jnp.zeros(3))
      >>> rbm_hidden(jnp.ones((1, 2)), weights).tolist()
      [[0.5, 0.5, 0.5]]

    Source: DLB equation 20.11.
    """
    v = _units("rbm_hidden", "v", v, weights, weights.visible_bias)
    return jax.nn.sigmoid(_drive(v, weights))


def rbm_visible(h: ArrayLike, weights: RBMWeights) -> Array:
    """Return the mean of the visible units: sigmoid(b + W h), with real units b + W h.

    Args:
      h: hidden units, or probabilities of them for a mean-field reconstruction, (b, m).
      weights: of the machine.

    Returns:
      Means, (b, d).

    Raises:
      ValueError: for shapes that do not fit.

    Example:
      >>> weights = RBMWeights(jnp.ones((2, 1)), jnp.zeros(2), jnp.zeros(1), jnp.ones(()))
      >>> rbm_visible(jnp.array([[1.0]]), weights).tolist()
      [[1.0, 1.0]]

    Source: DLB equation 20.12, and 20.5.1 for real units.
    """
    h = _units("rbm_visible", "h", h, weights, weights.hidden_bias)
    mean = weights.visible_bias[None] + h @ weights.kernel.T
    return mean if weights.variance is not None else jax.nn.sigmoid(mean)


def rbm_gibbs(keys: Array, v: ArrayLike, weights: RBMWeights, *, steps: int = 1) -> Array:
    """Go on with Markov chains by block Gibbs sampling: h ~ p(h | v), then v ~ p(v | h).

    The chains leave p(v) as it is and come to it from anywhere, slowly where its modes lie apart.

    Args:
      keys: one typed PRNG key for each chain, (b,): a chain depends on nothing but its own.
      v: where the chains are, (b, d).
      weights: of the machine.
      steps: k, how often both are drawn, >= 1.

    Returns:
      Where they get to, (b, d): samples, not means.

    Raises:
      ValueError: for steps below 1, shapes that do not fit, another number of keys.

    Example:
      >>> weights = RBMWeights(jnp.zeros((2, 3)), jnp.array([99.0, -99.0]), jnp.zeros(3))
      >>> keys = jax.random.split(jax.random.key(0), 2)
      >>> rbm_gibbs(keys, jnp.zeros((2, 2)), weights, steps=5).tolist()
      [[1.0, 0.0], [1.0, 0.0]]

    Source: DLB 20.2 and algorithm 18.1.
    """
    v = _units("rbm_gibbs", "v", v, weights, weights.visible_bias)
    if steps < 1:
        raise ValueError(f"rbm_gibbs(steps=...) must be >= 1, got {steps}")
    if keys.shape != v.shape[:1]:
        raise ValueError(f"rbm_gibbs(keys) must hold a key for each of {len(v)}, got {keys.shape}")

    def once(step: int | Array, v: Array) -> Array:
        now = jax.vmap(jax.random.fold_in, (0, None))(keys, step)
        up, down = jax.vmap(lambda k: jax.random.split(k), out_axes=1)(now)
        return draw_visible(down, draw_bernoulli(up, rbm_hidden(v, weights)), weights)

    return once(0, v) if steps == 1 else jax.lax.fori_loop(0, steps, once, v)


def draw_bernoulli(keys: Array, p: Array) -> Array:
    """Draw units that are 1 with probability p, and else 0: u < p with u uniform.

    Args:
      keys: one typed PRNG key for each row, (b,).
      p: probabilities, (b, n).

    Returns:
      Zeros and ones, of the shape and dtype of p.

    Example:
      >>> keys = jax.random.split(jax.random.key(0), 1)
      >>> draw_bernoulli(keys, jnp.array([[0.0, 1.0]])).tolist()
      [[0.0, 1.0]]
    """
    u = jax.vmap(lambda k: jax.random.uniform(k, p.shape[1:], p.dtype))(keys)
    return (u < p).astype(p.dtype)


def draw_visible(keys: Array, h: Array, weights: RBMWeights) -> Array:
    """Draw visible units from p(v | h).

    Args:
      keys: one typed PRNG key for each row, (b,).
      h: hidden units, (b, m).
      weights: of the machine.

    Returns:
      Shape (b, d).

    Example:
      >>> weights = RBMWeights(jnp.zeros((2, 1)), jnp.array([99.0, -99.0]), jnp.zeros(1))
      >>> draw_visible(jax.random.split(jax.random.key(0), 1), jnp.ones((1, 1)), weights).tolist()
      [[1.0, 0.0]]
    """
    mean = rbm_visible(h, weights)
    if weights.variance is None:
        return draw_bernoulli(keys, mean)
    noise = jax.vmap(lambda k: jax.random.normal(k, mean.shape[1:], mean.dtype))(keys)
    return mean + (jnp.sqrt(_spread(weights))[None] * noise).astype(mean.dtype)


def _spread(weights: RBMWeights) -> Array:
    """Return s^2 of each visible unit."""
    return jnp.broadcast_to(jnp.asarray(weights.variance), weights.visible_bias.shape)


def _drive(v: Array, weights: RBMWeights) -> Array:
    scaled = v if weights.variance is None else v / _spread(weights)[None]
    return weights.hidden_bias[None] + scaled @ weights.kernel


def _visible_part(v: Array, weights: RBMWeights) -> Array:
    if weights.variance is None:
        return -v @ weights.visible_bias
    off = v - weights.visible_bias[None]
    return (jnp.square(off) / (2 * _spread(weights)[None])).sum(-1)


def _units(function: str, name: str, value: ArrayLike, weights: RBMWeights, bias: Array) -> Array:
    a, shape = jnp.asarray(value), (len(weights.visible_bias), len(weights.hidden_bias))
    if weights.kernel.shape != shape:
        raise ValueError(
            f"{function}(weights): the kernel must be {shape} as the biases, "
            f"got {weights.kernel.shape}"
        )
    if a.ndim != 2 or a.shape[1] != len(bias):
        raise ValueError(f"{function}({name}) must be (b, {len(bias)}), got {a.shape}")
    return a
