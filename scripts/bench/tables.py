"""Tables, goals and the picture of the optimizer benchmark, from a list of results."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from harness import Result

SECOND_ORDER = ("newton", "trust", "hessian")  # parts of names
EQUAL = 1e-3  # two ends are equal within this share of the whole decrease


class Table:
    """Results by solver and problem, over the problems that every solver ran on."""

    def __init__(self, results: Sequence[Result]):
        self.solvers = list(dict.fromkeys(r.solver for r in results))
        self.by = {(r.solver, r.problem): r for r in results}
        names = dict.fromkeys(r.problem for r in results)
        self.problems = [p for p in names if all((s, p) in self.by for s in self.solvers)]
        self.best = {p: self._best(p) for p in self.problems}

    def _best(self, problem: str) -> float:
        ends = (self.by[s, problem].f for s in self.solvers)
        return min((f for f in ends if math.isfinite(f)), default=math.nan)

    def of(self, solver: str) -> list[Result]:
        return [self.by[solver, p] for p in self.problems]

    def to_best(self, r: Result) -> bool:
        best = self.best[r.problem]
        return r.solved and r.f - best <= EQUAL * (r.f0 - best) + 1e-300

    def share(self, flags: Iterable[bool]) -> float:
        return 100 * sum(flags) / max(len(self.problems), 1)

    def least(self, problem: str, cost: Callable[[Result], int]) -> int | None:
        """Return the least cost at which a first-order solver solved the problem, if one did."""
        first = [s for s in self.solvers if not any(part in s for part in SECOND_ORDER)]
        rows = [self.by[s, problem] for s in first]
        return min((cost(r) for r in rows if self.to_best(r)), default=None)

    def summary(self) -> str:
        solved = {r.problem for r in self.by.values() if r.solved}
        ng = {p: self.least(p, lambda r: r.ng) for p in self.problems}
        work = {p: self.least(p, lambda r: r.work) for p in self.problems}
        profiled = [p for p in self.problems if ng[p]]
        rows = [
            f"problems with every solver run: {len(self.problems)}; solved by at least one: "
            f"{len(solved & set(self.problems))}; profile over {len(profiled)}",
            "",
            "| solver | solved % | solved to best f % | nan/err | med ng | med ng/best | "
            "med work/best | within 1.5x | within 2x | within 4x (ng, of all) | med it |",
            "|---" * 11 + "|",
        ]
        for solver in self.solvers:
            results = self.of(solver)
            good = [r for r in results if r.solved]
            ratios = [r.ng / ng[r.problem] for r in good if ng[r.problem]]
            works = [r.work / work[r.problem] for r in good if work[r.problem]]
            ends = [self.by[solver, p] for p in profiled]
            within = [
                sum(self.to_best(r) and r.ng <= tau * ng[r.problem] for r in ends)
                / max(len(profiled), 1)
                for tau in (1.5, 2, 4)
            ]
            cells = [
                solver,
                f"{self.share(r.solved for r in results):.1f}",
                f"{self.share(self.to_best(r) for r in results):.1f}",
                str(sum(r.bad for r in results)),
                *(f"{median(v):.4g}" for v in ([r.ng for r in good], ratios, works)),
                *(f"{share:.2f}" for share in within),
                f"{median([r.iterations for r in good]):.4g}",
            ]
            rows.append("| " + " | ".join(cells) + " |")
        return "\n".join(rows)

    def ratio(self, a: str, b: str, cost: Callable[[Result], int]) -> tuple[float, int]:
        """Return the geometric mean of cost(a) / cost(b) where both end alike, and how many."""
        logs = []
        for problem in self.problems:
            one, two = self.by[a, problem], self.by[b, problem]
            room = EQUAL * (one.f0 - min(one.f, two.f)) + 1e-300
            if one.solved and two.solved and abs(one.f - two.f) <= room and cost(two):
                logs.append(math.log(max(cost(one), 1) / cost(two)))
        return (math.exp(statistics.fmean(logs)), len(logs)) if logs else (math.nan, 0)

    def pairwise(self) -> str:
        rows = [
            "geometric mean of ng (and work), over problems both solve with equal final f",
            "",
            "| solver | " + " | ".join(f"vs {s}" for s in self.solvers) + " |",
            "|---" * (len(self.solvers) + 1) + "|",
        ]
        for a in self.solvers:
            cells = []
            for b in self.solvers:
                (ng, n), (work, _) = self.ratio(a, b, gradients), self.ratio(a, b, works)
                cells.append(f"{ng:.2f} ({work:.2f}) n={n}")
            rows.append(f"| {a} | " + " | ".join(cells) + " |")
        return "\n".join(rows)


def gradients(r: Result) -> int:
    return r.ng


def works(r: Result) -> int:
    return r.work


def products(r: Result) -> int:
    return r.nh


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else math.nan


# goal, what is compared, with whom (ratios) or nothing (shares), the bound
RATIOS = [
    ("G2", "fdl-bfgs", gradients, "scipy-lbfgsb", 0.95),
    ("G2", "fdl-bfgs", gradients, "scipy-bfgs", 0.75),
    ("G2", "fdl-bfgs", gradients, "optx-bfgs", 1.0),
    ("G3", "fdl-bfgs", works, "scipy-lbfgsb", 0.95),
    ("G3", "fdl-bfgs", works, "scipy-bfgs", 0.75),
    ("G4", "fdl-lbfgs", gradients, "optax-lbfgs", 0.95),
    ("G5", "fdl-nonlinear_cg", gradients, "scipy-cg", 0.85),
    ("G6", "fdl-newton", gradients, "scipy-trust-exact", 1.0),
    ("G6", "fdl-newton", products, "scipy-trust-exact", 1.0),
    ("G6", "fdl-saddle_free_newton", gradients, "scipy-trust-exact", 1.0),
    ("G6", "fdl-saddle_free_newton", products, "scipy-trust-exact", 1.0),
    ("G6", "fdl-newton_cg", gradients, "scipy-trust-exact", 1.0),
    ("G6", "fdl-newton_cg", products, "scipy-trust-exact", 1.0),
]
SHARES = {  # goal, least solved %, least solved to best f %
    "fdl-bfgs": ("G1", 97.7, 93.8),
    "fdl-lbfgs": ("G4", 97.7, None),
    "fdl-nonlinear_cg": ("G5", 96.0, None),
    "fdl-newton": ("G6", 97.7, 94.0),
    "fdl-saddle_free_newton": ("G6", 97.7, 94.0),
    "fdl-newton_cg": ("G6", 97.7, 94.0),
}
QUASI_NEWTON = ("fdl-bfgs", "fdl-lbfgs")


def goals(table: Table, gtol: float, float32: bool) -> str:
    """Return a line for each goal that this run can judge."""
    mine = [s for s in table.solvers if s.startswith("fdl-")]
    if not mine:
        return "goals: no solver of fdl took part"
    if float32:
        rows = no_worse(table, mine)
    elif gtol < 1e-9:
        rows = tight(table, mine)
    else:
        rows = shares(table, mine) + ratios(table, mine)
    return "\n".join(["goals", *rows, *robust(table, mine)])


def row(goal: str, what: str, figure: float, sign: str, bound: float, more: str = "") -> str:
    met = figure <= bound if sign == "<=" else figure >= bound
    verdict = "met" if met else "MISSED"
    return f"  {goal:3} {what:62} {figure:8.3f} {sign} {bound:<7.4g} {verdict} {more}".rstrip()


def shares(table: Table, mine: list[str]) -> list[str]:
    rows = []
    for solver in mine:
        goal, least, least_best = SHARES[solver]
        results = table.of(solver)
        solved = table.share(r.solved for r in results)
        failed = ", ".join(f"{r.problem} ({r.stop})" for r in results if not r.solved)
        rows.append(row(goal, f"{solver} solved %", solved, ">=", least, failed))
        if least_best is not None:
            best = table.share(table.to_best(r) for r in results)
            rows.append(row(goal, f"{solver} solved to best f %", best, ">=", least_best))
    return rows


def ratios(table: Table, mine: list[str]) -> list[str]:
    rows = []
    for goal, solver, cost, peer, bound in RATIOS:
        if solver in mine and peer in table.solvers:
            figure, n = table.ratio(solver, peer, cost)
            what = f"{solver} {cost.__name__} / {peer}"
            rows.append(row(goal, what, figure, "<=", bound, f"n={n}"))
    return rows


def tight(table: Table, mine: list[str]) -> list[str]:
    solvable = {r.problem for r in table.by.values() if r.solved}
    rows = []
    for solver in mine:
        results = table.of(solver)
        share = 100 * sum(r.solved for r in results) / max(len(solvable), 1)
        failed = ", ".join(r.problem for r in results if not r.solved and r.problem in solvable)
        rows.append(row("G7", f"{solver} % of those anyone solves", share, ">=", 100, failed))
        if solver in QUASI_NEWTON and "optax-lbfgs" in table.solvers:
            figure, n = table.ratio(solver, "optax-lbfgs", gradients)
            rows.append(row("G7", f"{solver} gradients / optax-lbfgs", figure, "<=", 0.9, f"n={n}"))
    return rows


def no_worse(table: Table, mine: list[str]) -> list[str]:
    others = [s for s in table.solvers if s not in mine]
    best = max((table.share(r.solved for r in table.of(s)) for s in others), default=0.0)
    rows = []
    for solver in mine:
        results = table.of(solver)
        failed = ", ".join(f"{r.problem} ({r.stop})" for r in results if not r.solved)
        share = table.share(r.solved for r in results)
        rows.append(row("G9", f"{solver} solved % / best peer", share, ">=", best, failed))
    return rows


def robust(table: Table, mine: list[str]) -> list[str]:
    rows = []
    for solver in mine:
        results = table.of(solver)
        bad = [r.problem for r in results if r.bad]
        higher = [r.problem for r in results if not r.f <= r.f0]
        rows.append(row("G8", f"{solver} exceptions or ends not finite", len(bad), "<=", 0))
        names = ", ".join(dict.fromkeys([*bad, *higher]))
        rows.append(row("G8", f"{solver} ends above the start", len(higher), "<=", 0, names))
    return rows
