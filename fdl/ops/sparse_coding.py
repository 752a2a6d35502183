"""Sparse coding: the fewest atoms of a dictionary that make up x, and how to find them.

    F(z) = 1/2 |x - D z|^2 + l1 |z|_1,   dictionary D (inputs, codes), or filters of a convolution

Codes are found by inference, an inner minimisation. Nothing here is differentiated through it:
the codes that are returned are constants. That is right for learning D: at the minimum z*, where F
does not change with z, dF(x, z*(D), D)/dD is the partial derivative at fixed z* (envelope theorem).
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.ops.conv import conv, conv_transpose
from fdl.ops.proximal_gradient import proximal_gradient
from fdl.ops.units import soft_shrink
from fdl.types import Array


def decode_sparse(z: ArrayLike, dictionary: ArrayLike) -> Array:
    """Add up atoms: D z.

    Args:
      z: codes, shape (batch, codes), or maps of them (batch, *spatial, codes).
      dictionary: atoms as columns, shape (inputs, codes); or filters, shape
        (*window, codes, channels), which are laid down wherever their map is not 0.

    Returns:
      Shape (batch, inputs), or (batch, *spatial + window - 1, channels).

    Raises:
      ValueError: when the shapes do not fit.

    Example:
      >>> decode_sparse(jnp.array([[2.0, 0.0, 1.0]]), jnp.array([[1.0, 0.0, 3.0], [0.0, 1.0, 4.0]]))
      Array([[5., 4.]], dtype=float32)

    Source: DLB 13.4; Kavukcuoglu et al. 2010, Learning Convolutional Feature Hierarchies.
    """
    z, dictionary = jnp.asarray(z), jnp.asarray(dictionary)
    if dictionary.ndim > 2:
        return conv_transpose(z, dictionary)
    if z.ndim != 2 or dictionary.ndim != 2 or z.shape[1] != dictionary.shape[1]:
        raise ValueError(
            "decode_sparse(z, dictionary) must be (batch, codes) and (inputs, codes), "
            f"got {z.shape} and {dictionary.shape}"
        )
    return z @ dictionary.T


def correlate_sparse(x: ArrayLike, dictionary: ArrayLike) -> Array:
    """Compare inputs with each atom: D' x, the transposed of `decode_sparse`.

    Args:
      x: shape (batch, inputs), or (batch, *spatial, channels).
      dictionary: as in `decode_sparse`.

    Returns:
      Shape (batch, codes), or (batch, *spatial - window + 1, codes).

    Raises:
      ValueError: when the shapes do not fit.

    Example:
      >>> correlate_sparse(jnp.array([[5.0, 4.0]]), jnp.array([[1.0, 0.0, 0.6], [0.0, 1.0, 0.8]]))
      Array([[5. , 4. , 6.2]], dtype=float32)

    Source: DLB 13.4.
    """
    x, dictionary = jnp.asarray(x), jnp.asarray(dictionary)
    if dictionary.ndim > 2:
        return conv(x, jnp.swapaxes(dictionary, -1, -2))
    if x.ndim != 2 or dictionary.ndim != 2 or x.shape[1] != dictionary.shape[0]:
        raise ValueError(
            "correlate_sparse(x, dictionary) must be (batch, inputs) and (inputs, codes), "
            f"got {x.shape} and {dictionary.shape}"
        )
    return x @ dictionary


def sparse_objective(x: ArrayLike, z: ArrayLike, dictionary: ArrayLike, l1: ArrayLike) -> Array:
    """Compute 1/2 |x - D z|^2 + l1 |z|_1 of each example.

    Args:
      x: inputs, (batch, inputs) or (batch, *spatial, channels).
      z: codes, as `decode_sparse` takes them.
      dictionary: D, as in `decode_sparse`.
      l1: strength, >= 0.

    Returns:
      Shape (batch,).

    Raises:
      ValueError: when the shapes do not fit.

    Example:
      >>> x, z = jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 2.0]])
      >>> sparse_objective(x, z, jnp.eye(2), 0.5)
      Array([2.], dtype=float32)

    Source: DLB 13.4, equation 13.18 with Laplace's prior.
    """
    error = jnp.asarray(x) - decode_sparse(z, dictionary)
    return 0.5 * _total(jnp.square(error)) + l1 * _total(jnp.abs(jnp.asarray(z)))


def sparse_lipschitz(dictionary: ArrayLike, shape: tuple[int, ...] | None = None) -> Array:
    """Bound the curvature of 1/2 |x - D z|^2 in z: L >= lambda_max(D'D), 1 / L being a safe step.

    Of a matrix it is exact. Of filters it is the largest eigenvalue over frequencies of the Fourier
    transforms' products, exact for images that close up in a circle and a little too large for
    others, which hold back some of the atoms.

    Args:
      dictionary: D, as in `decode_sparse`.
      shape: of the images, *spatial; needed for filters.

    Returns:
      L, a scalar.

    Raises:
      ValueError: for filters without a shape.

    Example:
      >>> sparse_lipschitz(jnp.array([[3.0, 0.0], [0.0, 1.0]]))
      Array(9., dtype=float32)

    Source: Beck and Teboulle 2009, example 2.2.
    """
    dictionary = jnp.asarray(dictionary)
    if dictionary.ndim == 2:
        wide = dictionary.shape[0] < dictionary.shape[1]
        product = dictionary @ dictionary.T if wide else dictionary.T @ dictionary
        return jnp.linalg.eigvalsh(product)[-1]
    axes = tuple(range(dictionary.ndim - 2))
    if shape is None or len(shape) != len(axes):
        raise ValueError(
            f"sparse_lipschitz(shape=...) must hold {len(axes)} sizes of an image, got {shape}"
        )
    waves = jnp.fft.fftn(dictionary, s=shape, axes=axes)
    products = jnp.einsum("...kc,...kd->...cd", waves, waves.conj())
    return jnp.linalg.eigvalsh(products).max()


def ista(
    x: ArrayLike,
    dictionary: ArrayLike,
    l1: float | Array,
    *,
    steps: int,
    start: ArrayLike | None = None,
    lipschitz: ArrayLike | None = None,
    tolerance: float | None = None,
) -> Array:
    """Find sparse codes by iterated shrinkage and thresholding.

    z <- S(z + D'(x - D z) / L, l1 / L),  S(a, t) = sign(a) max(|a| - t, 0)

    F falls at every step, with F(z_k) - F* <= L |z_0 - z*|^2 / (2 k).

    Args:
      x: inputs, (batch, inputs) or (batch, *spatial, channels), floating point.
      dictionary: D, as in `decode_sparse`.
      l1: strength, >= 0.
      steps: how many, >= 0; at most as many with a tolerance.
      start: codes to begin with; None: zeros.
      lipschitz: L >= lambda_max(D'D); None: `sparse_lipschitz`.
      tolerance: an example rests when none of its codes changed by more; None: never.

    Returns:
      The codes, (batch, codes) or maps of them, a constant for differentiation.

    Raises:
      ValueError: when the shapes do not fit or an argument is out of range.

    Example:
      >>> x, dictionary = jnp.array([[1.0, 3.0]]), jnp.eye(2)
      >>> ista(x, dictionary, 0.5, steps=1)
      Array([[0.5, 2.5]], dtype=float32)

    Source: Daubechies et al. 2004; Beck and Teboulle 2009, theorem 3.1; DLB 13.4.
    """
    return _infer("ista", x, dictionary, l1, steps, start, lipschitz, tolerance, False)


def fista(
    x: ArrayLike,
    dictionary: ArrayLike,
    l1: float | Array,
    *,
    steps: int,
    start: ArrayLike | None = None,
    lipschitz: ArrayLike | None = None,
    tolerance: float | None = None,
) -> Array:
    """Find sparse codes by iterated shrinkage with momentum.

    z_k = S(y_k + D'(x - D y_k) / L, l1 / L),  y_{k+1} = z_k + (t_k - 1) / t_{k+1} (z_k - z_{k-1}),
    t_{k+1} = (1 + sqrt(1 + 4 t_k^2)) / 2, t_1 = 1

    F(z_k) - F* <= 2 L |z_0 - z*|^2 / (k + 1)^2; on the way F may rise now and then.

    Args:
      x: inputs, (batch, inputs) or (batch, *spatial, channels), floating point.
      dictionary: D, as in `decode_sparse`.
      l1: strength, >= 0.
      steps: how many, >= 0; at most as many with a tolerance.
      start: codes to begin with; None: zeros.
      lipschitz: L >= lambda_max(D'D); None: `sparse_lipschitz`.
      tolerance: an example rests when none of its codes changed by more; None: never.

    Returns:
      The codes, (batch, codes) or maps of them, a constant for differentiation.

    Raises:
      ValueError: when the shapes do not fit or an argument is out of range.

    Example:
      >>> x, dictionary = jnp.array([[2.0, 3.0]]), jnp.array([[1.0, 0.6], [0.0, 0.8]])
      >>> [[round(float(z), 4) for z in row] for row in fista(x, dictionary, 0.5, steps=200)]
      [[0.0, 3.1]]

    Source: Beck and Teboulle 2009, theorem 4.4.
    """
    return _infer("fista", x, dictionary, l1, steps, start, lipschitz, tolerance, True)


def kkt_residual(x: ArrayLike, z: ArrayLike, dictionary: ArrayLike, l1: float | Array) -> Array:
    """Measure how far codes are from the minimum of F: its least subgradient, in the largest norm.

    With c = D'(x - D z): |c_j - l1 sign(z_j)| where z_j != 0, max(|c_j| - l1, 0) where z_j = 0.

    Args:
      x: inputs, (batch, inputs) or (batch, *spatial, channels).
      z: codes, as `decode_sparse` takes them.
      dictionary: D, as in `decode_sparse`.
      l1: strength, >= 0.

    Returns:
      Shape (batch,), >= 0; 0 at the minimum and only there.

    Raises:
      ValueError: when the shapes do not fit.

    Example:
      >>> kkt_residual(jnp.array([[1.0, 3.0]]), jnp.array([[0.5, 2.0]]), jnp.eye(2), 0.5)
      Array([0.5], dtype=float32)

    Source: DLB 4.4; Fuchs 2004 for the lasso.
    """
    z = jnp.asarray(z)
    c = correlate_sparse(jnp.asarray(x) - decode_sparse(z, dictionary), dictionary)
    return _rows(_subgradient(c, z, l1)).max(-1)


def coordinate_descent(
    x: ArrayLike,
    dictionary: ArrayLike,
    l1: float | Array,
    *,
    sweeps: int,
    rule: Literal["cyclic", "greedy"] = "cyclic",
    tolerance: float = 0.0,
    start: ArrayLike | None = None,
) -> Array:
    """Find sparse codes by exact minimisation over one of them at a time.

    z_j <- S(D_j'(x - D z) + |D_j|^2 z_j, l1) / |D_j|^2

    Args:
      x: inputs, shape (batch, inputs), floating point.
      dictionary: D, shape (inputs, codes).
      l1: strength, >= 0.
      sweeps: at most so many times (number of codes) updates, >= 0.
      rule: "cyclic": one code after another; "greedy": always the one that would change most.
      tolerance: an example rests when its `kkt_residual` is no larger; seen after each sweep.
      start: codes to begin with; None: zeros.

    Returns:
      The codes, shape (batch, codes), a constant for differentiation. An atom of zeros has code 0.

    Raises:
      ValueError: when the shapes do not fit or an argument is out of range.

    Example:
      >>> x, dictionary = jnp.array([[2.0, 3.0]]), jnp.array([[1.0, 0.6], [0.0, 0.8]])
      >>> z = coordinate_descent(x, dictionary, 0.5, sweeps=50)
      >>> [round(float(value), 4) for value in z[0]]
      [0.0, 3.1]

    Source: Li and Osher 2009 (greedy); Friedman et al. 2007 (cyclic); DLB 8.7.2.
    """
    _check("coordinate_descent", l1, sweeps, "sweeps", tolerance)
    if rule not in ("cyclic", "greedy"):
        raise ValueError(f"coordinate_descent(rule=...) must be cyclic or greedy, got {rule!r}")
    x, dictionary = _constants(x, dictionary)
    correlated = correlate_sparse(x, dictionary)
    z = jnp.zeros_like(correlated) if start is None else _start(start, correlated)
    gram = dictionary.T @ dictionary
    square = jnp.diag(gram)

    def update(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        """Update one code of an example; c = D'(x - D z)."""
        c, z = carry
        best = soft_shrink(c + square * z, jnp.full(c.shape, l1, c.dtype))
        change = jnp.where(square > 0, best / jnp.where(square > 0, square, 1), 0) - z
        j = jnp.abs(change).argmax() if rule == "greedy" else i
        return c - change[j] * gram[j], z.at[j].add(change[j])

    def sweep(c: Array, z: Array) -> tuple[Array, Array]:
        new = jax.lax.fori_loop(0, len(square), update, (c, z))
        rests = _subgradient(c, z, l1).max() <= tolerance
        return jax.tree.map(lambda n, old: jnp.where(rests, old, n), new, (c, z))

    def goes_on(carry: tuple[Array, Array, Array]) -> Array:
        count, c, z = carry
        return (count < sweeps) & (_subgradient(c, z, l1).max(initial=0.0) > tolerance)

    def advance(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        count, c, z = carry
        return (count + 1, *jax.vmap(sweep)(c, z))

    c = correlated - z @ gram
    return jax.lax.while_loop(goes_on, advance, (jnp.int32(0), c, z))[2]


def _infer(
    function: str,
    x: ArrayLike,
    dictionary: ArrayLike,
    l1: float | Array,
    steps: int,
    start: ArrayLike | None,
    lipschitz: ArrayLike | None,
    tolerance: float | None,
    accelerate: bool,
) -> Array:
    _check(function, l1, steps, "steps", tolerance)
    x, dictionary = _constants(x, dictionary)
    like = jax.eval_shape(correlate_sparse, x, dictionary)
    z = jnp.zeros(like.shape, like.dtype) if start is None else _start(start, like)
    if lipschitz is None:
        lipschitz = sparse_lipschitz(dictionary, x.shape[1:-1])
    return jax.lax.stop_gradient(
        proximal_gradient(
            lambda z: correlate_sparse(decode_sparse(z, dictionary) - x, dictionary),
            z,
            lipschitz=lipschitz,
            l1=l1,
            steps=steps,
            accelerate=accelerate,
            tolerance=tolerance,
        )
    )


def _constants(x: ArrayLike, dictionary: ArrayLike) -> tuple[Array, Array]:
    x, dictionary = jnp.asarray(x), jnp.asarray(dictionary)
    kind = jnp.promote_types(x.dtype, dictionary.dtype)
    return jax.lax.stop_gradient((x.astype(kind), dictionary.astype(kind)))


def _start(start: ArrayLike, like: Array | jax.ShapeDtypeStruct) -> Array:
    start = jnp.asarray(start, like.dtype)
    if start.shape != like.shape:
        raise ValueError(
            f"start=... must have the shape of the codes {like.shape}, got {start.shape}"
        )
    return jax.lax.stop_gradient(start)


def _check(
    function: str, l1: float | Array, count: int, name: str, tolerance: float | None
) -> None:
    if isinstance(l1, float | int) and l1 < 0:
        raise ValueError(f"{function}(l1=...) must be >= 0, got {l1}")
    if count < 0:
        raise ValueError(f"{function}({name}=...) must be >= 0, got {count}")
    if tolerance is not None and tolerance < 0:
        raise ValueError(f"{function}(tolerance=...) must be >= 0, got {tolerance}")


def _subgradient(c: Array, z: Array, l1: float | Array) -> Array:
    return jnp.where(z == 0, jnp.maximum(jnp.abs(c) - l1, 0), jnp.abs(c - l1 * jnp.sign(z)))


def _rows(a: Array) -> Array:
    return a.reshape(len(a), math.prod(a.shape[1:]))


def _total(a: Array) -> Array:
    return _rows(a).sum(-1)
