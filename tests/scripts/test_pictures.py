import re
import shutil
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from matplotlib.image import imread

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import pictures  # noqa: E402

FOLDER = ROOT / "docs" / "guide" / "pictures"


def shown():
    """Name the pictures that a page of the guide shows."""
    pages = [page.read_text(encoding="utf-8") for page in ROOT.glob("docs/**/*.md")]
    return set(re.findall(r"!\[[^\]]+\]\((?:guide/)?pictures/([^)\s]+)\)", "".join(pages)))


def test_the_script_draws_every_picture_of_the_guide_and_no_other():
    there = {path.name for path in FOLDER.iterdir()}
    assert there == set(pictures.PICTURES)
    assert there == shown()


def test_pictures_are_small():
    assert [path.name for path in FOLDER.iterdir() if path.stat().st_size > 100_000] == []


def test_an_unknown_picture_is_refused_in_one_line(capsys):
    assert pictures.main(["a.png"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and line.endswith("got a.png\n") and "line_searches.png" in line


@pytest.mark.slow
def test_each_step_that_a_search_tries_lies_where_the_picture_marks_it_and_the_last_is_accepted():
    c1, c2 = 0.05, 0.1
    a = np.linspace(0, 13, 13001)
    phi, slope = map(np.asarray, jax.vmap(jax.value_and_grad(pictures.wavy))(a))
    for name, by_rule in pictures.accepted(phi, slope, a, c1, c2).items():
        more = {} if name == "scale_by_armijo" else {"c2": c2}
        search = getattr(pictures.optim, name)(c1=c1, **more)
        for first in (12.5, 0.05):
            steps = pictures.tried(search, first)
            at = [round(1000 * step) for step in steps]
            good = [any(where[i] for where in by_rule.values()) for i in at]
            assert steps[0] == first and good == [False] * (len(at) - 1) + [True], (name, steps)


OWN = [name for name, draw in pictures.PICTURES.items() if not isinstance(draw, partial)]


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)  # recipes, which draw the others, have their own tests
def test_a_picture_in_the_guide_is_what_the_script_draws(name, tmp_path):
    if name.endswith(".svg") and shutil.which("dot") is None:
        pytest.skip("Graphviz is not installed")
    pictures.PICTURES[name](tmp_path / name)
    if name.endswith(".png"):
        new, old = (imread(folder / name)[..., :3] for folder in (tmp_path, FOLDER))
        assert new.shape == old.shape
        # rounding moves lines by dots; an empty panel or another curve differs by 0.04 and more
        assert np.abs(new - old).mean() < 0.02
