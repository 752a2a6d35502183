import numpy as np
import pytest
from matplotlib.image import imread

from fdl import plots
from fdl.plots import predictive

XS = np.linspace(0, 1, 11)
MEAN, DEVIATION = 2 * XS, 0.5 + XS


def test_bands_reach_one_and_two_deviations_around_the_mean(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(predictive, "save", lambda figure, path: figures.append(figure))
    truth = (XS, np.ones(11))
    plots.bands(
        XS, {"a": (MEAN, DEVIATION), "b": (XS, DEVIATION)}, "x", truth=truth, points=(XS, XS)
    )
    left, right = figures[0].axes
    assert [axes.get_title(loc="left") for axes in (left, right)] == ["a", "b"]
    for k, band in zip((2, 1), left.collections, strict=True):
        corners = band.get_paths()[0].vertices
        at_end = corners[corners[:, 0] == 1.0, 1]
        assert at_end.min() == pytest.approx(2 - k * 1.5)
        assert at_end.max() == pytest.approx(2 + k * 1.5)
    lines = [line.get_ydata() for line in left.lines]
    for expected in (XS, MEAN, XS, XS - 2, XS + 2):  # examples, mean, truth
        assert any(np.allclose(line, expected) for line in lines)
    assert left.get_ylim() == right.get_ylim()


def test_a_density_is_darkest_where_it_is_highest(tmp_path):
    ys = np.linspace(-1, 1, 21)
    ridge = np.exp(-50 * (ys[:, None] - (2 * XS - 1)) ** 2)
    plots.densities(XS, ys, {"ridge": ridge}, tmp_path / "a.png", points={"ridge": (XS, XS)})
    plots.densities(XS, ys, {"ridge": ridge}, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    image = imread(tmp_path / "b.png")[..., :3].sum(-1)
    inside = image[80:-80, 120:-40]  # without the frame and texts
    up = inside.shape[0] - 1 - inside.argmin(0)  # the ridge climbs from left to right
    assert np.corrcoef(up, np.arange(len(up)))[0, 1] > 0.95


def test_equal_predictions_give_equal_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        plots.bands(XS, {"one": (MEAN, DEVIATION)}, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_other_shapes_and_no_panel_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"bands\(predictions=...\) must be of shape \(11,\)"):
        plots.bands(XS, {"a": (MEAN, np.ones(1))}, tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"must be of shape \(11,\) as xs, got truth"):
        plots.bands(XS, {"a": (MEAN, XS)}, tmp_path / "x.png", truth=(XS, np.ones(2)))
    with pytest.raises(ValueError, match=r"densities\(panels=...\) must be of shape \(3, 11\)"):
        plots.densities(XS, np.arange(3), {"a": np.ones((11, 3))}, tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"bands\(predictions\) must hold at least one panel"):
        plots.bands(XS, {}, tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
