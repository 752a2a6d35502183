"""Pytrees as vectors of one Euclidean space; `optax.tree` has what is not here.

Sums are taken in float32 at least: in bfloat16 a sum of 1000 ones is 256. A complex number counts
as the two real ones it is made of.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from fdl.types import Array, PyTree


def dtype(tree: PyTree) -> jnp.dtype:
    """Return the type to compute with: the widest of the leaves, real, float32 at least.

    Args:
      tree: arrays or Python numbers.

    Example:
      >>> dtype({"w": jnp.ones(3, jnp.bfloat16), "b": jnp.ones(2, jnp.complex64)})
      dtype('float32')
    """
    # by the arrays' own types: a number that came from Python would count for less among arrays
    own = [jnp.asarray(a).dtype for a in jax.tree.leaves(tree)]
    kinds = [jnp.finfo(jnp.result_type(kind, jnp.float32)).dtype for kind in own]
    return jnp.result_type(jnp.float32, *kinds)


def same_structure(a: PyTree, b: PyTree) -> bool:
    """Tell whether two trees have the same form, whatever their leaves.

    Example:
      >>> same_structure({"w": 1.0}, {"w": 2.0}), same_structure({"w": 1.0}, [2.0])
      (True, False)
    """
    return bool(jax.tree.structure(a) == jax.tree.structure(b))  # type: ignore[operator]


def widen(a: PyTree) -> PyTree:
    """Return a tree of arrays in float32 at least: halves are widened, all else is as it was.

    Args:
      a: arrays or numbers, real or complex.

    Example:
      >>> widen({"w": jnp.ones(2, jnp.bfloat16)})["w"].dtype
      dtype('float32')
    """

    def wide(x: Array) -> Array:
        x = jnp.asarray(x)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))

    return jax.tree.map(wide, a)


def vdot(a: PyTree, b: PyTree) -> Array:
    """Return the inner product sum_i Re(conj(a_i) b_i), float32 at least.

    Args:
      a: arrays of any shape.
      b: a tree of the same shapes.

    Example:
      >>> vdot({"w": jnp.ones(3, jnp.float32)}, {"w": jnp.full(3, 2.0, jnp.float32)})
      Array(6., dtype=float32)
    """
    kind = dtype((a, b))
    products = jax.tree.leaves(jax.tree.map(lambda x, y: _real_product(x, y, kind), a, b))
    return sum(products, jnp.zeros((), kind))


def _real_product(x: Array, y: Array, kind: jnp.dtype) -> Array:
    def product(u: Array, v: Array) -> Array:
        u, v = jnp.ravel(u).astype(kind), jnp.ravel(v).astype(kind)
        return jnp.dot(u, v, precision=lax.Precision.HIGHEST)

    if jnp.iscomplexobj(x) or jnp.iscomplexobj(y):
        return product(jnp.real(x), jnp.real(y)) + product(jnp.imag(x), jnp.imag(y))
    return product(x, y)


def norm(a: PyTree) -> Array:
    """Return the Euclidean norm sqrt(sum_i |a_i|^2), float32 at least.

    Args:
      a: arrays of any shape.

    Example:
      >>> norm({"w": jnp.array([3.0, 4.0], jnp.float32)})
      Array(5., dtype=float32)
    """
    return jnp.sqrt(vdot(a, a))


def max_abs(a: PyTree) -> Array:
    """Return the largest |a_i|, over real and imaginary parts; 0 for a tree without numbers.

    Args:
      a: arrays of any shape.

    Example:
      >>> max_abs({"w": jnp.array([3.0, -4.0], jnp.float32), "b": jnp.zeros(0, jnp.float32)})
      Array(4., dtype=float32)
    """
    kind = dtype(a)
    parts = [jnp.abs(p).astype(kind) for x in jax.tree.leaves(a) for p in _real_parts(x)]
    return jnp.stack([jnp.zeros((), kind), *(jnp.max(p, initial=0.0) for p in parts)]).max()


def all_finite(a: PyTree) -> Array:
    """Tell whether every number of a tree is finite, as a boolean scalar.

    Args:
      a: arrays of any shape.

    Example:
      >>> bool(all_finite({"w": jnp.array([1.0, jnp.nan])}))
      False
    """
    return jnp.stack([jnp.array(True), *(jnp.isfinite(x).all() for x in jax.tree.leaves(a))]).all()


def ravel(tree: PyTree) -> tuple[Array, Callable[[Array], PyTree]]:
    """Lay a tree out as one real vector, and return the way back.

    Unlike `jax.flatten_util.ravel_pytree` the vector is real and float32 at least: of complex
    leaves first the real, then the imaginary parts. The way back casts to the leaves' own types.

    Args:
      tree: arrays of any shape; n real numbers in all.

    Returns:
      The vector [n], and a function from such a vector to a tree.

    Example:
      >>> vector, unravel = ravel({"w": jnp.array([1 + 2j], jnp.complex64), "b": jnp.float16(3)})
      >>> [float(x) for x in vector]
      [3.0, 1.0, 2.0]
      >>> unravel(2 * vector)["b"].dtype
      dtype('float16')
    """
    leaves, structure = jax.tree.flatten(tree)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    kind = dtype(tree)
    parts = [jnp.ravel(p).astype(kind) for leaf in leaves for p in _real_parts(leaf)]
    vector = jnp.concatenate([jnp.zeros(0, kind), *parts])

    def unravel(flat: Array) -> PyTree:
        out, start = [], 0
        for leaf in leaves:
            out.append(_take(flat, start, leaf))
            start += leaf.size * len(_real_parts(leaf))
        return jax.tree.unflatten(structure, out)

    return vector, unravel


def _take(flat: Array, start: int, like: Array) -> Array:
    def part(i: int) -> Array:
        begin = start + i * like.size
        return flat[begin : begin + like.size].reshape(like.shape)

    if jnp.iscomplexobj(like):
        return lax.complex(part(0), part(1)).astype(like.dtype)
    return part(0).astype(like.dtype)


def _real_parts(x: Array) -> list[Array]:
    return [jnp.real(x), jnp.imag(x)] if jnp.iscomplexobj(x) else [jnp.asarray(x)]
