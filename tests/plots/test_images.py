import numpy as np
import pytest

from fdl import plots
from fdl.plots.images import MARK, _draw

IMAGES = np.arange(24.0).reshape(2, 3, 4)


def test_each_image_is_drawn_on_the_scale_of_its_row():
    rows = {
        "plain": plots.ImageRow(IMAGES),
        "signed": plots.ImageRow(-IMAGES[:1], signed=True),
        "black": plots.ImageRow(0 * IMAGES),
    }
    shown = [axes.images[0] for axes in _draw(rows, "").axes if axes.images]
    for image, expected in zip(shown, [*IMAGES, -IMAGES[0], *(0 * IMAGES)], strict=True):
        np.testing.assert_array_equal(image.get_array(), expected)
    assert [image.get_clim() for image in shown] == [(0, 23)] * 2 + [(-11, 11)] + [(0, 1)] * 2


def test_marks_set_off_image_and_caption():
    rows = {"$ read": plots.ImageRow(IMAGES, ["3 $", "8"], np.array([False, True]))}
    plain, marked = _draw(rows, "").axes
    assert [axes.get_xlabel() for axes in (plain, marked)] == ["3 $", "8"]
    assert plain.get_ylabel() == "$ read"
    assert marked.xaxis.label.get_color() == MARK != plain.xaxis.label.get_color()
    wide, thin = (axes.spines["top"].get_linewidth() for axes in (marked, plain))
    assert wide > thin


def test_equal_rows_give_equal_bytes(tmp_path):
    rows = {"a": plots.ImageRow(IMAGES, ["x", "y"]), "b": plots.ImageRow(IMAGES[:1])}
    for name in ("one.png", "two.png"):
        plots.image_rows(rows, tmp_path / name, title="$ rows")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "must hold a row"),
        ({"a": plots.ImageRow(IMAGES[0])}, r"\['a'\].images\) must be \(n, H, W\), got \(3, 4\)"),
        ({"a": plots.ImageRow(IMAGES, ["x"])}, "captions.* each of 2 images, got 1"),
        ({"a": plots.ImageRow(IMAGES, marked=[True] * 3)}, "marked.* each of 2 images, got 3"),
    ],
)
def test_what_cannot_be_drawn_is_refused(rows, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        plots.image_rows(rows, tmp_path / "never.png")
    assert not list(tmp_path.iterdir())
