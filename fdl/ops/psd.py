"""Predictive sparse decomposition: sparse codes that an encoder can guess (DLB 14.8).

    E(z) = |x - D z|^2 + l1 |z|_1 + alpha |z - f(x)|^2

There is no 1/2, as in the papers: with alpha = 0 it is twice `sparse_objective` of half the l1.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.ops.proximal_gradient import proximal_gradient
from fdl.ops.sparse_coding import (
    correlate_sparse,
    decode_sparse,
    fista,
    sparse_lipschitz,
    sparse_objective,
)
from fdl.types import Array


def psd_energy(
    x: ArrayLike,
    z: ArrayLike,
    prediction: ArrayLike,
    dictionary: ArrayLike,
    *,
    l1: float | Array,
    alpha: float | Array,
) -> Array:
    """Compute |x - D z|^2 + l1 |z|_1 + alpha |z - prediction|^2 of each example.

    With z from `psd_codes`, a constant, its gradient is the one to learn D and the encoder by: the
    partial derivative at z*, which is the whole one of min_z E (envelope theorem).

    Args:
      x: inputs, (batch, inputs) or (batch, *spatial, channels).
      z: codes, (batch, codes) or maps of them.
      prediction: f(x), the encoder's codes, of z's shape.
      dictionary: D, (inputs, codes) or filters (*window, codes, channels).
      l1: strength of sparsity, >= 0.
      alpha: strength of the prediction, >= 0.

    Returns:
      Shape (batch,).

    Raises:
      ValueError: when the shapes do not fit.

    Example:
      >>> x, z, guess = jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 2.0]]), jnp.array([[1.0, 2.0]])
      >>> psd_energy(x, z, guess, jnp.eye(2), l1=0.5, alpha=2.0)
      Array([5.], dtype=float32)

    Source: Kavukcuoglu et al. 2010, arXiv 1010.3467, equation 4; DLB 14.8, equation 14.19.
    """
    z, prediction = jnp.asarray(z), jnp.asarray(prediction)
    if z.shape != prediction.shape:
        raise ValueError(
            f"psd_energy(prediction=...) must have z's shape {z.shape}, got {prediction.shape}"
        )
    apart = jnp.square(z - prediction).reshape(len(z), -1).sum(-1)
    return 2 * sparse_objective(x, z, dictionary, l1 / 2) + alpha * apart


def psd_codes(
    x: ArrayLike,
    prediction: ArrayLike,
    dictionary: ArrayLike,
    *,
    l1: float | Array,
    alpha: float | Array,
    steps: int,
    couple: bool = True,
    accelerate: bool = True,
    lipschitz: ArrayLike | None = None,
    tolerance: float | None = None,
) -> Array:
    """Find the codes of least energy, beginning at the encoder's.

    Proximal gradient steps with slope 2 D'(D z - x) + 2 alpha (z - f(x)) and L = 2 (lambda_max(D'D)
    + alpha). The minimum goes from sparse coding (alpha -> 0) to the prediction (alpha -> inf).

    Args:
      x: inputs, (batch, inputs) or (batch, *spatial, channels), floating point.
      prediction: f(x), (batch, codes) or maps of them.
      dictionary: D, (inputs, codes) or filters (*window, codes, channels).
      l1: strength of sparsity, >= 0.
      alpha: strength of the prediction, >= 0.
      steps: how many, >= 0; at most as many with a tolerance.
      couple: False: plain sparse coding from zeros, deaf to prediction and alpha, as in the
        authors' program; the encoder then runs after codes that do not wait for it.
      accelerate: FISTA's steps; False: ISTA's, by which the energy never rises.
      lipschitz: an upper bound of lambda_max(D'D); None computes the number itself. The largest sum
        of a row of |D'D| is a bound, and far cheaper where a dictionary learns in small steps.
      tolerance: an example rests when none of its codes changed by more; None: never.

    Returns:
      z, of the prediction's shape, a constant for differentiation.

    Raises:
      ValueError: when the shapes do not fit or an argument is out of range.

    Example:
      >>> x, guess = jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 2.0]])
      >>> psd_codes(x, guess, jnp.eye(2), l1=1.0, alpha=1.0, steps=1)
      Array([[0.25, 2.25]], dtype=float32)

    Source: Kavukcuoglu et al. 2010, arXiv 1010.3467, section 2; github.com/koraykv/unsup for
    `couple=False`.
    """
    for name, value in (("l1", l1), ("alpha", alpha), ("steps", steps), ("tolerance", tolerance)):
        if isinstance(value, float | int) and value < 0:
            raise ValueError(f"psd_codes({name}=...) must be >= 0, got {value}")
    x, prediction, dictionary = (jnp.asarray(a) for a in (x, prediction, dictionary))
    if not couple:
        return fista(x, dictionary, l1 / 2, steps=steps, lipschitz=lipschitz, tolerance=tolerance)
    kind = jnp.result_type(x, prediction, dictionary)
    x, prediction, dictionary = jax.lax.stop_gradient(
        tuple(a.astype(kind) for a in (x, prediction, dictionary))
    )
    like = jax.eval_shape(correlate_sparse, x, dictionary)
    if prediction.shape != like.shape:
        raise ValueError(
            f"psd_codes(prediction=...) must have the shape of the codes {like.shape}, "
            f"got {prediction.shape}"
        )

    if lipschitz is None:
        lipschitz = sparse_lipschitz(dictionary, x.shape[1:-1])

    def slope(z: Array) -> Array:
        fit = correlate_sparse(decode_sparse(z, dictionary) - x, dictionary)
        return 2 * fit + 2 * alpha * (z - prediction)

    return jax.lax.stop_gradient(
        proximal_gradient(
            slope,
            prediction,
            lipschitz=2 * (jnp.asarray(lipschitz) + alpha),
            l1=l1,
            steps=steps,
            accelerate=accelerate,
            tolerance=tolerance,
        )
    )
