"""What a user gets wrong: exit code 2, at most three lines, no traceback, and nothing lost."""

import importlib
import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from fdl import interop, models, run

OPTIONS = [
    "--nosuch 1",
    "--step 10",
    "--steps 0",
    "--steps -5",
    "--steps 1.5",
    "--steps many",
    "--steps",
    "--lr -1",
    "--lr 0",
    "--lr nan",
    "--lr inf",
    "--lr big",
    "--batch 0",
    "--batch 100000",
    "--batch 64 --accumulate 0",
    "--batch 64 --accumulate 7",
    "--batch 6 --parallel pmap",
    "--batch 6 --parallel shard_map",
    "--hidden 0",
    "--hidden 16 -1",
    "--hidden wide",
    "--unit swoosh",
    "--init zeros",
    "--precision float8",
    "--optimizer sdg",
    "--optimizer scale_by_adam",
    "--optimizer __import__",
    "--optimizer hessian_free",
    "--optimizer bfgs",
    "--optimizer newton",
    "--optimizer saddle_free_newton",
    "--optimizer coordinate_descent --lr 1",
    "--optimizer momentum --momentum 1",
    "--momentum 2",
    "--dropout 1",
    "--dropout -0.1",
    "--l2 -1",
    "--label-smoothing 1.5",
    "--valid 0",
    "--valid 1",
    "--valid 0.0001",
    "--seed -1",
    "--parallel all",
    "--parallel none --devices 4",
    "--devices 0",
    "--devices 1000 --parallel pmap",
    "--force",
    "--resume",
    "--resume --out {tmp}/nothing",
    "--out {tmp}/a_file",
    "--out {tmp}/a_file/below",
    "--out {tmp}/loop/run",
    "--out ''",
    "--out {tmp}/" + "n" * 300,
    "extra",
]

TABLES = {
    "empty": b"",
    "only a header": b"a,b,y\n",
    "one row": b"a,y\n1,2\n",
    "ragged": b"a,b,y\n1,2,0\n1,2\n3,4,1\n",
    "too many cells": b"a,b,y\n1,2,0\n1,2,3,4\n",
    "no target column": b"a,b,z\n1,2,0\n2,1,1\n",
    "twice a name": b"a,a,y\n1,2,0\n2,1,1\n",
    "an unnamed column": b"a,,y\n1,2,0\n2,1,1\n",
    "infinite": b"a,b,y\n1,2,0\ninf,1,1\n3,3,1\n",
    "one class": b"a,b,y\n1,2,c\n2,1,c\n3,5,c\n5,6,c\n",
    "constant feature": b"a,b,y\n1,2,0\n1,1,1\n1,3,1\n1,4,0\n",
    "equal columns": b"a,b,y\n1,1,0\n2,2,1\n3,3,1\n4,4,0\n",
    "target given away": b"a,b,y\n1,0,0\n2,1,1\n3,1,1\n5,0,0\n",
    "empty column": b"a,b,y\n1,,0\n2,,1\n3,,1\n5,,0\n",
    "missing targets": b"a,b,y\n1,3,\n2,2,\n3,5,\n5,9,\n",
    "binary": bytes(range(256)) * 4,
    "utf-16": "a,b,y\n1,2,0\n2,1,1\n".encode("utf-16"),
    "latin-1": "a,b,y\né,2,0\nè,1,1\n".encode("latin-1"),
    "open quote": b'a,b,y\n1,"2,0\n2,1,1\n',
    "other delimiter": b"a;b;y\n1;2;0\n2;1;1\n",
    "html": b"<html><body>not found</body></html>\n",
    "nul bytes": b"a,b,y\n1,\x002,0\n2,1,1\n",
    "only blank lines": b"\n\n\n",
    "no features": b"y\n0\n1\n",
    "an identifier": b"name,y\n" + b"".join(b"n%d,%d\n" % (i, i % 2) for i in range(400)),
    "too few rows": b"a,b,y\n" + b"".join(b"%d,%d,%d\n" % (i, i * i, i % 2) for i in range(8)),
}


