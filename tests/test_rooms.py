"""A line of code lives in the room named after what it must know; imports point left only.

`problems(root)` reads every file under root/fdl and root/recipes without running it.
"""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
EVERYWHERE = {"jax", "numpy", "chex", *sys.stdlib_module_names}
LONGEST_CHAIN = 5  # rooms
LONGEST_FILE = 400  # lines


class Room(NamedTuple):
    """A row of the import table, as words: the rooms and the packages that a room may import."""

    rooms: str
    packages: str = ""


LEFT = "types errors axes"
ROOMS = {  # left to right; what is allowed EVERYWHERE is left out
    "types": Room(""),
    "errors": Room(""),
    "axes": Room("types"),
    "tree": Room(LEFT),
    "ops": Room(LEFT),
    "initializers": Room(f"{LEFT} ops"),
    "data": Room(LEFT, "grain PIL tokenizers"),
    "losses": Room(f"{LEFT} ops"),
    "outputs": Room(f"{LEFT} ops losses"),
    "regularizers": Room(f"{LEFT} tree ops"),
    "curvature": Room(f"{LEFT} tree"),
    "optim": Room(f"{LEFT} tree curvature", "optax"),
    "averaging": Room(f"{LEFT} tree"),
    "models": Room(f"{LEFT} ops initializers", "flax"),
    "pure": Room(LEFT, "flax"),
    "generate": Room(f"{LEFT} ops"),
    "interop": Room(f"{LEFT} ops models pure", "flax safetensors"),
    "objectives": Room(f"{LEFT} tree ops losses regularizers"),
    "linear_probe": Room(f"{LEFT} losses regularizers optim"),
    "train": Room(f"{LEFT} tree", "optax orbax"),
    "plots": Room(LEFT, "matplotlib PIL"),
    "run": Room("*", "optax tyro rich matplotlib tensorboardX PIL"),
}
UNSAFE_MODULES = {
    "pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
    "torch",
}
FETCHING_MODULES = {"ftplib", "http", "requests", "urllib", "xmlrpc"}
UNSAFE_CALLS = {"eval", "exec", "__import__"}


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(
    path: Path, name: str, tree: ast.Module, modules: set[str]
) -> Iterator[tuple[int, str]]:
    """Yield (line, module) for every import in the file, wherever it stands."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*up, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield node.lineno, inner if inner in modules else source
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            if node.args and isinstance(node.args[0], ast.Constant):
                yield node.lineno, str(node.args[0].value)


def import_problem(importer: str, target: str, recipes: set[str]) -> str | None:
    """Say what is wrong with `importer` importing `target`; None if nothing is."""
    top, *rest = target.split(".")
    if importer.startswith("recipes."):
        is_recipe = top == "recipes" or top in recipes
        return "a recipe imports a recipe" if is_recipe else None
    if top != "fdl":
        room = importer.partition("fdl.")[2].split(".")[0]
        allowed = EVERYWHERE | set(ROOMS[room].packages.split() if room in ROOMS else [])
        return None if top in allowed else f"{room or 'fdl'} may not import {top}"
    if target == importer.rpartition(".")[0] or target == "fdl":
        return f"imports the facade {target} of its own package"
    if importer == "fdl":
        return "the facade of the library loads its rooms when they are asked for"
    room, other = importer.split(".")[1], rest[0]
    if room == other or room not in ROOMS or ROOMS[room].rooms == "*":
        return None
    return None if other in ROOMS[room].rooms.split() else f"{room} may not import {other}"


def line_problems(tree: ast.Module, room: str) -> Iterator[tuple[int, str]]:
    """Yield (line, problem) for what no file of the library may do."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called == "print" and room != "run":
            yield node.lineno, "prints: that is for fdl/run"
        if called.removeprefix("builtins.") in UNSAFE_CALLS:
            yield node.lineno, f"calls {called}"
        for keyword in node.keywords:
            if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False":
                yield node.lineno, "allows pickle"


