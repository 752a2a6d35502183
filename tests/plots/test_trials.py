import numpy as np
import pytest

from fdl import plots
from fdl.plots.trials import _draw

SETTINGS = [{"lr": 10.0**-i, "n": i, "unit": "ab"[i % 2]} for i in range(4)]
SCORES = [np.nan, 0.02, 0.3, 0.9]


def test_each_setting_has_a_panel_with_the_scores_at_its_values():
    lr, n, unit = _draw(SETTINGS, SCORES, "loss", ["lr"], 1).axes
    assert [axes.get_xlabel() for axes in (lr, n, unit)] == ["lr", "n", "unit"]
    assert [axes.get_xscale() for axes in (lr, n, unit)] == ["log", "linear", "linear"]
    for axes, x in ((lr, [0.1, 0.01, 0.001]), (n, [1, 2, 3]), (unit, [1, 0, 1])):
        dots, cross, best = axes.lines
        np.testing.assert_allclose(dots.get_data(), [x, SCORES[1:]])
        np.testing.assert_allclose(best.get_data(), [[x[0]], [0.02]])
        assert cross.get_xdata() == {lr: 1.0, n: 0, unit: 0}[axes]
        assert axes.transAxes.inverted().transform(cross.get_transform().transform((1, 1)))[1] == 1
    assert [text.get_text() for text in unit.get_xticklabels()] == ["a", "b"]


@pytest.mark.parametrize(
    ("scores", "scale"),
    [([1, 2, 3, 9], "linear"), ([1, 2, 3, 11], "log"), ([0, 1, 2, 99], "linear")],
)
def test_scores_have_a_logarithmic_axis_where_they_span_a_decade(scores, scale):
    assert {axes.get_yscale() for axes in _draw(SETTINGS, scores, "loss").axes} == {scale}


def test_what_cannot_be_drawn_is_refused(tmp_path):
    for settings, scores in (([], []), ([{}], [1.0]), (SETTINGS, [1.0])):
        with pytest.raises(ValueError, match=r"trials\((settings|scores)=...\) must"):
            plots.trials(settings, scores, tmp_path / "a.png", quantity="loss")
