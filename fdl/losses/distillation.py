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

    Of several teachers the mean prediction at T, log p = arithmetic_mean(log_softmax(t / T)) of
    `fdl.averaging`, is that of logits T log p.

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


def hint(guided: ArrayLike, wanted: ArrayLike) -> Array:
    """Compute the hint loss of FitNets: 1/2 |u - r|^2 of each example.

    A hidden layer of the teacher, u, tells the student what to find half-way; r is what a
    regressor makes of the student's layer, such as `fdl.models.regressor`, for the two differ in
    size. Minimised over regressor and student up to that layer, before all of it learns from the
    teacher's outputs. No gradient reaches the teacher.

    Args:
      guided: r, from the regressor, shape (batch, ...), floating point.
      wanted: u, the teacher's layer, the same shape.

    Returns:
      Shape (batch,), summed over all other axes, at least float32.

    Raises:
      ValueError: when the shapes differ or have no batch axis.

    Example:
      >>> hint(jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 0.0]])).tolist()
      [2.5]

    Source: Romero et al. 2014, arXiv 1412.6550, equation 3.
    """
    r, u = jnp.asarray(guided), jax.lax.stop_gradient(jnp.asarray(wanted))
    if r.shape != u.shape or r.ndim == 0:
        raise ValueError(
            f"hint(guided, wanted) must have one shape (batch, ...), got {r.shape} and {u.shape}"
        )
    dtype = jnp.promote_types(jnp.promote_types(r.dtype, u.dtype), jnp.float32)
    return 0.5 * jnp.square(r.astype(dtype) - u.astype(dtype)).reshape(len(r), -1).sum(-1)
