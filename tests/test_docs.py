"""What the documentation says runs (doctests, code blocks of pages), and nothing public lacks it.

All of it runs as a reader would run it, in 32 bits. A block fenced as `python` is run, one page's
blocks in order in one namespace; blocks that cannot run (they need a file of the reader's) are
fenced as `py`.
"""

import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(
    str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__")
    for path in ROOT.glob("fdl/**/*.py")
)
PAGES = sorted(p for p in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")] if p.exists())
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(autouse=True)
def as_a_reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    jax.config.update("jax_enable_x64", False)
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_print_what_they_say(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name), optionflags=FLAGS).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, name
    for public in getattr(module, "__all__", []):
        thing = getattr(module, public)
        if inspect.ismodule(thing) or not getattr(thing, "__module__", "").startswith("fdl."):
            continue  # rooms are seen themselves; constants and type aliases cannot carry one
        text = thing.__doc__ or ""
        # What dataclasses and named tuples write by themselves says nothing.
        assert text and not text.startswith(f"{thing.__name__}("), f"{name}.{public}"


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line number, code) for the fenced blocks that promise to run."""
    for found in re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S):
        yield text.count("\n", 0, found.start(1)), found.group(1)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_code_of_a_page_runs(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {"__name__": "__page__"}
    for line, code in blocks(page.read_text(encoding="utf-8")):
        if code.lstrip().startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(code, names, page.name, str(page), line)
            runner = doctest.DocTestRunner(optionflags=FLAGS)
            assert runner.run(test, clear_globs=False).failed == 0, capsys.readouterr().out
            names = test.globs
        else:
            exec(compile("\n" * line + code, str(page), "exec"), names)


def broken_links(pages: list[Path]) -> list[str]:
    """Name the links and the pictures of pages that are not there."""
    return [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]


def test_links_between_pages_lead_somewhere() -> None:
    assert broken_links(PAGES) == []


def test_the_index_names_every_page_of_the_guide() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\]\(guide/([^)]+)\)", index))
    assert named == {page.name for page in ROOT.glob("docs/guide/*.md")}


def test_a_link_or_a_picture_that_is_not_there_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "[a](page.md) [b](https://x.y/z) ![c](no.png) [d](page.md#e) "
        '![f](no.svg "a title") [g](no.md#h)'
    )
    assert broken_links([page]) == ["page.md: no.png", "page.md: no.svg", "page.md: no.md"]