def room_of(module: str) -> str:
    return module.split(".")[1] if module.count(".") else ""


def circle(graph: dict[str, set[str]]) -> list[str]:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def longest_chain(graph: dict[str, set[str]]) -> list[str]:
    """The longest path of a graph without circles, leftmost room first."""
    chains: dict[str, list[str]] = {}
    for node in graphlib.TopologicalSorter(graph).static_order():
        before = max((chains[n] for n in graph.get(node, ())), key=len, default=[])
        chains[node] = [*before, node]
    return max(chains.values(), key=len, default=[])


def problems(root: Path) -> list[str]:
    """Name every place under root/fdl and root/recipes that breaks a rule; empty if none does."""
    paths = sorted([*root.glob("fdl/**/*.py"), *root.glob("recipes/**/*.py")])
    modules = {module_name(path, root) for path in paths}
    recipes = {m.split(".")[1] for m in modules if m.startswith("recipes.")}
    graph: dict[str, set[str]] = {m: set() for m in modules}
    found = []
    for path in paths:
        name, where = module_name(path, root), path.relative_to(root)
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        if (length := text.count("\n")) > LONGEST_FILE:
            found.append(f"{where}: {length} lines, more than {LONGEST_FILE}")
        for line, target in imported(path, name, tree, modules):
            if problem := import_problem(name, target, recipes):
                found.append(f"{where}:{line}: {problem}")
            if name.startswith("fdl") and target.split(".")[0] in UNSAFE_MODULES | FETCHING_MODULES:
                found.append(f"{where}:{line}: imports {target}")
            graph[name] |= {target} & (modules - {name})
        if name.startswith("fdl"):
            found += [
                f"{where}:{line}: {text}" for line, text in line_problems(tree, room_of(name))
            ]
            if name != "fdl" and room_of(name) not in ROOMS:
                found.append(f"{where}: {room_of(name)} has no row in ROOMS")
    if loop := circle(graph):
        return [*found, "circle: " + " -> ".join(loop)]
    rooms: dict[str, set[str]] = {}
    for module, targets in graph.items():
        if room_of(module) in ROOMS:
            near = {room_of(t) for t in targets} - {room_of(module), ""}
            rooms.setdefault(room_of(module), set()).update(near)
    chain = [] if circle(rooms) else longest_chain(rooms)
    if len(chain) > LONGEST_CHAIN:
        found.append(f"chain of {len(chain)} rooms: " + " -> ".join(chain))
    return found


def test_every_file_keeps_to_its_room() -> None:
    found = problems(ROOT)
    assert not found, "\n".join(found)


def test_the_table_itself_points_left_only() -> None:
    order = list(ROOMS)
    for i, (name, room) in enumerate(ROOMS.items()):
        if room.rooms != "*":
            assert set(room.rooms.split()) <= set(order[:i]), name


@pytest.mark.parametrize(("room", "blocked"), [("optim", "flax"), ("losses", "optax")])
def test_a_room_imports_where_a_package_is_missing(room: str, blocked: str) -> None:
    if not (ROOT / "fdl" / room).exists():
        pytest.skip(f"fdl.{room} does not exist yet")
    code = f"import sys; sys.modules[{blocked!r}] = None; import fdl.{room}"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


