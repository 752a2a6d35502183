"""Whitening: inputs turned into uncorrelated ones of variance 1, learned on the training part."""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdl.errors import InputError


class Whitening(NamedTuple):
    """What `fit_whitening` learned; the methods accept (N, features)."""

    mean: NDArray[np.float64]  # (features,)
    matrix: NDArray[np.float64]  # (features, outputs)
    inverse: NDArray[np.float64]  # (outputs, features)

    def apply(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Return (x - mean) matrix as float32, worked out in float64."""
        return ((x - self.mean) @ self.matrix).astype(np.float32)

    def invert(self, z: NDArray[Any]) -> NDArray[np.float64]:
        """Return mean + z inverse: what was whitened, but for directions that were left out."""
        return self.mean + z @ self.inverse


def fit_whitening(
    x: NDArray[Any],
    *,
    kind: Literal["zca", "pca"] = "zca",
    epsilon: float = 1e-2,
    components: int | None = None,
) -> Whitening:
    """Learn the mean and the covariance U diag(s) U' of the training part, and how to undo it.

    pca: z = (x - mean) U diag((s + e)^-1/2),   zca: pca U',   e = epsilon mean(s)

    zca stays nearest to x: whitened patches still look like patches, with sharper edges.

    Args:
      x: training part, shape (N, features), N >= 2; finite numbers.
      kind: "zca" or "pca"; the rows of pca's outputs are in the order of falling variance.
      epsilon: >= 0, holds directions down in which there is little but noise. With 0 they get
        variance 1, too; those without any variance get 0.
      components: how many directions to keep, of the largest variance; None: all.

    Returns:
      Whitening(mean, matrix, inverse), float64.

    Raises:
      InputError: for another shape, or an argument out of range.

    Example:
      >>> x = np.random.default_rng(0).normal(size=(500, 2)) @ np.array([[3.0, 1.0], [0.0, 0.5]])
      >>> z = fit_whitening(x, epsilon=0.0).apply(x)
      >>> (np.cov(z.T, bias=True).round(3) + 0.0).tolist()
      [[1.0, 0.0], [0.0, 1.0]]

    Source: Bell and Sejnowski 1997 (zca); Krizhevsky 2009 for images; DLB 12.2.1.
    """
    if np.ndim(x) != 2 or len(x) < 2:
        raise InputError(f"fit_whitening(x) must be (N >= 2, features), got {np.shape(x)}")
    if kind not in ("zca", "pca"):
        raise InputError(f"fit_whitening(kind=...) must be zca or pca, got {kind!r}")
    if not epsilon >= 0:
        raise InputError(f"fit_whitening(epsilon=...) must be >= 0, got {epsilon}")
    features = x.shape[1]
    if components is not None and not 1 <= components <= features:
        raise InputError(
            f"fit_whitening(components=...) must be in 1..{features}, got {components}"
        )
    mean = x.mean(0, dtype=np.float64)
    centred = x - mean
    s, u = np.linalg.eigh(centred.T @ centred / len(x))
    s, u = s[::-1][:components], u[:, ::-1][:, :components]
    raised = np.maximum(s, 0) + epsilon * np.trace(centred.T @ centred) / len(x) / features
    empty = raised <= features * np.finfo(np.float64).eps * max(raised.max(), 0)
    root = np.sqrt(np.where(empty, 1, raised))
    matrix, inverse = np.where(empty, 0, u / root), (u * np.where(empty, 0, root)).T
    if kind == "zca":
        matrix, inverse = matrix @ u.T, u @ inverse
    return Whitening(mean, matrix, inverse)
