"""Random orders that are a function of integers only, the same under every version of NumPy."""

import numpy as np
from numpy.typing import NDArray

_WORD = 2**64


def permutation(n: int, *, seed: int, stream: int = 0) -> NDArray[np.int64]:
    """Return a random order of 0..n-1 that depends on (n, seed, stream) and on nothing else.

    Sorts n raw 64-bit words of the counter-based generator Philox, keyed by (seed, stream): every
    order is equally likely. NumPy promises the raw words of a bit generator for ever, but not the
    results of `Generator.permutation`, on which a run resumed after an upgrade could not rely.

    Args:
      n: number of elements, >= 0.
      seed: 0 <= seed < 2**64.
      stream: 0 <= stream < 2**64; other streams of a seed are independent (the epoch, for batches).

    Returns:
      int64 of shape (n,).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> permutation(6, seed=0).tolist(), permutation(6, seed=0, stream=1).tolist()
      ([0, 2, 1, 5, 4, 3], [5, 3, 2, 4, 1, 0])

    Source: Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    if n < 0:
        raise ValueError(f"permutation(n=...) must be >= 0, got {n}")
    for name, value in (("seed", seed), ("stream", stream)):
        if not 0 <= value < _WORD:
            raise ValueError(f"permutation({name}=...) must be in [0, 2**64), got {value}")
    words = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)).random_raw(n)
    return np.argsort(words, kind="stable")
