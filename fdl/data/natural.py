"""Pictures of the world, and patches of them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdl.data.embedded import embedded
from fdl.data.npy_files import show
from fdl.errors import InputError

_TEST = ("camera", "rocket")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm")


class Pictures(NamedTuple):
    """Grey pictures, float32 in [0, 1] of shapes (height, width): some to learn, others to test."""

    train: list[NDArray[np.float32]]
    test: list[NDArray[np.float32]]


def natural_images() -> Pictures:
    """Load the grey pictures that are in the package: people, animals, things.

    Returns:
      Pictures(train, test) of three and two pictures, with sides of 150 to 320 pixels.

    Example:
      >>> train, test = natural_images()
      >>> [image.shape for image in test]
      [(256, 256), (214, 320)]

    Source: scikit-image's copies of pictures in the public domain or under CC0 1.0 (NOTICE has the
    names of the photographers): train astronaut, chelsea, coffee; test camera, rocket. Grey and
    half as large.
    """
    stored = {name: _in_unit(a) for name, a in embedded("natural").items()}
    train = [image for name, image in stored.items() if name not in _TEST]
    return Pictures(train, [stored[name] for name in _TEST])


def _in_unit(grey: NDArray[Any]) -> NDArray[np.float32]:
    return (grey / 255).astype(np.float32)


def load_images(folder: str | os.PathLike[str]) -> list[NDArray[np.float32]]:
    """Read all pictures of a folder, in the order of their names, as grey ones.

    Args:
      folder: of .png, .jpg, .tif, .bmp, .gif, .webp, .ppm or .pgm files; others are passed over.

    Returns:
      float32 in [0, 1], of shapes (height, width).

    Raises:
      InputError: there is no such folder, no picture in it, or one that cannot be read.

    Example:
      >>> import tempfile
      >>> from PIL import Image
      >>> folder = tempfile.mkdtemp()
      >>> Image.new("L", (4, 3), 255).save(os.path.join(folder, "white.png"))
      >>> [(image.shape, float(image.max())) for image in load_images(folder)]
      [((3, 4), 1.0)]
    """
    from PIL import Image  # only who brings pictures needs it

    if not os.path.isdir(folder):
        raise InputError(f"{show(folder)}: no such folder")
    files = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{show(folder)}: no picture in it")
    found = []
    for path in files:
        try:
            with Image.open(path) as image:
                found.append(_in_unit(np.asarray(image.convert("L"))))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"{show(path)}: not a picture that can be read: {error}") from error
    return found


def patches(
    images: Sequence[NDArray[Any]], size: int, count: int, *, seed: int
) -> NDArray[np.float32]:
    """Cut squares out of pictures at random places, each place being as probable as any other.

    Args:
      images: of shapes (height, width), sides >= size.
      size: side of a patch, pixels >= 1.
      count: how many, >= 1.
      seed: of the places.

    Returns:
      float32, shape (count, size, size).

    Raises:
      InputError: when no picture is given, one is smaller than a patch, or a number below 1.

    Example:
      >>> patches([np.arange(12.0).reshape(3, 4)], 3, 2, seed=0)[:, 0, 0].tolist()
      [1.0, 0.0]
    """
    for name, value in (("size", size), ("count", count)):
        if value < 1:
            raise InputError(f"patches({name}=...) must be >= 1, got {value}")
    shapes = [np.shape(image) for image in images]
    small = [s for s in shapes if len(s) != 2 or min(s) < size]
    if not shapes or small:
        raise InputError(
            f"patches(images) must be pictures (height, width) of sides >= {size}, "
            f"got {small[0] if small else 'none'}"
        )
    places = np.array([(h - size + 1) * (w - size + 1) for h, w in shapes])
    ends = np.cumsum(places)
    # raw words, which are the same under every version of NumPy; 2^64 is so large that no place
    # gains from the remainder
    drawn = np.random.Philox(key=seed).random_raw(count) % np.uint64(ends[-1])
    result = np.empty((count, size, size), np.float32)
    for i, place in enumerate(drawn.astype(np.int64)):
        which = int(np.searchsorted(ends, place, side="right"))
        row, column = divmod(int(place - ends[which] + places[which]), shapes[which][1] - size + 1)
        result[i] = images[which][row : row + size, column : column + size]
    return result
