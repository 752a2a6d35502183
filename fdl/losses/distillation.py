"""Learning from a teacher: its softened probabilities instead of labels."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array


def distillation(
    student_logits: ArrayLike, teacher_logits: ArrayLike, *, temperature: float
) -> Array:
    """Compute the distillation loss: T^2 KL(softmax(t / T) || softmax(s / T)).

    A high temperature T shows which wrong classes the teacher holds for less wrong than others. T^2
    keeps the size of the gradient, so that T and the weight of the labels' own loss can be chosen
    one by one; at high T the gradient is that of |s - t|^2 / (2 classes) for logits of mean 0. The
    cross-entropy with the teacher's probabilities differs by a constant. No gradient reaches the
    teacher. Beside labels it is used as

        lambda distillation(s, t, temperature=T) + (1 - lambda) softmax_cross_entropy(s, y)

    The hints of FitNets are `half_squared_error`, summed over features, between the teacher's layer
    and a regressor on the student's.

    Args:
      student_logits: s, shape (..., classes), floating point, finite.
      teacher_logits: t, the same shape, from the teacher as it is used, without dropout.
      temperature: T > 0.

    Returns:
      The loss of each example in nats, >= 0 but for rounding, shape (...,), at least float32.

    Raises:
      ValueError: when the shapes differ or the temperature is not positive.

    Example:
      >>> s, t = jnp.array([[0.0, 0.0]]), jnp.array([[2.0, 0.0]])
      >>> [round(float(distillation(s, t, temperature=T)[0]), 3) for T in (1.0, 100.0)]
      [0.328, 0.5]

    Source: Hinton, Vinyals and Dean 2015, arXiv 1503.02531; Romero et al. 2014, arXiv 1412.6550.
    """
    if not temperature > 0:
        raise ValueError(f"distillation(temperature=...) must be > 0, got {temperature}")
    s, t = jnp.asarray(student_logits), jnp.asarray(teacher_logits)
    if s.shape != t.shape or s.ndim == 0:
        raise ValueError(
            "distillation(student_logits, teacher_logits) must have one shape (..., classes),"
            f" got {s.shape} and {t.shape}"
        )
    dtype = jnp.promote_types(jnp.promote_types(s.dtype, t.dtype), jnp.float32)
    log_q = jax.nn.log_softmax(s.astype(dtype) / temperature)
    log_p = jax.nn.log_softmax(jax.lax.stop_gradient(t).astype(dtype) / temperature)
    return temperature**2 * (jnp.exp(log_p) * (log_p - log_q)).sum(-1)
