"""Computational graphs of functions, as Graphviz text and pictures."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fdl.errors import InputError
from fdl.plots.figure import write
from fdl.plots.network import Edge, Network
from fdl.plots.program import read

FORMATS = (".dot", ".svg", ".png")
LOOKS = {  # kind of a node -> attributes
    "input": 'shape=box, fillcolor="#cfe6f5", color="#0072B2"',
    "output": 'shape=box, fillcolor="#fbdcc8", color="#D55E00"',
    "variable": 'shape=box, fillcolor="white", color="grey60", fontsize=9, margin="0.06,0.03"',
    "constant": 'shape=box, fillcolor="grey92", color="grey60", fontsize=9',
    "literal": 'shape=plain, fillcolor="white", fontsize=9, fontcolor="grey30"',
    "forward": 'shape=ellipse, fillcolor="#e3f3ec", color="#009E73"',
    "backward": 'shape=ellipse, fillcolor="#f6e4ee", color="#CC79A7"',
    "call": 'shape=ellipse, peripheries=2, fillcolor="grey92", color="grey40"',
}
DEFAULTS = """\
  graph [fontname="Helvetica", fontsize=11, labelloc=t, nodesep=0.2, ranksep=0.25, nslimit=1];
  node [fontname="Helvetica", fontsize=11, style=filled, height=0.2, width=0.2];
  edge [fontname="Helvetica", fontsize=8, fontcolor="grey30", color="grey40", arrowsize=0.5];
"""
CURVED = 250  # nodes: around more, Graphviz takes minutes to lead curved arrows
CALL = 'style="rounded,filled"; fillcolor="#00000008"; color="grey60"'


def graph(
    fun: Callable[..., Any],
    *args: Any,
    path: str | Path | None = None,
    depth: int | None = None,
    title: str = "",
) -> str:
    """Draw the computational graph of `fun(*args)`: how its outputs come from its inputs.

    Variables are boxes with their shape, inputs (blue) and outputs (orange) with their name too,
    operations are ellipses: green, and purple for what differentiation in reverse mode added. A
    call (`jit`, a custom derivative, `checkpoint`, `scan`, `while`, `cond`, `shard_map`) is a frame
    around what it does; a dashed arrow leads to the next turn of a loop. The arrows into an
    operation whose operands cannot be exchanged are numbered. What has no part in an output is
    left out, but for unused inputs. Equal functions give equal text, for one version of JAX.

    Args:
      fun: any function that JAX can trace, such as `jax.value_and_grad(loss)`.
      *args: its arguments, trees of arrays or of `jax.ShapeDtypeStruct`s; nothing is computed.
      path: file to write, whole or not at all: .dot for the text, .svg or .png for the picture,
        which the program `dot` of Graphviz draws.
      depth: levels of calls to open; deeper ones are an ellipse with two lines. None opens all.
      title: written above.

    Returns:
      The graph in Graphviz's language.

    Raises:
      ValueError: `path` ends in something else, or `depth` is negative.
      fdl.errors.InputError: a picture is asked for and Graphviz is not installed.

    Example:
      >>> import jax
      >>> text = graph(jax.grad(lambda x: x**3), 2.0)  # 3 x^2
      >>> [line.split('"')[1] for line in text.splitlines() if "ellipse" in line]
      ['integer_pow\\\\ny=2', 'mul', 'mul']

    Source:
      DLB 6.5.1, where operations are written at the arrows instead.
    """
    if depth is not None and depth < 0:
        raise ValueError(f"graph(depth=...) must be >= 0 or None, got {depth}")
    suffix = FORMATS[0] if path is None else Path(path).suffix
    if suffix not in FORMATS:
        raise ValueError(f"graph(path=...) must end in {', '.join(FORMATS)}, got {path}")
    text = _text(read(fun, args, depth), title)
    if path is not None:
        content = text.encode("utf-8", "backslashreplace")
        write(content if suffix == ".dot" else _picture(content, suffix), path)
    return text


def _text(network: Network, title: str) -> str:
    heading = f"  label={_quote(title)};\n" if title else ""
    heading += "  splines=line;\n" if len(network.nodes) > CURVED else ""
    edges = "".join(map(_edge, network.edges))
    return f"digraph {{\n{DEFAULTS}{heading}{_frame(network, 0)}{edges}}}\n"


def _frame(network: Network, index: int) -> str:
    """Write the nodes of a frame and the frames in it; nothing if there are none."""
    inside = "".join(
        f"  n{i} [label={_quote(*node.lines)}, {LOOKS[node.kind]}];\n"
        for i, node in enumerate(network.nodes)
        if node.frame == index
    )
    for i, frame in enumerate(network.frames):
        if frame.parent == index and (text := _frame(network, i)):
            head = f"  subgraph cluster_{i} {{ label={_quote(frame.title)}; {CALL};\n"
            inside += f"{head}{text}  }}\n"
    return inside


def _edge(edge: Edge) -> str:
    looks = [f"headlabel={_quote(edge.text)}"] if edge.text else []
    looks += ["style=dashed, constraint=false"] if edge.back else []
    return f"  n{edge.source} -> n{edge.target}{' [' + ', '.join(looks) + ']' if looks else ''};\n"


def _quote(*lines: str) -> str:
    """Write lines as one quoted string; what cannot be printed is written as Python escapes it."""
    plain = ("".join(c if c.isprintable() else repr(c)[1:-1] for c in line) for line in lines)
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"') for line in plain)
    return '"' + "\\n".join(escaped) + '"'


def _picture(text: bytes, suffix: str) -> bytes:
    program = shutil.which("dot")
    if program is None:
        raise InputError(
            f"graph(path=...) needs the program dot of Graphviz for {suffix}, got none on PATH;"
            " .dot needs nothing"
        )
    command = [program, f"-T{suffix[1:]}"]
    result = subprocess.run(command, input=text, capture_output=True, check=False)
    if result.returncode:
        reason = result.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise RuntimeError(
            f"graph(path=...) must be drawn by dot, got status {result.returncode}: {reason}"
        )
    return result.stdout
