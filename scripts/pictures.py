"""Draw the pictures of the guide into docs/guide/pictures.

    scripts/run scripts/pictures.py                     # all
    scripts/run scripts/pictures.py line_searches.png   # some

Needs the program dot of Graphviz for those that end in .svg.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from fdl import curvature, data, ops, optim, plots
from fdl.plots import figure as figures
from fdl.plots.figure import COLOURS

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "guide" / "pictures"
PANEL = (4.2, 3.2)  # inches
GOAL = 1e-9  # largest number of a gradient, below which there is only rounding


@contextlib.contextmanager
def panels(path: Path, *titles: str) -> Iterator[list[Axes]]:
    """Give axes side by side, and save the picture when they are filled."""
    figure = Figure(figsize=(PANEL[0] * len(titles), PANEL[1]), layout=figures.layout())
    row = [figure.add_subplot(1, len(titles), i + 1) for i in range(len(titles))]
    for axes, title in zip(row, titles, strict=True):
        figures.style(axes, xlabel="", title=title)
    yield row
    for axes in row:
        figures.legend(axes)
    figures.save(figure, path)


# --- differentiation.md --------------------------------------------------------------------------


def gradient_graph(path: Path) -> None:
    """One layer of units and its squared error, forwards and backwards."""

    def loss(w, x, y):
        return 0.5 * jnp.square(jnp.tanh(x @ w) - y).sum()

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((3, 2), (4, 3), (4, 2))]
    plots.graph(jax.value_and_grad(loss), *shapes, path=path)


# --- curvature.md --------------------------------------------------------------------------------


def curvature_spectrum(path: Path) -> None:
    """Density of the Hessian's eigenvalues, and how fast Lanczos' method finds the ends."""
    digits = data.digits(flat=True)
    x, y = jnp.asarray(digits.train["x"][:200]), jnp.asarray(digits.train["y"][:200])
    keys = jax.random.split(jax.random.key(0))
    params = {
        "w1": 0.1 * jax.random.normal(keys[0], (64, 8)),
        "w2": 0.3 * jax.random.normal(keys[1], (8, 10)),
    }

    def loss(p):
        logits = jax.nn.log_softmax(jnp.tanh(x @ p["w1"]) @ p["w2"])
        return -jnp.take_along_axis(logits, y[:, None], axis=1).mean()

    product = curvature.hvp_operator(loss, params)[1]
    exact = np.linalg.eigvalsh(curvature.hessian(loss, params))
    found = curvature.lanczos_spectrum_density(product, params, jax.random.key(1), samples=4)
    start = jax.tree.map(jnp.ones_like, params)
    matrix = np.asarray(curvature.tridiagonal(curvature.lanczos(product, start, 40)))
    steps = np.arange(1, 41)
    ends = np.array([np.linalg.eigvalsh(matrix[:k, :k])[[0, -1]] for k in steps])
    errors = np.maximum(abs(ends - exact[[0, -1]]), 1e-16)  # 0 has no logarithm
    with panels(path, "density of the eigenvalues", "error of the outermost two") as (left, right):
        left.hist(exact, bins=80, density=True, color="0.8", label="all 592")
        left.plot(found.grid, found.density, color=COLOURS[0], lw=1.4, label="4 x 80 products")
        left.set(xlabel="eigenvalue of the Hessian", yscale="log", ylim=(1e-3, 1e3))
        for name, error, colour in zip(
            ("smallest", "largest"), errors.T, COLOURS[1:3], strict=True
        ):
            right.plot(steps, error, color=colour, lw=1.4, label=name)
        right.set(xlabel="products with the Hessian", yscale="log")


# --- quasi_newton.md -----------------------------------------------------------------------------


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def history(tx: optax.GradientTransformation, fun: Callable, x0: jax.Array, steps: int):
    """Return the gradients asked for before each step, and the largest number of the gradient."""
    value_and_grad = optax.value_and_grad_from_state(fun)

    def step(carry, _):
        x, state, asked = carry
        value, grad = value_and_grad(x, state=state)
        updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=fun)
        more = optax.tree.get_all_with_path(state, "info")[0][1].num_grads
        return (optax.apply_updates(x, updates), state, asked + more), (asked, abs(grad).max())

    begin = (x0, tx.init(x0), jnp.asarray(1))
    return jax.jit(lambda begin: jax.lax.scan(step, begin, length=steps)[1])(begin)


def quasi_newton(path: Path) -> None:
    """The gradient against the number of gradients, in a valley of 2 and of 100 dimensions."""
    methods = {
        "gradient descent": optax.chain(
            optax.sgd(1.0), optim.scale_by_wolfe(initial="interpolate")
        ),
        "nonlinear_cg": optim.nonlinear_cg(),
        "lbfgs": optim.lbfgs(),
        "bfgs": optim.bfgs(),
    }
    start = jnp.array([-1.2, 1.0])
    problems = {
        "Rosenbrock's function": (start, 1000),
        "a chain of it, n = 100": (jnp.tile(start, 50), 10000),
    }
    with panels(path, *problems) as row:
        for axes, (x0, steps) in zip(row, problems.values(), strict=True):
            for (name, tx), colour in zip(methods.items(), ("0.6", *COLOURS[:3]), strict=True):
                asked, size = map(np.asarray, history(tx, rosenbrock, x0, steps))
                seen = np.cumsum(size < GOAL) <= (size < GOAL)  # until the first that is small
                axes.plot(asked[seen], size[seen], color=colour, lw=1.4, label=name)
            axes.set(xscale="log", yscale="log", xlim=(1, steps), ylim=(GOAL, None))
            axes.set(xlabel="gradients", ylabel="largest number of the gradient")


# --- line_searches.md ----------------------------------------------------------------------------


def wavy(x):
    """A slope with waves, so that several stretches are good enough."""
    return 0.05 * (x - 6) ** 2 - 0.5 * jnp.sin(1.7 * x + 0.3)


def tried(search: optax.GradientTransformationExtraArgs, first: float) -> list[float]:
    """Return the steps that a search looks at, which is told to begin with `first`."""
    trials: list[float] = []

    def look(x):
        jax.debug.callback(lambda x: trials.append(float(x)), x)
        return wavy(x)

    x = jnp.asarray(0.0)
    value, grad = jax.value_and_grad(wavy)(x)
    with jax.disable_jit():  # so that the trials come in order
        keywords = {"value": value, "grad": grad, "value_fn": look}
        step, _ = search.update(jnp.asarray(first), search.init(x), x, **keywords)
    assert float(step) in trials
    return trials


def accepted(phi: np.ndarray, slope: np.ndarray, a: np.ndarray, c1: float, c2: float) -> dict:
    """Return where each search may stop: search -> rule -> flags, shape (n,)."""
    decrease = phi <= phi[0] + c1 * a * slope[0]
    flat = slope >= c2 * slope[0]
    nearly = flat & (slope <= (2 * c1 - 1) * slope[0])
    strong = decrease & (abs(slope) <= -c2 * slope[0])
    return {
        "scale_by_armijo": {"decrease": decrease},
        "scale_by_wolfe": {"Wolfe": strong, "approx.": decrease & nearly},
        "scale_by_hager_zhang": {"Wolfe": decrease & flat, "approx.": (phi <= phi[0]) & nearly},
    }


def line_searches(path: Path) -> None:
    """What each search accepts, and what it tries from a first step too long and one too short."""
    c1, c2 = 0.05, 0.1
    searches = {
        "scale_by_armijo": optim.scale_by_armijo(c1=c1),
        "scale_by_wolfe": optim.scale_by_wolfe(c1=c1, c2=c2),
        "scale_by_hager_zhang": optim.scale_by_hager_zhang(c1=c1, c2=c2),
    }
    a = np.linspace(0, 13, 1301)
    phi, slope = map(np.asarray, jax.vmap(jax.value_and_grad(wavy))(jnp.asarray(a)))
    rules = accepted(phi, slope, a, c1, c2)
    with panels(path, *searches) as row:
        for axes, (name, search) in zip(row, searches.items(), strict=True):
            axes.plot(a, phi, color="0.3", lw=1.4)
            axes.set(xlabel="a", ylabel="φ(a)", ylim=(-1.7, 3.4))
            for i, (rule, where) in enumerate(rules[name].items()):
                level = np.where(where, -1.0 - 0.35 * i, np.nan)
                axes.plot(a, level, lw=5, color=("0.5", "0.75")[i], label=rule)
            for first, colour in ((12.5, COLOURS[1]), (0.05, COLOURS[0])):
                mark_trials(axes, np.array(tried(search, first)), colour, f"from {first:g}")


def mark_trials(axes: Axes, steps: np.ndarray, colour: str, label: str) -> None:
    values = np.asarray(wavy(steps))
    axes.plot(steps, values, "o", color=colour, ms=5, label=label)
    for i, at in enumerate(zip(steps, values, strict=True)):
        if i == 0 or abs(steps[i] - steps[i - 1]) > 0.3:  # else the numbers lie on one another
            style = {"textcoords": "offset points", "color": colour, "fontsize": 9, "ha": "center"}
            axes.annotate(str(i + 1), at, (0, 6), **style)


# --- first_order.md, newton.md, outputs.md -------------------------------------------------------


def drawn_by(recipe: str, name: str, path: Path, *settings: str) -> None:
    """A picture that a recipe draws into its run folder."""
    program = FOLDER.parents[2] / "recipes" / f"{recipe}.py"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, program, "--out", str(out), "--quiet", *settings]
        subprocess.run(command, check=True, capture_output=True)
        picture = Image.open(out / name).convert("RGB")
        # without a palette ten maps take 340 kB; two rounds of k-means give lines their colours
        few = picture.quantize(64, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
        few.save(path, optimize=True)


def decision_regions(path: Path) -> None:
    """Two members of an ensemble, and the mean of all."""
    small = ("--steps", "1000", "--hidden", "32", "32", "--batch", "32")
    drawn_by("bagging", "regions.png", path, "--task", "moons", *small)


def learning_curves(path: Path) -> None:
    """What early stopping stops, and the two ways to use the validation data afterwards."""
    recipe = FOLDER.parents[2] / "recipes" / "early_stopping.py"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, recipe, "--out", str(out), "--quiet"]
        subprocess.run(command, check=True, capture_output=True)
        lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        best = json.loads((out / "result.json").read_text(encoding="utf-8"))["best_step"]
    records = [json.loads(line) for line in lines]

    def curve(name: str, first: float = 0, last: float = np.inf) -> np.ndarray:
        """Return steps since `first` and values, shape (2, n)."""
        found = [(r["step"] - first, r[name]) for r in records if name in r]
        return np.array([at for at in found if 0 < at[0] <= last - first]).T

    search = curve("valid_loss")[0].max()
    continued = search + best
    with panels(path, "Loss while the best step is sought", "Loss on the validation part") as row:
        row[0].plot(*curve("train_loss", last=search), color=COLOURS[0], label="training part")
        row[0].plot(*curve("valid_loss"), color=COLOURS[1], label="validation part")
        row[0].axvline(best, color="0.3", ls="--", lw=1, label="best step")
        row[1].plot(*curve("valid_loss", last=search), color=COLOURS[1], label="not learned")
        row[1].plot(
            *curve("known_loss", search, continued), "-o", ms=3, color=COLOURS[2], label="retrained"
        )
        row[1].plot(
            *curve("known_loss", continued) + [[best], [0]],
            "-o",
            ms=3,
            color=COLOURS[3],
            label="continued",
        )
        row[1].axvline(best, color="0.3", ls="--", lw=1, label="best step")
        row[1].set_xlim(0, 2.5 * best)
        for axes in row:
            axes.set_yscale("log")
            axes.set_xlabel("updates")


def landscape(name: str, path: Path) -> None:
    """A function of two variables and the paths of the optimizers on it."""
    drawn_by("landscapes", f"{name}.png", path, "--landscapes", name)


# --- generation.md -------------------------------------------------------------------------------


def sampling(path: Path) -> None:
    """Probabilities of the next token, reshaped by a temperature, and what two filters keep."""
    places = np.arange(1, 15)
    sure, unsure = jnp.asarray(5 * 0.5**places), jnp.asarray(2.0 - 0.14 * places)
    titles = ("temperatures", "where the model is sure", "where it is not")
    with panels(path, *titles) as (left, *others):
        for temperature, colour in zip((0.5, 1.0, 2.0), COLOURS[:3], strict=True):
            probs = jax.nn.softmax(unsure / temperature)
            left.plot(places, probs, "-o", ms=3, lw=1.4, color=colour, label=f"{temperature}")
        for axes, logits in zip(others, (1.8 * sure, unsure), strict=True):
            kept = np.isfinite(ops.top_p_logits(logits, 0.8))
            probs = np.asarray(jax.nn.softmax(logits))
            axes.bar(places, probs, color=np.where(kept, COLOURS[0], "0.85"))
            axes.plot([], [], "s", color=COLOURS[0], label="kept by top_p = 0.8")
            axes.plot([], [], "s", color="0.85", label="not kept")
            axes.axvline(4.5, color=COLOURS[1], ls="--", lw=1.4, label="end of top_k = 4")
        for axes in (left, *others):
            axes.set(xlabel="token, most likely first", xticks=places[::2], ylim=(0, None))
        left.set_ylabel("probability")


PICTURES: dict[str, Callable[[Path], None]] = {
    "gradient_graph.svg": gradient_graph,
    "curvature_spectrum.png": curvature_spectrum,
    "quasi_newton.png": quasi_newton,
    "line_searches.png": line_searches,
    "landscape_valley.png": partial(landscape, "valley"),
    "landscape_bowl.png": partial(landscape, "bowl"),
    "landscape_cliff.png": partial(landscape, "cliff"),
    "landscape_saddle.png": partial(landscape, "saddle"),
    "landscape_waves.png": partial(landscape, "waves"),
    "landscape_rosenbrock.png": partial(landscape, "rosenbrock"),
    "bands.png": partial(drawn_by, "heteroscedastic", "bands.png"),
    "densities.png": partial(drawn_by, "mixture_density", "densities.png"),
    "adversarial.png": partial(drawn_by, "adversarial", "digits.png"),
    "continuation.png": partial(drawn_by, "continuation", "objectives.png"),
    "tangents.png": partial(drawn_by, "tangents", "tangents.png"),
    "regularizers.png": partial(drawn_by, "regularizers", "units.png"),
    "initializers.png": partial(drawn_by, "initializers", "signals.png"),
    "misread.png": partial(drawn_by, "cnn", "misread.png"),
    "gabor.png": partial(drawn_by, "gabor", "filters.png"),
    "resnet_losses.png": partial(drawn_by, "resnet", "losses.png"),
    "resnet_gradients.png": partial(drawn_by, "resnet", "gradients.png"),
    "batchnorm.png": partial(drawn_by, "batchnorm", "convergence.png"),
    "early_stopping.png": learning_curves,
    "regions.png": decision_regions,
    "search.png": partial(drawn_by, "search", "trials.png"),
    "sampling.png": sampling,
    "vanishing.png": partial(drawn_by, "long_term", "gradients.png", "--steps", "1"),
    "clipping.png": partial(drawn_by, "long_term", "losses.png"),
    "attention.png": partial(drawn_by, "seq2seq", "attention.png"),
    "forecast.png": partial(drawn_by, "rnn", "forecast.png"),
    "autoencoder.png": partial(drawn_by, "autoencoder", "codes.png"),
    "fitnets.png": partial(drawn_by, "fitnets", "students.png"),
    "psd_filters.png": partial(drawn_by, "psd", "filters.png"),
    "rbm.png": partial(drawn_by, "rbm", "digits.png"),
    "sparse_atoms.png": partial(drawn_by, "sparse_coding", "atoms.png"),
    "sparse_race.png": partial(drawn_by, "sparse_coding", "race.png"),
    "vae_map.png": partial(drawn_by, "vae", "map.png"),
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in PICTURES]
    if unknown:
        print(f"pictures: must be of {', '.join(PICTURES)}, got {unknown[0]}", file=sys.stderr)
        return 2
    jax.config.update("jax_enable_x64", True)
    FOLDER.mkdir(exist_ok=True)
    for name in names or PICTURES:
        PICTURES[name](FOLDER / name)
        print(f"{(FOLDER / name).stat().st_size / 1000:6.1f} kB  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
