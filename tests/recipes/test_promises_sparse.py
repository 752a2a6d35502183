"""The recipes of sparse codes do what their docstrings promise, on pictures that chose nothing."""

import importlib

import pytest

from fdl import run

pytestmark = pytest.mark.slow


def figures(name, tmp_path):
    module = importlib.import_module(f"recipes.{name}")
    config = module.Config(out=str(tmp_path / "run"), quiet=True, parallel="none")
    return run.execute(module.main, config)


def test_psd_guesses_codes_within_a_twentieth_of_the_optimum(tmp_path):
    found = figures("psd", tmp_path)
    assert 1 < found["test_lista_ratio"] <= 1.05
    assert found["test_lista_ratio"] < found["test_shrink_ratio"] <= 1.1
    assert found["test_shrink_ratio"] < found["test_tanh_ratio"] <= 1.6
    assert found["lista_fista_steps"] >= 4 and found["shrink_fista_steps"] >= 3
    assert found["tanh_zeros"] == 0 and found["lista_zeros"] > 0.8
    assert found["lista_gabor_residual"] < 0.2
    assert (tmp_path / "run/filters.png").exists()
    assert len((tmp_path / "run/speed.txt").read_text().splitlines()) == 4


def test_lista_comes_nearer_to_the_optimum_than_as_many_steps_of_fista(tmp_path):
    found = figures("sparse_coding", tmp_path)
    for layers, share in ((1, 0.4), (2, 0.6), (4, 0.8)):
        lista, fista = found[f"test_lista_{layers}_above"], found[f"test_fista_{layers}_above"]
        assert 0 < lista < share * fista, layers
    steps = {name: found[f"test_{name}_to_1_percent"] for name in ("ista", "fista", "sweeps")}
    assert steps["sweeps"] < steps["fista"] < steps["ista"] <= 14
    assert found["kkt_residual"] < 0.01 and found["test_zeros"] > 0.8
    assert (tmp_path / "run/atoms.png").exists() and (tmp_path / "run/race.png").exists()
