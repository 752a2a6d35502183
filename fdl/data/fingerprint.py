"""One short text that stands for a data set."""

import hashlib
from collections.abc import Mapping

import numpy as np


def fingerprint(arrays: Mapping[str, np.ndarray]) -> str:
    """Return a hash of named arrays: their names, shapes, types and bytes.

    Args:
      arrays: such as a training set; memory-mapped ones are read once.

    Returns:
      16 hexadecimal digits.

    Example:
      >>> fingerprint({"x": np.arange(3)}) == fingerprint({"x": np.arange(3)})
      True
      >>> fingerprint({"x": np.arange(3)}) == fingerprint({"x": np.arange(3.0)})
      False
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]