def complaint(recipe, words, monkeypatch, capfd):
    """Run a recipe as from a shell; return what it wrote to stderr."""
    module = importlib.import_module(f"recipes.{recipe}")
    monkeypatch.setattr(sys, "argv", [f"recipes/{recipe}.py", *words])
    with pytest.raises(SystemExit) as ended:
        run.launch(module.main, module.Config)
    out, error = capfd.readouterr()
    assert ended.value.code == 2, error
    assert not out
    assert "Traceback" not in error
    assert 1 <= len(error.strip().splitlines()) <= 3, error
    assert error.startswith("error: ")
    return error


@pytest.mark.parametrize("options", OPTIONS)
def test_bad_options_are_refused_in_a_line(options, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").write_text("precious")
    (tmp_path / "loop").symlink_to("loop")
    words = ["" if w == "''" else w.format(tmp=tmp_path) for w in options.split()]
    complaint("mlp", [*words, "--quiet"], monkeypatch, capfd)
    assert (tmp_path / "a_file").read_text() == "precious"


@pytest.mark.parametrize("name", TABLES)
def test_bad_tables_are_refused_in_a_line_that_names_the_file(name, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "table.csv"
    path.write_bytes(TABLES[name])
    error = complaint(
        "tabular", ["--csv", str(path), "--target", "y", "--quiet"], monkeypatch, capfd
    )
    assert "table.csv" in error or "set of" in error or "share of" in error
    assert path.read_bytes() == TABLES[name]


@pytest.mark.parametrize("words", [["--csv", "none.csv", "--target", "y"], ["--csv", "a.csv"]])
def test_a_table_that_is_not_there_is_named(words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert "csv" in complaint("tabular", words, monkeypatch, capfd)


def a_missing_checkpoint(folder):
    return "nowhere"


def an_empty_checkpoint(folder):
    return "is missing"


def a_checkpoint_that_is_no_json(folder):
    (folder / "config.json").write_text("{")
    return "has no proper JSON"


def a_checkpoint_of_an_unknown_model(folder):
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return "'llama'"


def a_checkpoint_without_weights(folder):
    (folder / "config.json").write_text('{"model_type": "resnet"}')
    return "must hold model.safetensors"


def a_checkpoint_of_another_model(folder):
    config = {"model_type": "torch.nn.RNN", "input_size": 1, "hidden_size": 1, "num_layers": 1}
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {"weight_ih": (1, 1), "weight_hh": (1, 1), "bias_ih": (1,), "bias_hh": (1,)}
    tensors = {f"{name}_l0": np.zeros(shape, "f") for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    return "is no ResNet for images of one channel"


def a_checkpoint_for_coloured_images(folder):
    def zeros(key, shape, dtype):
        return jnp.zeros(shape, dtype)

    config = models.ResNetConfig.tiny(features_in=3, kernel_init=zeros, output_init=zeros)
    interop.save_pretrained(models.ResNet(config, rngs=nnx.Rngs(0)), folder)
    return "is no ResNet for images of one channel"


CHECKPOINTS = [
    a_missing_checkpoint,
    an_empty_checkpoint,
    a_checkpoint_that_is_no_json,
    a_checkpoint_of_an_unknown_model,
    a_checkpoint_without_weights,
    a_checkpoint_of_another_model,
    a_checkpoint_for_coloured_images,
]


@pytest.mark.parametrize("make", CHECKPOINTS)
def test_bad_checkpoints_are_refused_in_a_line_that_names_the_folder(
    make, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "nowhere" if make is a_missing_checkpoint else tmp_path / "checkpoint"
    if make is not a_missing_checkpoint:
        folder.mkdir()
    told = make(folder)
    error = complaint("finetune", ["--pretrained", str(folder), "--quiet"], monkeypatch, capfd)
    assert told in error and len(error.splitlines()) == 1
