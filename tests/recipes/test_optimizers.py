"""Line searches, quasi-Newton and Newton methods in recipes: on many devices, and after a stop."""

import hashlib
import importlib

import numpy as np
import pytest

from fdl import run
from fdl.errors import Preempted
from fdl.run.log import read
from fdl.run.signals import StopRequest
from fdl.train.storage import Storage, read_manifest

pytestmark = pytest.mark.slow

NAMES = [
    "bfgs",
    "coordinate_descent",
    "lbfgs",
    "nesterov_lookahead",
    "newton",
    "newton_cg",
    "nonlinear_cg",
    "rmsprop_nesterov",
    "saddle_free_krylov",
    "saddle_free_newton",
]
STOPPED = [
    ("mlp", {"optimizer": "bfgs"}),
    ("mlp", {"optimizer": "newton_cg"}),
    ("optimizers", {"methods": ("lbfgs", "hessian_free")}),
]
SMALL = {"log_every": 1, "quiet": True, "parallel": "none"}
SHORT = {
    "mlp": {"hidden": (8,), "unit": "tanh", "batch": 128, "steps": 5, "eval_every": 5},
    "optimizers": {"steps": 2, "eval_every": 2},
}


def execute(recipe, out, **changes):
    module = importlib.import_module(f"recipes.{recipe}")
    settings = SMALL | SHORT[recipe] | changes
    return run.execute(module.main, module.Config(out=str(out), **settings))


def losses(folder):
    """The training losses of each step, by name."""
    records = [r for r in read(folder / "metrics.jsonl") if "train_loss" in r]
    names = [name for name in records[0] if "loss" in name]
    return {name: [r[name] for r in records] for name in names}


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_of_the_mlp_computes_the_same_on_four_devices(name, tmp_path):
    execute("mlp", tmp_path / "none", optimizer=name)
    one = losses(tmp_path / "none")["train_loss"]
    assert len(set(one)) == 5
    for parallel in ("pmap", "shard_map"):
        execute("mlp", tmp_path / parallel, optimizer=name, parallel=parallel, devices=4)
        np.testing.assert_allclose(losses(tmp_path / parallel)["train_loss"], one, rtol=1e-4)


def test_methods_beside_one_another_compute_the_same_on_four_devices(tmp_path):
    # those that see more than the loss: its parts, and the gradient of where a search ended
    methods = {"methods": ("hessian_free", "lbfgs", "optax_lbfgs"), "steps": 1, "eval_every": 1}
    execute("optimizers", tmp_path / "one", **methods)
    execute("optimizers", tmp_path / "four", **methods, parallel="shard_map", devices=4)
    one, four = losses(tmp_path / "one"), losses(tmp_path / "four")
    assert one["train_loss_hessian_free"] != one["train_loss_lbfgs"]
    for name, values in one.items():
        np.testing.assert_allclose(four[name], values, rtol=1e-4, err_msg=name)


def arrays(folder, step):
    path = folder / f"checkpoints/{step}"
    storage = Storage()
    found = storage.arrays(path, read_manifest(path))
    storage.close()
    return {n: (a.dtype.name, hashlib.sha256(a.tobytes()).hexdigest()) for n, a in found.items()}


@pytest.mark.parametrize(("recipe", "settings"), STOPPED)
def test_what_an_optimizer_has_learned_survives_a_stop(recipe, settings, tmp_path, monkeypatch):
    last = SHORT[recipe]["steps"]
    whole = execute(recipe, tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "requested", lambda self, step: step == last // 2)
        with pytest.raises(Preempted, match=f"saved step {last // 2}"):
            execute(recipe, tmp_path / "parts", **settings)
    assert execute(recipe, tmp_path / "parts", resume=True, **settings) == whole
    assert arrays(tmp_path / "parts", last) == arrays(tmp_path / "whole", last)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    kinds = {kind for kind, _ in arrays(tmp_path / "whole", last).values()}
    assert {"bool", "int32", "float32"} <= kinds


def test_the_run_folder_holds_a_table_and_a_picture(tmp_path):
    methods = ("gradient_descent", "nesterov_lookahead", "newton_cg")
    execute("optimizers", tmp_path / "run", methods=methods, steps=1)
    head, _, *lines = (tmp_path / "run/table.md").read_text().splitlines()
    head, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in [head, *lines])
    table = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert tuple(table) == methods
    counts = {
        n: [int(r[c]) for c in ("updates", "gradients", "products")] for n, r in table.items()
    }
    assert counts["gradient_descent"] == [100, 101, 0]  # that of the last parameters included
    assert counts["nesterov_lookahead"] == [100, 201, 0]
    updates, gradients, products = counts["newton_cg"]
    assert updates == 4 and gradients >= 5 and products >= 4
    assert (tmp_path / "run/convergence.png").read_bytes().startswith(b"\x89PNG")
