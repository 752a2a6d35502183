"""Generated problems, each a pure function of its arguments."""

import numpy as np

from fdl.data.splits import Arrays


def spirals(
    n: int, *, classes: int = 2, turns: float = 1.5, noise: float = 0.05, seed: int = 0
) -> Arrays:
    """Return interleaved spirals in the plane: classes that no straight line parts.

    Point i of class c:  r (cos a, sin a) + noise,  a = 2 pi (turns r + c / classes),  r in (0, 1].

    Args:
      n: number of points, >= `classes`; the classes take turns, so they differ by one point at
        most.
      classes: number of arms, >= 2.
      turns: turns of each arm.
      noise: standard deviation of the normal noise on each coordinate, >= 0.
      seed: of radii and noise.

    Returns:
      {"x": float32 (n, 2), "y": int32 (n,) in 0..classes-1}.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> arrays = spirals(6, noise=0.0)
      >>> arrays["x"].shape, arrays["y"].tolist()
      ((6, 2), [0, 1, 0, 1, 0, 1])

    Source: Lang, Witbrock 1988, "Learning to tell two spirals apart".
    """
    if classes < 2:
        raise ValueError(f"spirals(classes=...) must be >= 2, got {classes}")
    _check("spirals", n, classes, noise)
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    r = np.sqrt(1 - rng.random(n))  # uniform over the disc: the arms are equally dense all along
    angle = 2 * np.pi * (turns * r + y / classes)
    x = np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1)
    x += noise * rng.standard_normal((n, 2))
    return {"x": x.astype(np.float32), "y": y.astype(np.int32)}


def two_moons(n: int, *, noise: float = 0.1, seed: int = 0) -> Arrays:
    """Return two interleaved half circles of radius 1.

    Class 0: (cos a, sin a);  class 1: (1 - cos a, 1/2 - sin a);  a evenly spaced in [0, pi].

    Args:
      n: number of points, >= 2; n // 2 of class 0 come first.
      noise: standard deviation of the normal noise on each coordinate, >= 0.
      seed: of the noise.

    Returns:
      {"x": float32 (n, 2), "y": int32 (n,) in 0..1}.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> two_moons(4, noise=0.0)["x"].round(2).tolist()
      [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5], [2.0, 0.5]]

    Source: scikit-learn's `make_moons`.
    """
    _check("two_moons", n, 2, noise)
    a, b = np.linspace(0, np.pi, n // 2), np.linspace(0, np.pi, n - n // 2)
    upper = np.stack([np.cos(a), np.sin(a)], axis=1)
    lower = np.stack([1 - np.cos(b), 0.5 - np.sin(b)], axis=1)
    x = np.concatenate([upper, lower])
    x += noise * np.random.default_rng(seed).standard_normal((n, 2))
    y = np.repeat([0, 1], [n // 2, n - n // 2])
    return {"x": x.astype(np.float32), "y": y.astype(np.int32)}


def sine(n: int, *, noise: float = 0.1, seed: int = 0) -> Arrays:
    """Return a noisy sine: y = sin(pi x) + noise, x uniform in [-1, 1).

    The best mean squared error that any model can reach on new points is noise**2.

    Args:
      n: number of points, >= 1.
      noise: standard deviation of the normal noise on y, >= 0.
      seed: of x and noise.

    Returns:
      {"x": float32 (n, 1), "y": float32 (n, 1)}.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> arrays = sine(100, noise=0.0)
      >>> float(abs(arrays["y"] - np.sin(np.pi * arrays["x"])).max()) < 1e-6
      True
    """
    _check("sine", n, 1, noise)
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, 1))
    y = np.sin(np.pi * x) + noise * rng.standard_normal((n, 1))
    return {"x": x.astype(np.float32), "y": y.astype(np.float32)}


def heteroscedastic_sine(n: int, *, noise: float = 1.0, seed: int = 0) -> Arrays:
    """Return a sine whose noise grows with x: y = 2 sin(2 pi x) + noise (x + 1/2) e.

    x is uniform in [0, 1), e standard normal. The best mean negative log-likelihood that any model
    can reach on new points is 1/2 log(2 pi e) + log noise + E log(x + 1/2), which for noise = 1 is
    1.3737 nats.

    Args:
      n: number of points, >= 1.
      noise: factor of the standard deviation x + 1/2, >= 0.
      seed: of x and noise.

    Returns:
      {"x": float32 (n, 1), "y": float32 (n, 1)}.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> arrays = heteroscedastic_sine(100, noise=0.0)
      >>> float(abs(arrays["y"] - 2 * np.sin(2 * np.pi * arrays["x"])).max()) < 1e-6
      True

    Source: Goldberg, Williams, Bishop 1998, "Regression with input-dependent noise".
    """
    _check("heteroscedastic_sine", n, 1, noise)
    rng = np.random.default_rng(seed)
    x = rng.random((n, 1))
    y = 2 * np.sin(2 * np.pi * x) + noise * (x + 0.5) * rng.standard_normal((n, 1))
    return {"x": x.astype(np.float32), "y": y.astype(np.float32)}


def inverse_sine(n: int, *, noise: float = 0.05, seed: int = 0) -> Arrays:
    """Return a task with several right answers: y from x = y + 0.3 sin(2 pi y) + noise.

    In the middle three values of y give the same x: their mean, which least squares predicts, is
    none of them; a mixture of densities shows all three.

    Args:
      n: number of points, >= 1.
      noise: half width of the uniform noise on x, >= 0.
      seed: of y and noise.

    Returns:
      {"x": float32 (n, 1), "y": float32 (n, 1) in [0, 1)}.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> inverse_sine(3)["x"].shape
      (3, 1)

    Source: Bishop 1994, "Mixture density networks"; DLB 6.2.2.4.
    """
    _check("inverse_sine", n, 1, noise)
    rng = np.random.default_rng(seed)
    y = rng.random((n, 1))
    x = y + 0.3 * np.sin(2 * np.pi * y) + noise * rng.uniform(-1, 1, (n, 1))
    return {"x": x.astype(np.float32), "y": y.astype(np.float32)}


def _check(function: str, n: int, least: int, noise: float) -> None:
    if n < least:
        raise ValueError(f"{function}(n) must be >= {least}, got {n}")
    if not noise >= 0:
        raise ValueError(f"{function}(noise=...) must be >= 0, got {noise}")
