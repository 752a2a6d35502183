import zipfile
from importlib import resources

import numpy as np
import pytest

from fdl.data.embedded import embedded

NAMES = ("breast_cancer", "diabetes", "digits", "iris", "karate", "natural", "sunspots", "wine")
FOLDER = resources.files("fdl").joinpath("data", "sets")


def test_embedded_sets_are_small():
    sizes = {file.name: len(file.read_bytes()) for file in FOLDER.iterdir()}
    assert sorted(sizes) == sorted(f"{name}.npz" for name in NAMES)
    assert sum(sizes.values()) < 350_000


@pytest.mark.parametrize("name", NAMES)
def test_embedded_sets_hold_plain_numbers_and_no_clock_time(name):
    for array in embedded(name).values():
        assert array.dtype.kind in "uf"
        assert np.isfinite(array).all()
    with FOLDER.joinpath(f"{name}.npz").open("rb") as file, zipfile.ZipFile(file) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
