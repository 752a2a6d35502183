"""The plane is coloured by what the classifier says there."""

import numpy as np
import pytest
from PIL import Image

from fdl import plots
from fdl.plots.figure import COLOURS
from fdl.plots.regions import mixed_colours

XS, YS = np.linspace(-1, 1, 21), np.linspace(-1, 1, 11)


def halves(angle):
    """Probabilities of a class above a line through the origin, and of the other."""
    a = np.cos(angle) * XS[None, :] + np.sin(angle) * YS[:, None]
    p = np.heaviside(a + 1e-9, 1)
    return np.stack([p, 1 - p], axis=-1)


def rgb(hexadecimal):
    return np.array([int(hexadecimal[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def test_a_sure_class_has_its_colour_made_light_and_a_doubtful_one_a_mixture():
    sure = mixed_colours(np.eye(3))
    for c in range(3):
        np.testing.assert_allclose(sure[c], (1 + rgb(COLOURS[c])) / 2, atol=1e-12)
    np.testing.assert_allclose(mixed_colours(np.full(3, 1 / 3)), sure.mean(0), atol=1e-12)


@pytest.mark.parametrize(("angle", "axis", "sign"), [(0, 1, 1), (np.pi / 2, 0, -1)])
def test_each_half_plane_is_coloured_by_its_class_and_a_line_divides_them(
    angle, axis, sign, tmp_path
):
    points = 0.5 * np.array([[1, 1], [1, -1], [-1, 1]])
    labels = np.array([0, 1 - axis, axis])
    plots.regions(XS, YS, {"half": halves(angle)}, tmp_path / "a.png", points=points, labels=labels)
    image = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")) / 255
    places = []  # in pixels along the axis, towards class 0: right, or up
    for c in (0, 1):
        found = (abs(image - (1 + rgb(COLOURS[c])) / 2) < 0.02).all(-1)
        assert found.sum() > 5000  # pixels
        places.append(sign * np.nonzero(found)[axis])
        strong = (abs(image - rgb(COLOURS[c])) < 0.02).all(-1)
        assert strong.sum() > 5  # a point
    assert places[0].min() > places[1].max() - 3
    dark = sign * np.nonzero((image < 0.4).all(-1))[axis]
    border = (places[0].min() + places[1].max()) / 2
    assert (abs(dark - border) < 3).sum() > 100


def test_rules_of_its_arguments(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(ValueError, match="must hold at least one panel, got none"):
        plots.regions(XS, YS, {}, path)
    with pytest.raises(ValueError, match=r"must be of shape \(11, 21, classes\) .*got a \(21, 11"):
        plots.regions(XS, YS, {"a": np.ones((21, 11, 2))}, path)
    with pytest.raises(ValueError, match="must be given together"):
        plots.regions(XS, YS, {"a": halves(0)}, path, points=np.ones((1, 2)))
    assert not path.exists()
