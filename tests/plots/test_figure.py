from pathlib import Path

from fdl import plots


def test_no_picture_touches_the_global_state_of_matplotlib():
    sources = [path.read_text() for path in Path(plots.__file__).parent.glob("*.py")]
    assert len(sources) >= 4
    assert not any("pyplot" in source or "rcParams" in source for source in sources)
