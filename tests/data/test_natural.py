import numpy as np
import pytest
from PIL import Image

from fdl import data
from fdl.errors import InputError


def test_pictures_are_grey_and_those_of_the_test_part_are_others():
    train, test = data.natural_images()
    assert len(train) == 3 and len(test) == 2
    for image in (*train, *test):
        assert image.dtype == np.float32 and image.ndim == 2 and min(image.shape) >= 150
        assert 0 <= image.min() < 0.1 and 0.7 < image.max() <= 1 and 0.1 < image.std() < 0.4
        # neighbours in a picture of the world are alike, along both axes
        for a, b in ((image[1:], image[:-1]), (image[:, 1:], image[:, :-1])):
            assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.85


def test_patches_are_pieces_of_the_pictures_all_places_being_as_probable():
    images = [np.arange(30.0).reshape(5, 6), 100 + np.arange(9.0).reshape(3, 3)]
    cut = data.patches(images, 3, 20_000, seed=0)
    assert cut.shape == (20_000, 3, 3) and cut.dtype == np.float32
    corners, counts = np.unique(cut[:, 0, 0], return_counts=True)
    assert corners.tolist() == [*range(4), *range(6, 10), *range(12, 16), 100]
    assert abs(counts / 20_000 - 1 / 13).max() < 5 * (1 / 13 / 20_000) ** 0.5
    inside = cut[cut[:, 0, 0] < 100]
    np.testing.assert_array_equal(
        inside - inside[:, :1, :1] + images[0][0, 0], [images[0][:3, :3]] * len(inside)
    )


def test_patches_depend_on_the_seed_alone_and_more_of_them_begin_with_the_same():
    images = data.natural_images().train
    a = data.patches(images, 9, 50, seed=3)
    np.testing.assert_array_equal(a, data.patches(images, 9, 80, seed=3)[:50])
    assert (a != data.patches(images, 9, 50, seed=4)).any()


def test_a_folder_of_pictures_is_read_in_the_order_of_names(tmp_path):
    colours = np.zeros((4, 5, 3), np.uint8)
    colours[..., 1] = 200
    Image.fromarray(colours).save(tmp_path / "b.png")
    Image.new("L", (3, 2), 51).save(tmp_path / "a.PNG")
    (tmp_path / "notes.txt").write_text("no picture")
    first, second = data.load_images(tmp_path)
    np.testing.assert_allclose(first, np.full((2, 3), 0.2), atol=1e-6)
    assert second.shape == (4, 5)
    np.testing.assert_allclose(second, 0.587 * 200 / 255, atol=0.003)  # the luma of green


def test_what_is_wrong_is_said_in_one_line(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        data.load_images(tmp_path / "none")
    with pytest.raises(InputError, match="no picture in it"):
        data.load_images(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no")
    with pytest.raises(InputError, match=r"broken\.png.*not a picture"):
        data.load_images(tmp_path)
    for images, size, count, message in (
        ([], 3, 1, r"patches\(images\) must be pictures .* got none"),
        ([np.ones((2, 9))], 3, 1, r"patches\(images\) .* sides >= 3, got \(2, 9\)"),
        ([np.ones((9, 9))], 0, 1, r"patches\(size=\.\.\.\) must be >= 1, got 0"),
        ([np.ones((9, 9))], 3, 0, r"patches\(count=\.\.\.\) must be >= 1, got 0"),
    ):
        with pytest.raises(InputError, match=message):
            data.patches(images, size, count, seed=0)