# --- the checker, on small trees ---------------------------------------------------------------


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def test_a_tree_that_keeps_the_rules_has_no_problem(tmp_path: Path) -> None:
    good = {
        "fdl/__init__.py": "import importlib\n",
        "fdl/types.py": "import jax\n",
        "fdl/ops/__init__.py": "from fdl.ops.units import relu as relu\n",
        "fdl/ops/units.py": "import numpy as np\nfrom fdl.types import Array\n",
        "fdl/losses/huber.py": "from fdl import types\nfrom fdl.ops import units, relu\n",
        "fdl/models/mlp.py": "from flax import nnx\nfrom fdl.models.layers import Dropout\n",
        "fdl/models/layers.py": "class Dropout: ...\nmodel = object()\nmodel.eval()\n",
        "fdl/run/terminal.py": "import fdl.models.mlp\nprint('x')\n",
        "recipes/mlp.py": "import fdl\nfrom fdl import losses\nprint('x')\n",
    }
    assert problems(plant(tmp_path, good)) == []


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("fdl/ops/a.py", "import fdl.losses.b", "ops may not import losses"),
        ("fdl/ops/a.py", "from fdl.losses.b import f", "ops may not import losses"),
        ("fdl/ops/a.py", "from fdl import losses", "ops may not import losses"),
        ("fdl/ops/a.py", "from ..losses import b", "ops may not import losses"),
        ("fdl/ops/a.py", "def f():\n    import fdl.losses.b", "ops may not import losses"),
        ("fdl/ops/a.py", "importlib.import_module('fdl.losses')", "ops may not import losses"),
        ("fdl/train/a.py", "from fdl.losses import b", "train may not import losses"),
        ("fdl/ops/a.py", "from fdl.ops import f", "facade fdl.ops of its own package"),
        ("fdl/ops/a.py", "from . import f", "facade fdl.ops of its own package"),
        ("fdl/ops/a.py", "import fdl", "facade fdl of its own package"),
        ("fdl/__init__.py", "from fdl import losses", "loads its rooms when they are asked for"),
        ("fdl/optim/a.py", "from flax import nnx", "optim may not import flax"),
        ("fdl/losses/a.py", "import optax", "losses may not import optax"),
        ("fdl/losses/a.py", "import scipy.special", "losses may not import scipy"),
        ("fdl/ops/a.py", "import recipes.mlp", "ops may not import recipes"),
        ("fdl/spare.py", "", "spare has no row in ROOMS"),
        ("fdl/ops/a.py", "print(1)", "prints"),
        ("fdl/ops/a.py", "eval('1')", "calls eval"),
        ("fdl/ops/a.py", "exec('1')", "calls exec"),
        ("fdl/run/a.py", "import pickle", "imports pickle"),
        ("fdl/run/a.py", "from torch import load", "imports torch"),
        ("fdl/data/a.py", "import urllib.request", "imports urllib"),
        ("fdl/data/a.py", "np.load('x', allow_pickle=True)", "allows pickle"),
        ("fdl/ops/a.py", "x = 1\n" * (LONGEST_FILE + 1), "401 lines"),
        ("recipes/b.py", "from recipes import a", "a recipe imports a recipe"),
        ("recipes/b.py", "from recipes.a import main", "a recipe imports a recipe"),
        ("recipes/b.py", "import a", "a recipe imports a recipe"),
    ],
)
def test_a_broken_rule_is_reported(tmp_path: Path, file: str, text: str, expected: str) -> None:
    frame = {"fdl/__init__.py": "", "fdl/ops/__init__.py": "", "fdl/losses/__init__.py": ""}
    plant(tmp_path, {**frame, "fdl/losses/b.py": "", "recipes/a.py": "", file: text})
    found = problems(tmp_path)
    assert any(expected in line for line in found), found
    assert all(line.startswith(file) for line in found), found


def test_a_circle_of_files_is_reported(tmp_path: Path) -> None:
    files = {"fdl/ops/a.py": "import fdl.ops.b", "fdl/ops/b.py": "import fdl.ops.a"}
    (line,) = problems(plant(tmp_path, files))
    assert line.startswith("circle: fdl.ops.")


def test_too_long_a_chain_of_rooms_is_reported(tmp_path: Path) -> None:
    rooms = ["types", "axes", "tree", "curvature", "optim", "run"]
    files = {
        f"fdl/{room}/a.py": f"import fdl.{left}.a"
        for left, room in zip(rooms, rooms[1:], strict=False)
    }
    (line,) = problems(
        plant(tmp_path, {**files, "fdl/types/a.py": "", "fdl/optim/b.py": "import fdl.tree.a"})
    )
    assert line == "chain of 6 rooms: types -> axes -> tree -> curvature -> optim -> run"
