import numpy as np
import pytest

from fdl import plots
from fdl.plots.convergence import _draw

STEPS = np.arange(4)
PANELS = {
    "gradients": {"slow": (STEPS, 1 / (1.0 + STEPS)), "fast": (STEPS, [1.0, 0.1, -1.0, np.nan])},
    "seconds": {"fast": (STEPS / 10, np.ones(4))},
}


def test_each_way_to_count_has_a_panel_with_logarithmic_axes():
    gradients, seconds = _draw(PANELS, "loss", "").axes
    for axes, label in ((gradients, "gradients"), (seconds, "seconds")):
        assert axes.get_xlabel() == label and axes.get_title(loc="left") == "loss"
        assert axes.get_xscale() == axes.get_yscale() == "log"
    slow, fast = gradients.lines
    # a logarithm has no place for the cost 0, nor for what is not positive
    np.testing.assert_array_equal(slow.get_data()[1], [np.nan, 1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_array_equal(fast.get_data()[1], [np.nan, 0.1, np.nan, np.nan])


def test_costs_on_a_linear_axis_may_be_zero():
    (axes,) = _draw({"layer": {"a": (np.array([0.0, 1.0]), np.ones(2))}}, "size", "", "linear").axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")
    assert np.isfinite(axes.lines[0].get_ydata()).all()


def test_a_method_looks_alike_in_all_panels_and_unlike_all_others():
    many = {f"method {i}": (STEPS, STEPS) for i in range(20)}
    figure = _draw({"a": many, "b": dict(reversed(many.items()))}, "loss", "")
    looks = [
        {line.get_label(): (line.get_color(), line.get_linestyle()) for line in axes.lines}
        for axes in figure.axes
    ]
    assert looks[0] == looks[1]
    assert len(set(looks[0].values())) == 20
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(many)


def test_equal_arguments_give_equal_bytes_whatever_the_names(tmp_path):
    panels = {"$ gradients": {"$ a": PANELS["gradients"]["slow"]}}
    plots.convergence(panels, tmp_path / "a.png", quantity="a $ b", title="$")
    plots.convergence(panels, tmp_path / "b.png", quantity="a $ b", title="$")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_costs_and_values_of_different_shapes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"one shape \(n,\), got \(4,\) and \(3,\) for bfgs"):
        plots.convergence({"x": {"bfgs": (STEPS, STEPS[1:])}}, tmp_path / "f.png", quantity="y")
    with pytest.raises(ValueError, match="must hold one at least"):
        plots.convergence({}, tmp_path / "f.png", quantity="y")
    assert list(tmp_path.iterdir()) == []
