"""Problems for judging, never for tuning: well-known ones of the CUTE collection, from formulas.

Bongartz, Conn, Gould and Toint 1995, "CUTE: constrained and unconstrained testing environment", and
the sources named there; n is chosen small. `best` is the least value known, None where it is not.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Function = Callable[[Array], Array]


class Smooth(NamedTuple):
    """Minimise value(x) from x0."""

    name: str
    value: Function
    x0: np.ndarray
    best: float | None = None

    @property
    def n(self) -> int:
        return self.x0.size


def total(x: Array) -> Array:
    return jnp.sum(x)


def steps(x: Array) -> Array:
    return jnp.arange(1, x.size + 1, dtype=x.dtype)


def arwhead(x: Array) -> Array:
    return total((x[:-1] ** 2 + x[-1] ** 2) ** 2 - 4 * x[:-1] + 3)


def bdqrtic(x: Array) -> Array:
    a, b, c, d = x[:-4] ** 2, x[1:-3] ** 2, x[2:-2] ** 2, x[3:-1] ** 2
    inner = a + 2 * b + 3 * c + 4 * d + 5 * x[-1] ** 2
    return total((3 - 4 * x[:-4]) ** 2 + inner**2)


def cragglvy(x: Array) -> Array:
    a, b, c, d = x[:-3:2], x[1:-2:2], x[2:-1:2], x[3::2]
    gap = c - d
    return total(
        (jnp.exp(a) - b) ** 4 + 100 * (b - c) ** 6 + (jnp.tan(gap) + gap) ** 4 + a**8 + (d - 1) ** 2
    )


def edensch(x: Array) -> Array:
    a, b = x[:-1], x[1:]
    return 16 + total((a - 2) ** 4 + (a * b - 2 * b) ** 2 + (b + 1) ** 2)


def engval1(x: Array) -> Array:
    return total((x[:-1] ** 2 + x[1:] ** 2) ** 2 - 4 * x[:-1] + 3)


def genrose(x: Array) -> Array:
    return 1 + total(100 * (x[1:] - x[:-1] ** 2) ** 2 + (x[1:] - 1) ** 2)


def liarwhd(x: Array) -> Array:
    return total(4 * (x**2 - x[0]) ** 2 + (x - 1) ** 2)


def nondia(x: Array) -> Array:
    return (x[0] - 1) ** 2 + total(100 * (x[0] - x[:-1] ** 2) ** 2)


def power(x: Array) -> Array:
    return total(steps(x) * x**2) ** 2


def quartc(x: Array) -> Array:
    return total((x - steps(x)) ** 4)


def extrosnb(x: Array) -> Array:
    return (x[0] - 1) ** 2 + 100 * total((x[1:] - x[:-1] ** 2) ** 2)


def tridia(x: Array) -> Array:
    return (x[0] - 1) ** 2 + total(steps(x)[1:] * (2 * x[1:] - x[:-1]) ** 2)


def woods(x: Array) -> Array:
    a, b, c, d = x.reshape(-1, 4).T
    rosen = 100 * (b - a**2) ** 2 + (1 - a) ** 2 + 90 * (d - c**2) ** 2 + (1 - c) ** 2
    return total(rosen + 10 * (b + d - 2) ** 2 + (b - d) ** 2 / 10)


def tointgss(x: Array) -> Array:
    a, b, c = x[:-2], x[1:-1], x[2:]
    well = 2 - jnp.exp(-((a - b) ** 2) / (0.1 + c**2))
    return total((10 / (x.size + 2) + c**2) * well)


def vareigvl(x: Array) -> Array:
    """Sum |r|^1.5 for the eigenpair (x_1..x_n, mu) of a banded matrix."""
    mu, v = x[-1], x[:-1]
    i = steps(v)
    row, column = i[:, None], i[None]
    matrix = jnp.sin(row * column) * jnp.exp(-((row - column) ** 2) / 6)
    matrix = jnp.where(jnp.abs(row - column) <= 6, matrix, 0)
    r = jnp.append(matrix @ v - mu * v, total(v**2) - 1)
    return total(jnp.abs(r) ** 1.5)


def fletchcr(x: Array) -> Array:
    return 100 * total((x[1:] - x[:-1] + 1 - x[:-1] ** 2) ** 2)


def curly10(x: Array) -> Array:
    q = jnp.convolve(jnp.pad(x, (0, 10)), jnp.ones(11, x.dtype), "valid")
    return total(q * (q * (q**2 - 20) - 0.1))


def cosine(x: Array) -> Array:
    return total(jnp.cos(x[:-1] ** 2 - x[1:] / 2))


def schmvett(x: Array) -> Array:
    a, b, c = x[:-2], x[1:-1], x[2:]
    wave = jnp.sin((np.pi * b + c) / 2)
    return -total(1 / (1 + (a - b) ** 2) + wave + jnp.exp(-(((a + c) / b - 2) ** 2)))


def dixmaan(alpha: float, beta: float, gamma: float, delta: float, *k: int) -> Function:
    def value(x: Array) -> Array:
        n, m = x.size, x.size // 3
        s = steps(x) / n
        square = alpha * x**2 * s ** k[0]
        chain = beta * x[:-1] ** 2 * (x[1:] + x[1:] ** 2) ** 2 * s[:-1] ** k[1]
        pairs = gamma * x[: 2 * m] ** 2 * x[m:] ** 4 * s[: 2 * m] ** k[2]
        cross = delta * x[:m] * x[2 * m :] * s[:m] ** k[3]
        return 1 + total(square) + total(chain) + total(pairs) + total(cross)

    return value


def dqdrtic(x: Array) -> Array:
    return total(x[:-2] ** 2 + 100 * x[1:-1] ** 2 + 100 * x[2:] ** 2)


def hilberta(x: Array) -> Array:
    i = steps(x)
    return x @ ((1 / (i[:, None] + i[None] - 1)) @ x)


def cube(x: Array) -> Array:
    return (x[0] - 1) ** 2 + 100 * total((x[1:] - x[:-1] ** 3) ** 2)


def cliff(x: Array) -> Array:
    gap = x[0] - x[1]
    return ((x[0] - 3) / 100) ** 2 - gap + jnp.exp(20 * gap)


def sineval(x: Array) -> Array:
    return 100 * (x[1] - jnp.sin(x[0])) ** 2 + x[0] ** 2 / 4


def denschna(x: Array) -> Array:
    return x[0] ** 4 + (x[0] + x[1]) ** 2 + jnp.expm1(x[1]) ** 2


def freuroth(x: Array) -> Array:
    a, b = x[:-1], x[1:]
    left = a - 13 + ((5 - b) * b - 2) * b
    return total(left**2 + (a - 29 + ((b + 1) * b - 14) * b) ** 2)


def eg2(x: Array) -> Array:
    return total(jnp.sin(x[0] + x[:-1] ** 2 - 1)) + jnp.sin(x[-1] ** 2) / 2


def genhumps(x: Array) -> Array:
    wave = jnp.sin(2 * x) ** 2
    return total(wave[:-1] * wave[1:] + 0.05 * (x[:-1] ** 2 + x[1:] ** 2))


def heart6ls(x: Array) -> Array:
    a, c, t, u, v, w = x
    b, d = -0.816 - a, -0.017 - c
    r = [
        t * a + u * b - v * c - w * d + 1.826,
        v * a + w * b + t * c + u * d + 0.754,
        a * (t**2 - v**2) - 2 * c * t * v + b * (u**2 - w**2) - 2 * d * u * w + 4.839,
        c * (t**2 - v**2) + 2 * a * t * v + d * (u**2 - w**2) + 2 * b * u * w + 3.259,
        a * t * (t**2 - 3 * v**2)
        + c * v * (v**2 - 3 * t**2)
        + b * u * (u**2 - 3 * w**2)
        + d * w * (w**2 - 3 * u**2)
        + 14.023,
        c * t * (t**2 - 3 * v**2)
        - a * v * (v**2 - 3 * t**2)
        + d * u * (u**2 - 3 * w**2)
        - b * w * (w**2 - 3 * u**2)
        - 15.467,
    ]
    return total(jnp.stack(r) ** 2)


def full(n: int, value: float) -> np.ndarray:
    return np.full(n, value)


def alternating(n: int, first: float, second: float) -> np.ndarray:
    return np.tile([first, second], n // 2)


RAMP = np.arange(1, 51) / 51

PROBLEMS = [
    Smooth("ARWHEAD", arwhead, full(50, 1.0), 0.0),
    Smooth("BDQRTIC", bdqrtic, full(50, 1.0)),
    Smooth("CRAGGLVY", cragglvy, np.append(1.0, full(49, 2.0)), 15.3720),
    Smooth("EDENSCH", edensch, full(36, 0.0), 219.278),
    Smooth("ENGVAL1", engval1, full(50, 2.0)),
    Smooth("GENROSE", genrose, RAMP, 1.0),
    Smooth("LIARWHD", liarwhd, full(36, 4.0), 0.0),
    Smooth("NONDIA", nondia, full(50, -1.0), 0.0),
    Smooth("POWER", power, full(30, 1.0), 0.0),
    Smooth("QUARTC", quartc, full(25, 2.0), 0.0),
    Smooth("EXTROSNB", extrosnb, full(10, -1.0), 0.0),
    Smooth("TRIDIA", tridia, full(50, 1.0), 0.0),
    Smooth("WOODS", woods, alternating(40, -3.0, -1.0), 0.0),
    Smooth("TOINTGSS", tointgss, full(50, 3.0)),
    Smooth("VAREIGVL", vareigvl, np.append(full(50, 1.0), 0.0), 0.0),
    Smooth("FLETCHCR", fletchcr, full(50, 0.0), 0.0),
    Smooth("CURLY10", curly10, 1e-4 * RAMP),
    Smooth("COSINE", cosine, full(50, 1.0), -49.0),
    Smooth("SCHMVETT", schmvett, full(50, 0.5), -144.0),
    Smooth("DIXMAANA", dixmaan(1, 0, 0.125, 0.125, 0, 0, 0, 0), full(60, 2.0), 1.0),
    Smooth("DIXMAAND", dixmaan(1, 0.26, 0.26, 0.26, 0, 0, 0, 0), full(60, 2.0), 1.0),
    Smooth("DIXMAANE", dixmaan(1, 0, 0.125, 0.125, 1, 0, 0, 1), full(60, 2.0), 1.0),
    Smooth("DIXMAANL", dixmaan(1, 0.26, 0.26, 0.26, 2, 0, 0, 2), full(60, 2.0), 1.0),
    Smooth("DQDRTIC", dqdrtic, full(50, 3.0), 0.0),
    Smooth("HILBERTA", hilberta, full(10, 1.0), 0.0),
    Smooth("CUBE", cube, np.array([-1.2, 1.0]), 0.0),
    Smooth("CLIFF", cliff, np.array([0.0, -1.0]), 0.199787),
    Smooth("SINEVAL", sineval, np.array([4.712389, -1.0]), 0.0),
    Smooth("DENSCHNA", denschna, full(2, 1.0), 0.0),
    Smooth("FREUROTH", freuroth, np.array([0.5, -2.0, *[0.0] * 8])),
    Smooth("EG2", eg2, full(50, 0.0), -49.5),
    Smooth("GENHUMPS", genhumps, np.append(-506.0, full(4, 506.2)), 0.0),
    Smooth("HEART6LS", heart6ls, np.array([0.0, 0, 1, 1, 1, 1]), 0.0),
]
