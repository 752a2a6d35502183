import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections import Counter

import jax
import jax.numpy as jnp
import pytest
from matplotlib.image import imread

from fdl import plots
from fdl.errors import InputError
from tests.plots.dot import parse

needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
HOSTILE = ['"]; x [label="', "\\", '\\"', "a\nb", "\x00\r\x1b", "\\N -> }", "é→", "\ud800", "]}//"]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_stays_in_its_label(name, tmp_path):
    def fun(p):
        return {name: p[name] * 2.0}

    path = tmp_path / "g.dot"
    text = plots.graph(fun, {name: 1.0}, path=path, title=name)
    nodes, edges = parse(path.read_text(encoding="utf-8"))
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)
    assert nodes[0].lines == [f"p.{shown}", "f64[]"]
    assert [n.lines[0] for n in nodes.values() if n.kind == "output"] == [f"out.{shown}"]
    assert len(nodes) == 4 and len(edges) == 3 and parse(text) == (nodes, edges)
    if shutil.which("dot"):
        drawn = subprocess.run(
            ["dot", "-Tplain", path], capture_output=True, check=True
        ).stdout.decode()
        assert len(re.findall(r"^node n\d+ ", drawn, re.M)) == 4, drawn
        assert len(re.findall(r"^edge ", drawn, re.M)) == 3, drawn


def test_equal_functions_give_equal_text():
    def make():
        return plots.graph(jax.grad(lambda x: jax.nn.relu(jnp.sin(x) * x)), 1.0)

    assert make() == make()


def test_arrows_are_straight_where_there_are_too_many_to_bend():
    def powers(n):
        return plots.graph(lambda x: [x**i for i in range(2, n)], 1.0)

    assert "splines" not in powers(50)
    assert "  splines=line;\n" in powers(150)
    assert len(parse(powers(150))[0]) == 1 + 2 * 148


@jax.jit
def tangled(x):
    return jnp.sin(jax.nn.relu(jnp.cos(x)))


@needs_dot
def test_graphviz_draws_the_graph_whole(tmp_path):
    text = plots.graph(jax.grad(tangled), 1.0, path=tmp_path / "g.svg", title="a <b> & c")
    nodes, edges = parse(text)
    svg = ElementTree.parse(tmp_path / "g.svg").getroot()
    groups = Counter(group.get("class") for group in svg.iter("{http://www.w3.org/2000/svg}g"))
    assert groups["node"] == len(nodes) and groups["edge"] == len(edges)
    texts = [node.text for node in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert "a <b> & c" in texts and "cos" in texts
    plots.graph(tangled, 1.0, path=tmp_path / "g.png")
    assert imread(tmp_path / "g.png")[..., :3].std() > 0.05
    assert sorted(p.name for p in tmp_path.iterdir()) == ["g.png", "g.svg"]


def test_without_graphviz_the_text_is_still_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"graph\(path=...\) needs the program dot of Graphviz"):
        plots.graph(jnp.sin, 1.0, path=tmp_path / "g.svg")
    assert list(tmp_path.iterdir()) == []
    text = plots.graph(jnp.sin, 1.0, path=tmp_path / "g.dot")
    assert (tmp_path / "g.dot").read_text() == text


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_what_graphviz_says_when_it_fails_is_passed_on(tmp_path, monkeypatch):
    stand_in = tmp_path / "dot"
    stand_in.write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="got status 3: out of luck"):
        plots.graph(jnp.sin, 1.0, path=tmp_path / "g.png")
    assert list(tmp_path.iterdir()) == [stand_in]


def test_a_wrong_argument_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"graph\(path=...\) must end in .dot, .svg, .png, got a"):
        plots.graph(jnp.sin, 1.0, path="a.gif")
    with pytest.raises(ValueError, match=r"graph\(depth=...\) must be >= 0 or None, got -1"):
        plots.graph(jnp.sin, 1.0, depth=-1)
