"""Penalties on weights as matrices: whole units, orthogonality, the largest singular value.

A kernel of a convolution, [h, w, in, out], counts as the matrix [h w in, out].
"""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from fdl.regularizers.select import Select, selected, weights_only
from fdl.types import Array, Params

Groups: TypeAlias = Literal["columns", "rows"]


def group_lasso(
    params: Params,
    strength: float | Array,
    *,
    groups: Groups = "columns",
    select: Select = weights_only,
) -> Array:
    """Penalise the norms of groups: strength * sum_g |w_g|.

    Groups go to 0 as wholes: a column of a kernel [in, out] is a unit's incoming weights, a row an
    input's outgoing ones. As with l1, the gradient only comes near to zero (it is 0 at 0);
    `fdl.optim.proximal_group_lasso` reaches it. Yuan and Lin weight groups by the root of their
    size, which is one factor for all groups of a layer.

    Args:
      params: any tree.
      strength: >= 0, of the unit loss / w.
      groups: "columns": all axes but the last form a group, for each output; "rows": all axes but
        the last but one, for each input (channel).
      select: which leaves count, with two axes or more; the weights by default.

    Returns:
      A scalar, at least float32.

    Raises:
      ValueError: for a negative strength, unknown groups, or when nothing is selected or a selected
        leaf is no matrix.

    Example:
      >>> w = {"kernel": jnp.array([[3.0, 0.0], [4.0, 1.0]])}
      >>> float(group_lasso(w, 1.0)), float(group_lasso(w, 1.0, groups="rows")) > 7.1
      (6.0, True)

    Source: Yuan and Lin 2006; DLB 7.1.2 for single weights.
    """
    _check("group_lasso", strength)
    if groups not in ("columns", "rows"):
        raise ValueError(f"group_lasso(groups=...) must be columns or rows, got {groups!r}")
    kept = -1 if groups == "columns" else -2
    total = jnp.float32(0)
    for w in _wide(params, select, "group_lasso"):
        squares = jnp.square(jnp.moveaxis(w, kept, 0).reshape(w.shape[kept], -1)).sum(-1)
        some = squares > 0  # the derivative of the root at 0 is infinite
        total += jnp.where(some, jnp.sqrt(jnp.where(some, squares, 1)), 0).sum()
    return strength * total


def orthogonality(
    params: Params, strength: float | Array, *, select: Select = weights_only
) -> Array:
    """Ask units for orthonormal incoming weights: strength * |W'W - I|^2.

    All singular values are drawn to 1, so that signals and gradients keep their size. A matrix with
    more columns than rows cannot have orthonormal columns; its rows become so, and the value is at
    least strength * (columns - rows).

    Args:
      params: any tree.
      strength: >= 0.
      select: which leaves count, with two axes or more; the weights by default.

    Returns:
      A scalar, at least float32: the sum over leaves of the squared Frobenius norm.

    Raises:
      ValueError: for a negative strength, or when nothing is selected or a selected leaf is no
        matrix.

    Example:
      >>> float(orthogonality({"kernel": 2 * jnp.eye(2)}, 0.5))
      9.0

    Source: Brock et al. 2017, arXiv 1609.07093, with the square of their norm; Xie et al. 2017.
    """
    _check("orthogonality", strength)
    total = jnp.float32(0)
    for w in _wide(params, select, "orthogonality"):
        m = _matrix(w)
        rows, columns = m.shape
        a = m if columns <= rows else m.T  # |W W' - I|^2 is less by a constant, and smaller
        gram = jnp.matmul(a.T, a, precision=lax.Precision.HIGHEST)
        total += jnp.square(gram - jnp.eye(len(gram), dtype=gram.dtype)).sum()
        total += max(columns - rows, 0)
    return strength * total


def spectral_norm(w: Array, *, iterations: int = 20) -> Array:
    """Approximate the largest singular value of a matrix by power iteration.

    v <- W'W v / |W'W v|,  sigma = |W v|

    It comes from below, with an error that falls like (sigma_2 / sigma_1)^(4 iterations). The
    gradient, u v', is exact where v is; v itself is not differentiated.

    Args:
      w: two axes or more, all but the last counted as one. Of a convolution's kernel it is the norm
        of that matrix, not of the convolution, which it bounds up to the root of the kernel's size.
      iterations: >= 1.

    Returns:
      A scalar, at least float32.

    Raises:
      ValueError: for less than one iteration, or fewer axes than two.

    Example:
      >>> round(float(spectral_norm(jnp.array([[3.0, 0.0], [0.0, 1.0]]))), 5)
      3.0

    Source: Yoshida and Miyato 2017, arXiv 1705.10941, section 3.2, without a state between steps.
    """
    w = jnp.asarray(w)
    if iterations < 1 or w.ndim < 2:
        raise ValueError(
            "spectral_norm(w, iterations=...) must have two axes and be >= 1, "
            f"got {w.shape} and {iterations}"
        )
    m = _matrix(w.astype(jnp.promote_types(w.dtype, jnp.float32)))
    fixed = lax.stop_gradient(m)

    def times(a: Array, b: Array) -> Array:
        return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)

    def advance(_: int, v: Array) -> Array:
        return _unit(times(fixed.T, _unit(times(fixed, v))))

    start = _unit(jax.random.normal(jax.random.key(0), m.shape[1:], jnp.float32).astype(m.dtype))
    v = lax.fori_loop(0, iterations, advance, start)
    return times(_unit(times(fixed, v)), times(m, v))


def spectral(
    params: Params,
    strength: float | Array,
    *,
    iterations: int = 20,
    select: Select = weights_only,
) -> Array:
    """Penalise the largest singular values: strength / 2 * sum_W sigma(W)^2.

    The product of the sigmas bounds how much a network of units with slopes of at most 1 magnifies
    a change of its input. Where l2 shrinks all directions, this shrinks only the one that is
    magnified most.

    Args:
      params: any tree.
      strength: >= 0.
      iterations: as in `spectral_norm`.
      select: which leaves count, with two axes or more; the weights by default.

    Returns:
      A scalar, at least float32.

    Raises:
      ValueError: for a negative strength, less than one iteration, or when nothing is selected or a
        selected leaf is no matrix.

    Example:
      >>> round(float(spectral({"kernel": jnp.array([[3.0, 0.0], [0.0, 1.0]])}, 1.0)), 4)
      4.5

    Source: Yoshida and Miyato 2017, arXiv 1705.10941, equation 3.
    """
    _check("spectral", strength)
    total = jnp.float32(0)
    for w in _wide(params, select, "spectral"):
        total += jnp.square(spectral_norm(w, iterations=iterations))
    return 0.5 * strength * total


def _unit(v: Array) -> Array:
    """Scale a vector to length 1 without overflow; zeros stay."""
    largest = jnp.abs(v).max()
    v = v / jnp.where(largest > 0, largest, 1)
    norm = jnp.sqrt(jnp.square(v).sum())
    return v / jnp.where(norm > 0, norm, 1)


def _matrix(w: Array) -> Array:
    return w.reshape(-1, w.shape[-1])


def _wide(params: Params, select: Select, function: str) -> list[Array]:
    leaves = [jnp.asarray(w) for w in selected(params, select)]
    for w in leaves:
        if w.ndim < 2:
            raise ValueError(f"{function}(select=...) must choose matrices, got shape {w.shape}")
    return [w.astype(jnp.promote_types(w.dtype, jnp.float32)) for w in leaves]


def _check(function: str, strength: float | Array) -> None:
    if isinstance(strength, float | int) and not strength >= 0:
        raise ValueError(f"{function}(strength=...) must be >= 0, got {strength}")
