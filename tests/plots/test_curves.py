import numpy as np
import pytest
from matplotlib.image import imread

from fdl import plots
from fdl.plots.curves import POINTS, _draw, _graphs
from fdl.plots.figure import COLOURS

RECORDS = [
    {"step": 10, "loss": 2.0, "accuracy": 0.1, "lr": 0.1},
    {"step": 20, "loss": 0.2, "accuracy": 0.5, "lr": 0.1, "valid_loss": 1.0, "valid/accuracy": 0.4},
    {"step": 30, "loss": None, "accuracy": float("nan"), "lr": 0.05, "note": "resumed"},
    {"step": 40, "loss": 0.01, "accuracy": 0.9, "lr": 0.05, "valid_loss": 0.5},
]


def drawn(records):
    """Return {panel: (scale, {label: [(x, y)]})} of the figure."""
    panels = {}
    for axes in _draw(records, "").axes:
        lines = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.lines}
        panels[axes.get_title(loc="left")] = (axes.get_yscale(), lines)
    return panels


def test_each_quantity_has_a_panel_with_one_curve_for_each_part_of_the_data():
    panels = drawn(RECORDS)
    assert list(panels) == ["loss", "accuracy", "lr"]
    assert panels["loss"] == (
        "log",  # from 2 to 0.01
        {"train  0.01": [(10, 2), (20, 0.2), (40, 0.01)], "valid  0.5": [(20, 1), (40, 0.5)]},
    )
    scale, lines = panels["accuracy"]
    assert scale == "linear" and lines["valid  0.4"] == [(20, 0.4)]
    assert lines["train  0.9"][1] == (20, 0.5) and np.isnan(lines["train  0.9"][2][1])


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1.0, 0.0101], "linear"),
        ([1.0, 0.01], "log"),
        ([1.0, 0.0], "linear"),
        ([1e9, -1.0], "linear"),
        ([1.0, float("inf"), 0.001], "log"),
        ([float("nan")], "linear"),
    ],
)
def test_the_axis_is_logarithmic_where_positive_values_span_two_decades(values, scale):
    assert drawn([{"step": i, "x": v} for i, v in enumerate(values)])["x"][0] == scale


def test_a_long_curve_is_drawn_as_the_means_of_blocks_of_neighbours():
    steps = range(1, 12 * POINTS + 1)
    records = [{"step": s, "loss": 5.0 + (-1) ** s} for s in steps]
    ((_, lines),) = drawn(records).values()
    (points,) = lines.values()
    expected = 12 * np.arange(POINTS) + 6.5  # the middle of 1..12, of 13..24, ...
    np.testing.assert_allclose(points, np.stack([expected, np.full(POINTS, 5.0)], axis=1))


def pixels(path):
    """Return the picture as an array of bytes, shape (height, width, 3)."""
    return np.round(255 * imread(path)[..., :3]).astype(int)


def count(image, colour):
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((image == rgb).all(-1).sum())


def test_the_picture_shows_both_curves_and_equal_records_give_equal_bytes(tmp_path):
    path = tmp_path / "curves.png"
    plots.curves(RECORDS, path, title="a $ b 50%")
    first = path.read_bytes()
    image = pixels(path)
    assert image.shape == (408, 3 * 624, 3)
    assert count(image, COLOURS[0]) > 300 and count(image, COLOURS[1]) > 100
    plots.curves(iter(RECORDS), str(path), title="a $ b 50%")
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]


def test_names_that_look_like_broken_formulas_are_drawn_as_they_are(tmp_path):
    name = r"$\frac$"
    plots.curves([{"step": 1, name: 1.0}], tmp_path / "curves.png", title=name)
    xs = np.arange(3)
    plots.functions(xs, {name: xs}, tmp_path / "functions.png", title=name)


def test_no_records_still_give_a_picture(tmp_path):
    plots.curves([], tmp_path / "curves.png")
    assert pixels(tmp_path / "curves.png").min() < 100


def test_functions_are_drawn_from_left_to_right_with_the_examples_marked(tmp_path):
    xs = np.array([0.0, 2.0, 1.0])
    ys = {"truth": xs**2, "$up": np.array([5.0, 7.0, 6.0])}
    points = (np.array([1.0]), np.array([0.5]))
    plots.functions(xs, ys, tmp_path / "f.png", points=points, title="a $ b")
    assert pixels(tmp_path / "f.png").std() > 5
    (axes,) = _graphs(xs, ys, points, "").axes
    lines = {line.get_label(): np.array(line.get_data()).tolist() for line in axes.lines}
    assert lines == {
        "truth": [[0, 1, 2], [0, 1, 4]],
        "$up": [[0, 1, 2], [5, 6, 7]],
        "examples": [[1], [0.5]],
    }


def test_a_function_of_another_shape_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"shape \(3,\) as xs, got a \(2,\)"):
        plots.functions(np.zeros(3), {"a": np.zeros(2)}, tmp_path / "f.png")
    assert list(tmp_path.iterdir()) == []
