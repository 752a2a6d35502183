"""Principal components, and the Gaussian model whose maximum likelihood they are."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class PCA(NamedTuple):
    """What `fit_pca` learned.

    Attributes:
      mean: (d,).
      directions: orthonormal columns, (d, k), by falling variance.
      variances: of the codes, (k,).
      noise: mean variance of the d - k directions left out; 0 where there are none.
    """

    mean: Floats
    directions: Floats
    variances: Floats
    noise: float

    def encode(self, x: NDArray[Any]) -> Floats:
        """Return the codes (n, k) of x (n, d)."""
        return (x - self.mean[None]) @ self.directions

    def decode(self, codes: NDArray[Any]) -> Floats:
        """Return the points (n, d) of the principal plane with codes (n, k)."""
        return codes @ self.directions.T + self.mean[None]

    def nll(self, x: NDArray[Any]) -> Floats:
        """Return -log p(x) in nats, (n,), of x (n, d) under probabilistic PCA.

        x ~ N(mean, U diag(variances - noise) U' + noise I): z ~ N(0, I) has as many dimensions as
        the code. Needs noise > 0, that is fewer codes than the data have dimensions.
        """
        if not self.noise > 0:
            raise ValueError(f"PCA.nll needs noise > 0, got {self.noise}")
        codes = self.encode(x)
        within = codes**2 / self.variances[None]
        outside = ((x - self.mean[None]) ** 2).sum(-1) - (codes**2).sum(-1)
        left = len(self.mean) - len(self.variances)
        scale = np.log(self.variances).sum() + left * math.log(self.noise)
        constant = len(self.mean) * math.log(2 * math.pi) + scale
        return 0.5 * (within.sum(-1) + outside / self.noise + constant)


def fit_pca(x: NDArray[Any], count: int) -> PCA:
    """Find the plane of `count` dimensions that is nearest to the data in squared distance.

    The directions are the leading eigenvectors of the covariance (divided by n); the mean squared
    distance from the plane is the sum of the eigenvalues left out. No linear auto-encoder with as
    many codes does better, and no linear-Gaussian model is likelier than `PCA.nll`.

    Args:
      x: training part, (n, d), finite.
      count: k, in 1..d.

    Returns:
      `PCA(mean, directions, variances, noise)`, worked out in float64.

    Raises:
      ValueError: for data of another form or a count out of range.

    Example:
      >>> line = np.array([[-3.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
      >>> found = fit_pca(line, 1)
      >>> found.variances.tolist(), found.noise
      ([4.5], 0.5)

    Source: DLB 5.8.1, 14.1; Tipping and Bishop 1999, Probabilistic principal component analysis.
    """
    if np.ndim(x) != 2 or not len(x):
        raise ValueError(f"fit_pca(x) must be (n >= 1, d), got {np.shape(x)}")
    d = x.shape[1]
    if not 1 <= count <= d:
        raise ValueError(f"fit_pca(count=...) must lie in 1..{d}, got {count}")
    mean = x.mean(0, dtype=np.float64)
    centred = x - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(x))
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    noise = float(values[count:].mean()) if count < d else 0.0
    return PCA(mean, vectors[:, :count], values[:count], noise)
