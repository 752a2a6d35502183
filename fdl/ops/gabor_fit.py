"""The Gabor function nearest to a filter, by least squares."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.ops.gabor import gabor
from fdl.types import Array

SIZES = (1.0, 2.0)  # deviations of the windows that the search begins with, in pixels
FEWEST = 0.6  # pixels: a narrower window holds a single pixel, which tells nothing of a wave


class GaborFit(NamedTuple):
    """Gabor functions and how well they fit; each field has shape (filters,).

    The first eight are arguments of `fdl.ops.gabor`, with positions in pixels from the middle.
    """

    frequency: Array  # radians a pixel, 0 to pi
    orientation: Array  # radians, direction in which the wave runs
    phase: Array
    beta_x: Array
    beta_y: Array
    amplitude: Array
    x0: Array
    y0: Array
    residual: Array  # share of sum w^2 that is left, 0 to 1

    def draw(self, height: int, width: int) -> Array:
        """Return the functions on the pixels of such filters, shape (filters, height, width)."""
        y, x = _pixels(height, width)
        return jax.vmap(lambda each: gabor(x, y, **each))(
            {name: value for name, value in self._asdict().items() if name != "residual"}
        )


def fit_gabor(filters: ArrayLike, *, steps: int = 40) -> GaborFit:
    """Fit a Gabor function to each filter: least |w - gabor|^2.

    Amplitude and phase are solved for at any value of the other six (variable projection); these
    move by damped Gauss-Newton steps (Levenberg and Marquardt) from several starts, of which the
    best is kept: wave and centre as the spectrum and the energy of the filter say, windows of two
    sizes. The window's deviations stay between 0.6 pixels and the side of the filter.

    Args:
      filters: shape (n, height, width), both sides >= 3, floating point.
      steps: from each start, >= 1.

    Returns:
      The fits. The residual is a least value found, the true one at most as large.

    Raises:
      ValueError: for another shape.

    Example:
      >>> y, x = jnp.mgrid[-4:5, -4:5]
      >>> wave = gabor(x, y, frequency=1.0, orientation=0.5, beta_x=0.1, beta_y=0.05, x0=1.0)
      >>> fit = fit_gabor(wave[None])
      >>> bool(fit.residual[0] < 1e-4), round(float(fit.frequency[0]), 2)
      (True, 1.0)

    Source: Jones and Palmer 1987; DLB 9.10; Golub and Pereyra 1973 for the projection.
    """
    w = jnp.asarray(filters)
    if w.ndim != 3 or min(w.shape[1:]) < 3:
        raise ValueError(f"fit_gabor(filters) must be (n, height, width) >= 3, got {w.shape}")
    if steps < 1:
        raise ValueError(f"fit_gabor(steps=...) must be >= 1, got {steps}")
    return jax.vmap(lambda one: _fit(one, steps))(w)


def _fit(w: Array, steps: int) -> GaborFit:
    height, width = w.shape
    y, x = _pixels(height, width)
    x, y, target = x.reshape(-1).astype(w.dtype), y.reshape(-1).astype(w.dtype), w.reshape(-1)
    target = target / jnp.sqrt(jnp.square(target).sum() + jnp.finfo(w.dtype).tiny)
    bounds = 0.5 / max(height, width) ** 2, 0.5 / FEWEST**2

    def waves(theta: Array) -> tuple[Array, Array]:
        """The two quadrature waves, (pixels, 2), and the best weights of them."""
        frequency, orientation, log_x, log_y, x0, y0 = theta
        shape = {"beta_x": jnp.exp(log_x), "beta_y": jnp.exp(log_y), "x0": x0, "y0": y0}
        shape |= {"frequency": frequency, "orientation": orientation}
        pair = jnp.stack([gabor(x, y, phase=phase, **shape) for phase in (0.0, -jnp.pi / 2)], 1)
        (aa, ab), (_, bb) = pair.T @ pair
        aa, bb = aa + 1e-6, bb + 1e-6  # a little ridge: at frequency 0 the second wave is 0
        a, b = pair.T @ target
        return pair, jnp.stack([bb * a - ab * b, aa * b - ab * a]) / (aa * bb - ab * ab)

    def rest(theta: Array) -> Array:
        pair, weights = waves(theta)
        return target - pair @ weights

    def legal(theta: Array) -> Array:
        low = jnp.array([0.0, -jnp.inf, jnp.log(bounds[0]), jnp.log(bounds[0]), x[0] - 1, y[0] - 1])
        high = jnp.array(
            [jnp.pi, jnp.inf, jnp.log(bounds[1]), jnp.log(bounds[1]), -x[0] + 1, -y[0] + 1]
        )
        return jnp.clip(theta, low.astype(w.dtype), high.astype(w.dtype))

    def improve(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        theta, damping = carry
        error, slopes = rest(theta), jax.jacfwd(rest)(theta)
        normal = slopes.T @ slopes
        scale = jnp.diag(jnp.diag(normal) + 1e-6)
        new = legal(theta - jnp.linalg.solve(normal + damping * scale, slopes.T @ error))
        better = jnp.square(rest(new)).sum() < jnp.square(error).sum()
        damping = jnp.clip(jnp.where(better, damping / 3, damping * 4), 1e-6, 1e6)
        return (jnp.where(better, new, theta), damping), None

    def search(start: Array) -> tuple[Array, Array]:
        first = (start, jnp.asarray(0.1, w.dtype))
        (theta, _), _ = jax.lax.scan(improve, first, None, length=steps)
        return theta, jnp.square(rest(theta)).sum()

    found, left = jax.vmap(search)(_starts(target.reshape(w.shape), x, y))
    theta = found[jnp.argmin(left)]
    (a, b), size = waves(theta)[1], jnp.sqrt(jnp.square(w).sum())
    return GaborFit(
        theta[0],
        theta[1],
        jnp.arctan2(-b, a),  # a cos(u) + b sin(u) = |(a, b)| cos(u + phase)
        jnp.exp(theta[2]),
        jnp.exp(theta[3]),
        size * jnp.hypot(a, b),
        theta[4],
        theta[5],
        left.min(),
    )


def _pixels(height: int, width: int) -> tuple[Array, Array]:
    """Vertical and horizontal positions, from the middle."""
    rows, columns = (jnp.arange(n) - (n - 1) / 2 for n in (height, width))
    y, x = jnp.meshgrid(rows, columns, indexing="ij")
    return y, x


def _starts(w: Array, x: Array, y: Array) -> Array:
    """Begin with the strongest wave, a slower and a turned one, in windows of two sizes."""
    energy = jnp.square(w).reshape(-1)
    x0, y0 = (energy * x).sum(), (energy * y).sum()
    side = 32  # zero padding: finer steps between frequencies
    power = jnp.square(jnp.abs(jnp.fft.fft2(w, s=(side, side))))[:, : side // 2]
    down, right = jnp.unravel_index(power.reshape(-1).argmax(), power.shape)
    down = jnp.where(down > side // 2, down - side, down)
    wave = 2 * jnp.pi / side * jnp.stack([right, down]).astype(w.dtype)
    frequency, orientation = jnp.hypot(*wave), jnp.arctan2(wave[1], wave[0])
    starts = [
        jnp.stack([f, orientation + turn, log_beta, log_beta, x0, y0]).astype(w.dtype)
        for f in (frequency, 0.6 * frequency)
        for turn in (0.0, 0.5)
        for log_beta in (-jnp.log(2.0 * jnp.square(s)) for s in SIZES)
    ]
    return jnp.stack(starts)
