"""Compare the optimizers of fdl with SciPy, optax and optimistix on unconstrained problems.

    python scripts/bench/optim.py [--family mgh] [--solvers fdl-bfgs,scipy-bfgs] [--json FILE]

Everyone starts where the problem says, in float64, and stops at the first accepted iterate with
max|g| <= gtol max(1, max|g0|), after 1000 iterates or after 15 s of processor
time. Evaluations are counted
where they run, on the host: nf objectives, ng gradients, nh Hessian-vector products (a dense
Hessian is n of them); work = nf + 2 ng + 4 nh. `--reuse FILE` takes what peers did from an earlier
`--json FILE`, for the counts do not depend on the machine's load.

The goals need `--family mgh` (the default), plain, with `--float32 --gtol 1e-3`, or with
`--gtol 1e-10 --max-n 3`. The other families judge; no constant may be tuned on them.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import learning  # noqa: E402
import mgh  # noqa: E402
import numpy as np  # noqa: E402
import other  # noqa: E402
from harness import Problem, Result, run  # noqa: E402
from picture import draw  # noqa: E402
from solvers import ours, peers  # noqa: E402
from tables import Table, goals  # noqa: E402
from walls import walled  # noqa: E402

FAMILIES = {
    "mgh": mgh.PROBLEMS,
    "learning": learning.PROBLEMS,
    "other": other.PROBLEMS,
    "walls": walled(mgh.PROBLEMS),
}
Key = tuple[str, str]


def rules(args: argparse.Namespace) -> dict[str, object]:
    """Return what two runs must agree in for one to be reused by the other."""
    dtype = "float32" if args.float32 else "float64"
    return {"gtol": args.gtol, "max_iter": args.max_iter, "dtype": dtype, "count": not args.direct}


def load(path: str | None, expected: dict[str, object]) -> dict[Key, Result]:
    """Read the peers' results of an earlier run by the same rules."""
    if path is None or not Path(path).exists():
        return {}
    saved = json.loads(Path(path).read_text(encoding="utf-8"))
    if saved["rules"] != expected:
        raise SystemExit(f"--reuse {path}: made by other rules, {saved['rules']}")
    results = [Result(**row) for row in saved["results"]]
    return {(r.solver, r.problem): r for r in results if not r.solver.startswith("fdl-")}


def save(path: str, expected: dict[str, object], results: Iterable[Result]) -> None:
    rows = [r._asdict() for r in results]
    versions = {"jax": jax.__version__, "numpy": np.__version__}
    text = json.dumps({"versions": versions, "rules": expected, "results": rows})
    Path(path).write_text(text, encoding="utf-8")


def problems(args: argparse.Namespace) -> list[Problem]:
    chosen = [p for p in FAMILIES[args.family] if p.x0.size <= args.max_n]
    if args.problems:
        chosen = [p for p in chosen if any(name in p.name for name in args.problems.split(","))]
    return chosen


def compare(args: argparse.Namespace) -> list[Result]:
    """Run every solver on every problem, or take the result from the file; save as it goes."""
    known = load(args.reuse, rules(args))
    available = peers() | ours()
    names = args.solvers.split(",") if args.solvers else list(available)
    missing = [name for name in names if name not in available]
    if missing:
        raise SystemExit(f"--solvers: {missing} not among {sorted(available)}")
    dtype = np.float32 if args.float32 else np.float64
    results = []
    for problem in problems(args):
        for name in names:
            result = known.get((name, problem.name))
            if result is None:
                options = (args.gtol, args.max_iter, dtype, not args.direct)
                result = run(name, available[name], problem, *options)
            results.append(result)
            known[name, problem.name] = result
            if args.verbose:
                print(line(result), flush=True)
        jax.clear_caches()  # a compiled step per problem and solver fills the memory
        if args.json:
            save(args.json, rules(args), known.values())
    return results


def line(r: Result) -> str:
    return (
        f"{r.problem:28} {r.solver:24} {r.stop:10} f {r.f:11.5g} nf {r.nf:5} ng {r.ng:5} "
        f"nh {r.nh:6} iterations {r.iterations:4} {r.seconds:6.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", choices=FAMILIES, default="mgh")
    parser.add_argument("--solvers", help="names, comma between them; all without it")
    parser.add_argument("--problems", help="parts of names, comma between them; all without it")
    parser.add_argument("--gtol", type=float, default=1e-6)
    parser.add_argument("--max-iter", type=int, default=1000)
    parser.add_argument("--max-n", type=int, default=10**6, help="leave larger problems out")
    parser.add_argument("--float32", action="store_true")
    parser.add_argument("--direct", action="store_true", help="JAX solvers uncounted, to check")
    parser.add_argument("--picture", help="draw the data profile into this file")
    parser.add_argument("--json", help="write all results to this file, problem by problem")
    parser.add_argument("--reuse", help="take the peers' results from this file")
    parser.add_argument("--verbose", action="store_true", help="a line for every run")
    args = parser.parse_args()
    table = Table(compare(args))
    print(table.summary(), table.pairwise(), goals(table, args.gtol, args.float32), sep="\n\n")
    if args.picture:
        draw(table, args.picture)


if __name__ == "__main__":
    main()
