import numpy as np
import pytest
from matplotlib.image import imread

from fdl import plots
from fdl.plots.figure import COLOURS
from fdl.plots.landscape import LEVELS, RANGE, _maps


def landscape(f=lambda x, y: 10**x + 0 * y, paths=None, left=-6.0):
    xs, ys = np.linspace(left, 0, 61), np.linspace(-1, 1, 5)
    return plots.Landscape(xs, ys, f(xs, ys[:, None]), paths or {})


def test_the_levels_of_a_landscape_are_even_in_the_logarithm_of_the_height():
    (axes,) = _maps({"10^x": landscape(lambda x, y: 10**x - 7 + 0 * y)}, "").axes
    lines = axes.collections[-1].get_paths()
    at = [np.unique(line.vertices[:, 0].round(2)) for line in lines if len(line.vertices)]
    expected = np.log10(RANGE) * (1 - np.arange(1, LEVELS) / LEVELS)
    np.testing.assert_allclose(np.concatenate(at)[: len(expected)], expected, atol=0.011)


def test_a_path_begins_at_a_circle_ends_at_a_star_and_has_a_colour_of_its_own():
    points = np.array([[-5.0, 0.5], [-3.0, 0.5], [-2.99, 0.5], [9.0, 0.0]])
    panels = {
        "two": landscape(paths={"a": points, "b": points[:1]}),
        "one": landscape(paths={"c": points}),
    }
    two, one = _maps(panels, "").axes
    lines = {line.get_marker(): np.array(line.get_data()).T for line in one.lines}
    np.testing.assert_array_equal(lines["None"], points)
    np.testing.assert_array_equal(lines["."], points[[1, 3]])  # far from the point before
    np.testing.assert_array_equal(lines["o"], points[:1])
    np.testing.assert_array_equal(lines["*"], points[-1:])
    assert {line.get_color() for line in one.lines} == {COLOURS[2]}
    assert [line.get_color() for line in two.lines[:: len(one.lines)]] == list(COLOURS[:2])
    assert one.get_xlim() == (-6, 0)  # although the path goes on
    assert one.get_legend() is None
    assert [text.get_text() for text in two.get_legend().get_texts()] == ["a", "b"]


def test_a_landscape_is_drawn_whole_also_where_it_is_flat_or_not_finite(tmp_path):
    panels = {
        "$ flat": landscape(lambda x, y: 0 * x + 0 * y),
        "a hole": landscape(lambda x, y: np.where(x < -3, np.nan, x) + 0 * y),
    }
    plots.landscapes(panels, tmp_path / "f.png", title="a $ b")
    first = (tmp_path / "f.png").read_bytes()
    plots.landscapes(panels, tmp_path / "f.png", title="a $ b")
    assert (tmp_path / "f.png").read_bytes() == first
    picture = imread(tmp_path / "f.png")[150:200]
    assert (picture[:, 500:580] == 1).all()  # left half of the second panel
    assert (picture[:, 640:720] != 1).any()
    assert [p.name for p in tmp_path.iterdir()] == ["f.png"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": np.zeros((61, 5))}, r"shape \(5, 61\), as ys and xs, got \(61, 5\) in a"),
        ({"values": np.full((5, 61), np.nan)}, "finite values, got none in a"),
        ({"paths": {"b": np.zeros((2, 3))}}, r"shape \(k, 2\), k >= 1, got \(2, 3\) for b in a"),
        ({"paths": {"b": np.zeros((0, 2))}}, r"k >= 1, got \(0, 2\) for b in a"),
    ],
)
def test_a_landscape_of_another_shape_is_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        plots.landscapes({"a": landscape()._replace(**changes)}, tmp_path / "f.png")
    with pytest.raises(ValueError, match="must hold one at least"):
        plots.landscapes({}, tmp_path / "f.png")
    assert list(tmp_path.iterdir()) == []
