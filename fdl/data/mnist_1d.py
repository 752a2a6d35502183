"""MNIST-1D: ten curves, deformed at random; a small set on which models differ widely.

Follows the `mnist1d` package 0.0.2 (Apache-2.0) number by number: one legacy generator, the same
draws in the same order, the same floating-point operations. Only what draws no random numbers is
vectorised.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fdl.data.splits import Splits

# One curve of 12 heights for each digit, from the package (`get_templates`).
_CURVES = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)
_LONG = 72  # length while deforming: the curve and up to 60 zeros
_SHORT = 40  # length of an example
_MIN_PAD, _MAX_PAD = 36, 60
_SCALE, _MAX_SHIFT, _SHEAR = 0.4, 48, 0.75
_CORRELATED_NOISE, _WHITE_NOISE = 0.25, 0.02

# exp(-k^2 / 8), k = 0..8: a Gaussian of deviation 2. Written out because exp(-1/8) lies so near to
# the middle of two floats that NumPy rounds it down on processors with AVX-512 and up on others;
# this is the value rounded down (the other one changes examples by less than 1e-15).
_GAUSSIAN = tuple(
    float.fromhex(h)
    for h in (
        "0x1.0000000000000p+0",
        "0x1.c3d6a24ed8221p-1",
        "0x1.368b2fc6f960ap-1",
        "0x1.4c71b2477ab20p-2",
        "0x1.152aaa3bf81ccp-3",
        "0x1.67ee6d9ff847cp-5",
        "0x1.6c0504695c417p-7",
        "0x1.1eb805a03296cp-9",
        "0x1.5fc21041027adp-12",
    )
)


def mnist1d(*, n: int = 5000, seed: int = 42, dtype: DTypeLike = np.float32) -> Splits:
    """Generate MNIST-1D; the defaults give the published set.

    A digit's curve is padded with zeros, stretched, scaled and shifted round; the zeros are
    replaced by smooth noise; then come white noise, a shear, and 40 samples of the result. The set
    is scaled to mean 0 and variance 1. Test accuracies in the paper: logistic regression .32, MLP
    .68, GRU .91, convolutional network .94, people .96.

    Args:
      n: examples in all, a multiple of 10, >= 10; 4/5 of them train.
      seed: 0 <= seed < 2**32.
      dtype: of x; float64 holds every bit of the original.

    Returns:
      Splits(train, test) of {"x", "y"}: x (4000, 40) and (1000, 40), y int32 in 0..9, 500 of each
      in all.

    Raises:
      ValueError: `n` is not a positive multiple of 10.

    Example:
      >>> train, test = mnist1d(n=50)
      >>> train["x"].shape, test["x"].shape, train["x"].dtype
      ((40, 40), (10, 40), dtype('float32'))

    Source: Greydanus, Kobak 2024, "Scaling down deep learning with MNIST-1D" (arXiv 2011.14439).
    """
    if n < 10 or n % 10:
        raise ValueError(f"mnist1d(n=...) must be a positive multiple of 10, got {n}")
    rng = np.random.RandomState(seed)
    templates = _templates()
    y = np.repeat(np.arange(10, dtype=np.int32), n // 10)
    drawn = [_draw(rng, templates[digit]) for digit in y]
    order = rng.permutation(n)
    x = _finish(*(np.stack(parts)[order] for parts in zip(*drawn, strict=True)))
    x = ((x - x.mean()) / x.std()).astype(dtype)
    y, cut = y[order], int(n * 0.8)
    return Splits({"x": x[:cut], "y": y[:cut]}, {"x": x[cut:], "y": y[cut:]})


class _Draw(NamedTuple):
    curve: NDArray[np.float64]  # (72,) the deformed digit; exactly 0 where there is none
    smooth: NDArray[np.float64]  # (72,) noise before smoothing
    white: NDArray[np.float64]  # (72,)
    shear: NDArray[np.float64]  # ()


def _templates() -> NDArray[np.float64]:
    x = np.asarray(_CURVES, dtype=np.float64)
    x = x - x.mean(1, keepdims=True)
    x = x / x.std(1, keepdims=True)
    return (x - x[:, :1]) / 6.0


def _draw(rng: np.random.RandomState, template: NDArray[np.float64]) -> _Draw:
    """Draw one example's random numbers, in the order of the original."""
    pad = _MIN_PAD + int(rng.rand() * (_MAX_PAD - _MIN_PAD + 1))
    # The tiny offset keeps the digit's own zeros apart from the padding, which noise will replace.
    x = _resample(np.concatenate([template + 1e-8, np.zeros(pad)]), _LONG)
    x = x * (1 + _SCALE * (rng.rand() - 0.5))
    x = np.roll(x, rng.choice(_MAX_SHIFT))
    smooth = _CORRELATED_NOISE * rng.randn(_LONG)
    white = _WHITE_NOISE * rng.randn(_LONG)
    return _Draw(x, smooth, white, np.asarray(_SHEAR * (rng.rand() - 0.5)))


def _finish(
    curve: NDArray[np.float64],
    smooth: NDArray[np.float64],
    white: NDArray[np.float64],
    shear: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Add the noises, shear and shorten: (N, 72) -> (N, 40)."""
    mask = curve != 0
    x = mask * curve + (1 - mask) * _smoothed(smooth) + white
    x = x - shear[:, None] * np.linspace(-0.5, 0.5, _LONG)
    return np.stack([_resample(row, _SHORT) for row in x])


def _smoothed(noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convolve with the Gaussian, borders mirrored, in the order of SciPy's gaussian_filter."""
    half = np.asarray(_GAUSSIAN)
    weights = np.concatenate([half[:0:-1], half])
    weights = (weights / weights.sum())[len(half) - 1 :]
    radius = len(half) - 1
    padded = np.pad(noise, ((0, 0), (radius, radius)), mode="symmetric")
    total = noise * weights[0]
    for k in range(radius, 0, -1):
        left = padded[:, radius - k : radius - k + _LONG]
        right = padded[:, radius + k : radius + k + _LONG]
        total = total + (left + right) * weights[k]
    return total


def _resample(x: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    return np.interp(np.linspace(0, 1, length), np.linspace(0, 1, len(x)), x)
