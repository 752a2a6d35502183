"""Draw the data profile: what share of the problems is solved within so much work.

A problem counts as solved where the gradient test is met and the value is the best that any solver
reached. Left those that see gradients alone, right those with products of the Hessian, too.
"""

from typing import Any

from tables import Table, works

OURS = {"linewidth": 2.5}
PEER = {"linewidth": 1.5, "linestyle": "--"}
OTHER = {"linewidth": 1.5, "linestyle": ":"}
# one colour for a method; solid, dashed and dotted for who wrote it
PANELS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "gradients only": {
        "fdl-bfgs": ("C0", OURS),
        "scipy-bfgs": ("C0", PEER),
        "optx-bfgs": ("C0", OTHER),
        "fdl-lbfgs": ("C1", OURS),
        "scipy-lbfgsb": ("C1", PEER),
        "optax-lbfgs": ("C1", OTHER),
        "fdl-nonlinear_cg": ("C2", OURS),
        "scipy-cg": ("C2", PEER),
    },
    "with Hessians": {
        "fdl-newton": ("C3", OURS),
        "scipy-trust-exact": ("C3", PEER),
        "fdl-newton_cg": ("C4", OURS),
        "scipy-newton-cg": ("C4", PEER),
        "fdl-saddle_free_newton": ("C5", OURS),
    },
}
NAMES = {"optx": "optimistix", "scipy": "SciPy"}


def profile(table: Table, solver: str) -> tuple[list[int], list[float]]:
    """Return the costs at which a solver's share grows, and the share in % from each on."""
    costs = sorted(works(r) for r in table.of(solver) if table.to_best(r))
    return costs, [100 * (k + 1) / len(table.problems) for k in range(len(costs))]


def draw(table: Table, path: str) -> None:
    """Draw both panels into a file, of the solvers that ran."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
    for axis, (title, shown) in zip(axes, PANELS.items(), strict=True):
        for solver, (color, style) in shown.items():
            if solver in table.solvers:
                costs, shares = profile(table, solver)
                x, y = [1, *costs, 10**5], [0.0, *shares, (shares or [0.0])[-1]]
                library, _, method = solver.partition("-")
                label = f"{NAMES.get(library, library)} {method.replace('_', ' ')}"
                axis.step(x, y, where="post", label=label, color=color, **style)
        axis.set(xscale="log", xlim=(10, 10**4), ylim=(0, 101), title=title)
        axis.set_xlabel("work: values + 2 gradients + 4 Hessian products")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, loc="lower right")
    axes[0].set_ylabel("problems solved, %")
    figure.savefig(path, dpi=100)
    plt.close(figure)
