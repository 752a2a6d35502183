"""The results that the recipes' docstrings promise, on test data that chose nothing."""

import importlib

import numpy as np
import pytest
from scipy.optimize import brentq

from fdl import run

pytestmark = pytest.mark.slow


def figures(recipe, out, **settings):
    module = importlib.import_module(f"recipes.{recipe}")
    config = module.Config(out=str(out), quiet=True, parallel="none", **settings)
    return run.execute(module.main, config)


def mean(name, recipe, tmp_path, **settings):
    found = [figures(recipe, tmp_path / str(s), seed=s, **settings) for s in range(5)]
    return np.mean([f[name] for f in found])


def test_the_mlp_beats_logistic_regression_on_other_writers(tmp_path):
    assert mean("test_accuracy", "mlp", tmp_path) >= 0.92


def test_augmentation_lifts_the_mlp(tmp_path):
    assert mean("test_accuracy", "mlp", tmp_path, augment=True, steps=4000) >= 0.945


def test_regression_is_no_worse_than_ridge(tmp_path):
    found = [figures("regression", tmp_path / str(s), seed=s) for s in range(5)]
    ours, ridge = ([f[name] for f in found] for name in ("test_rmse", "ridge_rmse"))
    assert np.mean(ours) <= np.mean(ridge) * 1.01
    assert np.mean(ridge) == pytest.approx(56.9, rel=0.02)  # scikit-learn's on all training rows


def test_the_table_of_breast_cancer_is_learned(tmp_path):
    assert mean("test_accuracy", "tabular", tmp_path) >= 0.95


def test_the_error_of_an_approximation_falls_with_its_width(tmp_path):
    found = figures("universal_approximation", tmp_path / "run")
    errors = list(found.values())
    assert errors[0] > 0.3 and errors[-1] < 0.015
    assert all(wide < 1.1 * narrow for narrow, wide in zip(errors, errors[1:], strict=False))


@pytest.fixture(scope="module")
def landscapes(tmp_path_factory):
    return figures("landscapes", tmp_path_factory.mktemp("landscapes") / "run")


def path(rate, momentum, curvature, steps, *, ahead=False):
    """Theta after 0, 1, ... steps from 1 on curvature theta^2 / 2, by powers of the iteration."""
    shrink = 1 - rate * curvature if ahead else 1.0
    first = (1 + momentum) * shrink if ahead else 1 + momentum - rate * curvature
    iteration = np.array([[first, -momentum * shrink], [1, 0]])
    return np.array([np.linalg.matrix_power(iteration, t)[0].sum() for t in range(steps)])


def steps_down(rate, momentum):
    """Until a thousandth of the way from (-10, 1) is left, in the valley of x^2 and 100 y^2."""
    x, y = -10 * path(rate, momentum, 1, 400), path(rate, momentum, 100, 400)
    return (np.hypot(x, y) < 1e-3 * np.hypot(x[0], y[0])).argmax()


def test_paths_on_landscapes_go_where_theory_says(landscapes):
    found = landscapes
    # x^2 + 100 y^2: the error falls by 99/101 a step
    assert found["valley_steps_gradient_descent"] == np.ceil(np.log(1e-3) / np.log(99 / 101))
    assert found["valley_steps_momentum"] == steps_down(0.01, 0.81)
    assert found["valley_steps_fastest_momentum"] == steps_down(4 / 121, (9 / 11) ** 2)
    for who, ahead in (("momentum", False), ("nesterov", True)):
        overshoot = -path(0.05, 0.9, 1, 100, ahead=ahead).min()
        assert found[f"bowl_overshoot_{who}"] == pytest.approx(overshoot, rel=1e-4)
    assert found["bowl_overshoot_nesterov"] < 0.7 * found["bowl_overshoot_momentum"]
    assert found["cliff_longest_step_clipped"] == pytest.approx(0.2, rel=1e-3)  # rate times norm
    assert found["cliff_longest_step_gradient_descent"] > 20
    assert found["saddle_distance_newton"] < 1e-6
    assert found["saddle_distance_saddle_free_newton"] == pytest.approx(2**0.5, rel=1e-4)
    x = brentq(lambda x: 0.1 * x + 2 * np.sin(2 * x), 5.5, 6.5)  # a local minimum
    stuck = 2 * (1 + 0.05 * x**2 - np.cos(2 * x))
    assert found["waves_value_gradient_descent"] == pytest.approx(stuck, rel=1e-4)
    assert found["waves_value_graduated"] < 1e-6


def test_gradients_down_the_banana_are_saved_by_momentum_and_more_by_curvature(landscapes):
    cost = {name.removeprefix("rosenbrock_cost_"): value for name, value in landscapes.items()}
    assert cost["gradient_descent"] == pytest.approx(5450, rel=0.02)
    for who in ("momentum", "nesterov", "adam"):
        assert 500 < cost[who] < 800
    curved = ("nonlinear_cg", "bfgs", "lbfgs", "newton", "newton_cg", "saddle_free_newton")
    assert all(30 <= cost[who] <= 65 for who in curved)


def test_curvature_saves_gradients_on_a_whole_batch(tmp_path):
    found = figures("optimizers", tmp_path / "run")
    cost = {n.removeprefix("cost_"): v for n, v in found.items() if n.startswith("cost_")}
    assert max(cost["bfgs"], cost["lbfgs"]) < 0.5 * min(cost["adam"], cost["momentum"])
    assert cost["nonlinear_cg"] < min(cost["adam"], cost["momentum"])
    assert cost["gradient_descent"] > 3 * cost["momentum"]
    assert all(0.88 < v < 0.94 for n, v in found.items() if n.startswith("test_accuracy_"))


def test_quasi_newton_methods_need_the_fewest_gradients_on_a_network(tmp_path):
    found = figures("optimizers", tmp_path / "run")
    cost = {name.removeprefix("cost_"): v for name, v in found.items() if name[:5] == "cost_"}
    assert len(cost) == 18  # all come to the goal
    learned = ("bfgs", "lbfgs", "optax_lbfgs")
    assert all(cost[who] < 120 for who in learned)
    first_order = ("gradient_descent", "momentum", "nesterov", "adagrad", "rmsprop", "adam")
    assert all(cost[who] > 180 for who in first_order)
    assert cost["gradient_descent"] > 1000
    assert min(cost[who] for who in ("newton", "saddle_free_newton")) > 5000  # a Hessian is dear
    assert all(found[f"loss_{who}"] < 0.157 for who in cost)
    assert all(found[f"test_accuracy_{who}"] > 0.87 for who in cost)
