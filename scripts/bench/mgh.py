"""The 35 unconstrained test problems of Moré, Garbow and Hillstrom, several in two or three sizes.

Each is a sum of squares f(x) = sum_i r_i(x)^2, written from the formulas of the paper (ACM
Transactions on Mathematical Software 7, 1981, pages 17 to 41) with its standard starting point and
its published minima. Names end with the number of variables, and the numbers in the comments are
those of the paper. Written for any dtype: constants take that of x.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Residuals = Callable[[Array], Array]


class Problem(NamedTuple):
    """Minimise sum(residuals(x)**2) from x0.

    `best` is the least value known, to six digits; `minima` are the other published ones, where
    good solvers may end as well (some lie at infinity).
    """

    name: str
    residuals: Residuals
    x0: np.ndarray
    best: float
    minima: tuple[float, ...] = ()

    @property
    def n(self) -> int:
        return self.x0.size

    def value(self, x: Array) -> Array:
        return jnp.sum(jnp.square(self.residuals(x)))


def const(x: Array, values: object) -> Array:
    """Return the values in the dtype of x."""
    return jnp.asarray(values, x.dtype)


def count(x: Array, first: int, last: int) -> Array:
    """Return first, ..., last in the dtype of x."""
    return jnp.arange(first, last + 1, dtype=x.dtype)


def rosenbrock(x: Array) -> Array:  # 1, 21
    a, b = x[::2], x[1::2]
    return jnp.concatenate([10 * (b - a**2), 1 - a])


def freudenstein_roth(x: Array) -> Array:  # 2
    a, b = x
    return jnp.stack([-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b])


def powell_badly_scaled(x: Array) -> Array:  # 3
    a, b = x
    return jnp.stack([1e4 * a * b - 1, jnp.exp(-a) + jnp.exp(-b) - 1.0001])


def brown_badly_scaled(x: Array) -> Array:  # 4
    a, b = x
    return jnp.stack([a - 1e6, b - 2e-6, a * b - 2])


def beale(x: Array) -> Array:  # 5
    return const(x, [1.5, 2.25, 2.625]) - x[0] * (1 - x[1] ** jnp.arange(1, 4))


def jennrich_sampson(x: Array) -> Array:  # 6
    i = count(x, 1, 10)
    return 2 + 2 * i - (jnp.exp(i * x[0]) + jnp.exp(i * x[1]))


def helical_valley(x: Array) -> Array:  # 7
    a, b, c = x
    turn = jnp.arctan2(b, a) / (2 * np.pi)
    # The paper's angle runs from -1/4 to 3/4: no cut at (-1, 0), where the iteration starts.
    turn = jnp.where((a < 0) & (turn <= -0.25), turn + 1, turn)
    return jnp.stack([10 * (c - 10 * turn), 10 * (jnp.sqrt(a**2 + b**2) - 1), c])


BARD = [0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39]


def bard(x: Array) -> Array:  # 8
    u = count(x, 1, 15)
    v = 16 - u
    return const(x, BARD) - (x[0] + u / (v * x[1] + jnp.minimum(u, v) * x[2]))


GAUSSIAN = [0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521]


def gaussian(x: Array) -> Array:  # 9
    t = (8 - count(x, 1, 15)) / 2
    y = const(x, [*GAUSSIAN, 0.3989, *reversed(GAUSSIAN)])
    return x[0] * jnp.exp(-x[1] * (t - x[2]) ** 2 / 2) - y


MEYER = [34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744]
MEYER += [8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872]


def meyer(x: Array) -> Array:  # 10
    t = 45 + 5 * count(x, 1, 16)
    return x[0] * jnp.exp(x[1] / (t + x[2])) - const(x, MEYER)


def gulf(x: Array) -> Array:  # 11; the paper prints "y_i m i x_2" where the sources have a minus
    t = count(x, 1, 99) / 100
    y = 25 + (-50 * jnp.log(t)) ** (2 / 3)
    return jnp.exp(-(jnp.abs(y - x[1]) ** x[2]) / x[0]) - t


def box_3d(x: Array) -> Array:  # 12
    t = count(x, 1, 10) / 10
    return jnp.exp(-t * x[0]) - jnp.exp(-t * x[1]) - x[2] * (jnp.exp(-t) - jnp.exp(-10 * t))


def powell_singular(x: Array) -> Array:  # 13, 22
    a, b, c, d = x.reshape(-1, 4).T
    return jnp.concatenate([a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2])


def wood(x: Array) -> Array:  # 14
    a, b, c, d = x
    first = [10 * (b - a**2), 1 - a, 90**0.5 * (d - c**2), 1 - c]
    return jnp.stack([*first, 10**0.5 * (b + d - 2), (b - d) / 10**0.5])


KOWALIK_Y = [0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246]
KOWALIK_U = [4, 2, 1, 0.5, 0.25, 0.1670, 0.1250, 0.1, 0.0833, 0.0714, 0.0625]


def kowalik_osborne(x: Array) -> Array:  # 15
    u = const(x, KOWALIK_U)
    return const(x, KOWALIK_Y) - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


def brown_dennis(x: Array) -> Array:  # 16
    t = count(x, 1, 20) / 5
    left, right = x[0] + t * x[1] - jnp.exp(t), x[2] + x[3] * jnp.sin(t) - jnp.cos(t)
    return left**2 + right**2


OSBORNE_1 = [0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751]
OSBORNE_1 += [0.718, 0.685, 0.658, 0.628, 0.603, 0.580, 0.558, 0.538, 0.522, 0.506, 0.490]
OSBORNE_1 += [0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.420, 0.414, 0.411, 0.406]


def osborne_1(x: Array) -> Array:  # 17
    t = 10 * count(x, 0, 32)
    return const(x, OSBORNE_1) - (x[0] + x[1] * jnp.exp(-t * x[3]) + x[2] * jnp.exp(-t * x[4]))


def biggs_exp6(x: Array) -> Array:  # 18
    t = count(x, 1, 13) / 10
    y = jnp.exp(-t) - 5 * jnp.exp(-10 * t) + 3 * jnp.exp(-4 * t)
    return x[2] * jnp.exp(-t * x[0]) - x[3] * jnp.exp(-t * x[1]) + x[5] * jnp.exp(-t * x[4]) - y


OSBORNE_2 = [1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746]
OSBORNE_2 += [0.679, 0.608, 0.655, 0.616, 0.606, 0.602, 0.626, 0.651, 0.724, 0.649, 0.649]
OSBORNE_2 += [0.694, 0.644, 0.624, 0.661, 0.612, 0.558, 0.533, 0.495, 0.500, 0.423, 0.395]
OSBORNE_2 += [0.375, 0.372, 0.391, 0.396, 0.405, 0.428, 0.429, 0.523, 0.562, 0.607, 0.653]
OSBORNE_2 += [0.672, 0.708, 0.633, 0.668, 0.645, 0.632, 0.591, 0.559, 0.597, 0.625, 0.739]
OSBORNE_2 += [0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098, 0.054]


def osborne_2(x: Array) -> Array:  # 19
    t = count(x, 0, 64) / 10
    bumps = x[1:4, None] * jnp.exp(-((t[None] - x[8:, None]) ** 2) * x[5:8, None])
    return const(x, OSBORNE_2) - (x[0] * jnp.exp(-t * x[4]) + bumps.sum(0))


def watson(x: Array) -> Array:  # 20
    n = x.size
    power = jnp.arange(n)[None]
    t = count(x, 1, 29)[:, None] / 29
    slope = (power[:, 1:] * t ** power[:, :-1]) @ x[1:]
    inner = slope - (t**power @ x) ** 2 - 1
    return jnp.concatenate([inner, x[:1], x[1:2] - x[:1] ** 2 - 1])


def penalty_1(x: Array) -> Array:  # 23
    return jnp.concatenate([1e-5**0.5 * (x - 1), jnp.sum(x**2)[None] - 0.25])


def penalty_2(x: Array) -> Array:  # 24
    n = x.size
    growth = jnp.exp(count(x, 1, n) / 10)
    e = jnp.exp(x / 10)
    pairs = e[1:] + e[:-1] - (growth[1:] + growth[:-1])
    singles = e[1:] - jnp.exp(const(x, -0.1))
    weighted = jnp.sum((n + 1 - count(x, 1, n)) * x**2)[None] - 1
    return jnp.concatenate([x[:1] - 0.2, 1e-5**0.5 * pairs, 1e-5**0.5 * singles, weighted])


def variably_dimensioned(x: Array) -> Array:  # 25
    total = jnp.sum(count(x, 1, x.size) * (x - 1))
    return jnp.concatenate([x - 1, jnp.stack([total, total**2])])


def trigonometric(x: Array) -> Array:  # 26
    cosine = jnp.cos(x)
    return x.size - jnp.sum(cosine) + count(x, 1, x.size) * (1 - cosine) - jnp.sin(x)


def brown_almost_linear(x: Array) -> Array:  # 27
    return jnp.concatenate([x[:-1] + jnp.sum(x) - (x.size + 1), jnp.prod(x)[None] - 1])


def shifted(x: Array, by: int) -> Array:
    """Return y with y_i = x_(i - by), zero beyond the ends."""
    return jnp.pad(x, (by, 0))[: x.size] if by >= 0 else jnp.pad(x, (0, -by))[-by:]


def discrete_boundary_value(x: Array) -> Array:  # 28
    h = 1 / (x.size + 1)
    t = h * count(x, 1, x.size)
    return 2 * x - shifted(x, 1) - shifted(x, -1) + h**2 * (x + t + 1) ** 3 / 2


def discrete_integral(x: Array) -> Array:  # 29
    h = 1 / (x.size + 1)
    t = h * count(x, 1, x.size)
    cube = (x + t + 1) ** 3
    below = jnp.cumsum(t * cube)
    right = (1 - t) * cube
    above = jnp.sum(right) - jnp.cumsum(right)
    return x + h * ((1 - t) * below + t * above) / 2


def broyden_tridiagonal(x: Array) -> Array:  # 30
    return (3 - 2 * x) * x - shifted(x, 1) - 2 * shifted(x, -1) + 1


def broyden_banded(x: Array) -> Array:  # 31: five neighbours below, one above
    y = x * (1 + x)
    return x * (2 + 5 * x**2) + 1 - sum(shifted(y, by) for by in (5, 4, 3, 2, 1, -1))


ROWS = 20  # the m of the three linear problems


def linear_full_rank(x: Array) -> Array:  # 32
    return jnp.pad(x, (0, ROWS - x.size)) - 2 / ROWS * jnp.sum(x) - 1


def linear_rank_1(x: Array) -> Array:  # 33
    return count(x, 1, ROWS) * jnp.sum(count(x, 1, x.size) * x) - 1


def linear_rank_1_zero(x: Array) -> Array:  # 34: first and last row and column are zero
    inner = jnp.sum(count(x, 2, x.size - 1) * x[1:-1])
    return jnp.pad(count(x, 1, ROWS - 2), 1) * inner - 1


def chebyquad(x: Array) -> Array:  # 35
    n = x.size
    y = 2 * x - 1

    def up(pair: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        older, newer = pair
        return (newer, 2 * y * newer - older), jnp.mean(newer)

    _, means = jax.lax.scan(up, (jnp.ones_like(y), y), None, length=n)
    i = np.arange(1, n + 1)
    return means + const(x, np.where(i % 2, 0, 1 / np.maximum(i**2 - 1, 1)))


def steps(n: int) -> np.ndarray:
    return np.arange(1, n + 1, dtype=float)


def boundary(n: int) -> np.ndarray:
    t = steps(n) / (n + 1)
    return t * (t - 1)


def start(*values: float, repeat: int = 1) -> np.ndarray:
    return np.tile(np.array(values, float), repeat)


RANK_1 = ROWS * (ROWS - 1) / (2 * (2 * ROWS + 1))
RANK_1_ZERO = (ROWS**2 + 3 * ROWS - 6) / (2 * (2 * ROWS - 3))
POWELL = (3.0, -1.0, 0.0, 1.0)
OSBORNE_2_START = (1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5)

PROBLEMS = [
    Problem("rosenbrock-2", rosenbrock, start(-1.2, 1), 0.0),
    Problem("freudenstein-roth-2", freudenstein_roth, start(0.5, -2), 0.0, (48.9842,)),
    Problem("powell-badly-scaled-2", powell_badly_scaled, start(0, 1), 0.0),
    Problem("brown-badly-scaled-2", brown_badly_scaled, start(1, 1), 0.0),
    Problem("beale-2", beale, start(1, 1), 0.0),
    Problem("jennrich-sampson-2", jennrich_sampson, start(0.3, 0.4), 124.362),
    Problem("helical-valley-3", helical_valley, start(-1, 0, 0), 0.0),
    Problem("bard-3", bard, start(1, 1, 1), 8.21487e-3, (17.4286,)),
    Problem("gaussian-3", gaussian, start(0.4, 1, 0), 1.12793e-8),
    Problem("meyer-3", meyer, start(0.02, 4000, 250), 87.9458),
    Problem("gulf-3", gulf, start(5, 2.5, 0.15), 0.0),
    Problem("box-3d-3", box_3d, start(0, 10, 20), 0.0),
    Problem("powell-singular-4", powell_singular, start(*POWELL), 0.0),
    Problem("wood-4", wood, start(-3, -1, -3, -1), 0.0),
    Problem(
        "kowalik-osborne-4",
        kowalik_osborne,
        start(0.25, 0.39, 0.415, 0.39),
        3.07505e-4,
        (1.02734e-3,),
    ),
    Problem("brown-dennis-4", brown_dennis, start(25, 5, -5, -1), 85822.2),
    Problem("osborne-1-5", osborne_1, start(0.5, 1.5, -1, 0.01, 0.02), 5.46489e-5),
    Problem("biggs-exp6-6", biggs_exp6, start(1, 2, 1, 1, 1, 1), 0.0, (5.65565e-3,)),
    Problem("osborne-2-11", osborne_2, start(*OSBORNE_2_START), 4.01377e-2),
    Problem("watson-6", watson, np.zeros(6), 2.28767e-3),
    Problem("watson-9", watson, np.zeros(9), 1.39976e-6),
    Problem("watson-12", watson, np.zeros(12), 4.72238e-10),
    Problem("rosenbrock-10", rosenbrock, start(-1.2, 1, repeat=5), 0.0),
    Problem("rosenbrock-100", rosenbrock, start(-1.2, 1, repeat=50), 0.0),
    Problem("powell-singular-12", powell_singular, start(*POWELL, repeat=3), 0.0),
    Problem("powell-singular-60", powell_singular, start(*POWELL, repeat=15), 0.0),
    Problem("penalty-1-4", penalty_1, steps(4), 2.24997e-5),
    Problem("penalty-1-10", penalty_1, steps(10), 7.08765e-5),
    Problem("penalty-2-4", penalty_2, np.full(4, 0.5), 9.37629e-6),
    Problem("penalty-2-10", penalty_2, np.full(10, 0.5), 2.93660e-4),
    Problem("variably-dimensioned-10", variably_dimensioned, 1 - steps(10) / 10, 0.0),
    Problem("trigonometric-10", trigonometric, np.full(10, 0.1), 0.0, (2.79506e-5,)),
    Problem("brown-almost-linear-10", brown_almost_linear, np.full(10, 0.5), 0.0, (1.0,)),
    Problem("discrete-boundary-value-10", discrete_boundary_value, boundary(10), 0.0),
    Problem("discrete-integral-10", discrete_integral, boundary(10), 0.0),
    Problem("broyden-tridiagonal-10", broyden_tridiagonal, np.full(10, -1.0), 0.0),
    Problem("broyden-banded-10", broyden_banded, np.full(10, -1.0), 0.0),
    Problem("linear-full-rank-10", linear_full_rank, np.ones(10), ROWS - 10.0),
    Problem("linear-rank-1-10", linear_rank_1, np.ones(10), RANK_1),
    Problem("linear-rank-1-zero-10", linear_rank_1_zero, np.ones(10), RANK_1_ZERO),
    Problem("chebyquad-8", chebyquad, steps(8) / 9, 3.51687e-3),
    Problem("chebyquad-10", chebyquad, steps(10) / 11, 4.77271e-3, (6.50395e-3,)),
]
