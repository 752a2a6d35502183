"""A reader of the text of computational graphs, which shares no line with its writer."""

import graphlib
import re
from collections import Counter
from typing import NamedTuple

import numpy as np

NODE = re.compile(r' *n(\d+) \[label="((?:\\.|[^"\\])*)", shape=(\w+), (.*)\];')
EDGE = re.compile(r" *n(\d+) -> n(\d+)(?: \[(.*)\])?;")
CLUSTER = re.compile(r' *subgraph cluster_\d+ \{ label="((?:\\.|[^"\\])*)"; .*')
COLOURS = {"#0072B2": "input", "#D55E00": "output", "#009E73": "forward", "#CC79A7": "backward"}


class Node(NamedTuple):
    kind: str
    lines: list[str]
    calls: tuple[str, ...]  # titles of the frames around it, outermost first


class Edge(NamedTuple):
    source: int
    target: int
    text: str
    dashed: bool


def plain(label):
    unescaped = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else "\0" + m[1], label)
    return [line.replace("\0", "") for line in unescaped.split("\n")]


def parse(text):
    """Return ({index: Node}, [Edge]); every line must be one that we know."""
    nodes, edges, calls = {}, [], []
    lines = text.splitlines()
    assert lines[0] == "digraph {" and lines[-1] == "}"
    for line in lines[1:-1]:
        if found := NODE.fullmatch(line):
            index, label, shape, looks = found.groups()
            colour = re.search(r' color="(.*?)"', looks)
            kind = "call" if "peripheries" in looks else COLOURS.get(colour and colour[1], shape)
            nodes[int(index)] = Node(kind, plain(label), tuple(calls))
        elif found := EDGE.fullmatch(line):
            source, target, looks = found.groups()
            label = re.search(r'headlabel="(.*?)"', looks or "")
            edges.append(
                Edge(int(source), int(target), label[1] if label else "", "dash" in (looks or ""))
            )
        elif found := CLUSTER.fullmatch(line):
            calls.append(plain(found[1])[0])
        elif line == "  }":
            calls.pop()
        else:
            assert re.match(r"  (graph|node|edge) \[|  label=|  splines=", line), line
    assert not calls and {i for e in edges for i in (e.source, e.target)} <= set(nodes)
    return nodes, edges


def operations(nodes, *kinds):
    kinds = kinds or ("forward", "backward", "call")
    return Counter(node.lines[0] for node in nodes.values() if node.kind in kinds)


def order(nodes, edges):
    """Sort the nodes; a circle of arrows that are not dashed is an error."""
    before = {i: [] for i in nodes}
    for edge in edges:
        if not edge.dashed:
            before[edge.target].append(edge.source)
    return list(graphlib.TopologicalSorter(before).static_order())


def reached(edges, start):
    found, todo = {start}, [start]
    while todo:
        here = todo.pop()
        new = {e.target for e in edges if e.source == here} - found
        found |= new
        todo += new
    return found


RULES = {
    "add": np.add, "add_any": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "neg": np.negative, "sin": np.sin, "cos": np.cos, "exp": np.exp, "tanh": np.tanh,
    "log": np.log, "max": np.maximum, "gt": np.greater, "pow": np.power,
    "one_minus_square": lambda x: 1 - x**2,
    "select_n": lambda which, no, yes: np.where(which, yes, no),
}  # fmt: skip


def evaluate(text, *inputs):
    """Compute the outputs of a graph of scalars from its text alone, in order of their names."""
    nodes, edges = parse(text)
    values = dict(zip([i for i, n in nodes.items() if n.kind == "input"], inputs, strict=True))
    for i in order(nodes, edges):
        name, *details = nodes[i].lines
        arrows = sorted((e for e in edges if e.target == i), key=lambda e: e.text)
        operands = [values[e.source] for e in arrows]
        if nodes[i].kind == "plain":
            values[i] = float(name)
        elif name == "integer_pow":
            values[i] = operands[0] ** int(details[0].removeprefix("y="))
        elif name in RULES:
            values[i] = RULES[name](*operands)
        elif nodes[i].kind != "input":
            (values[i],) = operands
    outputs = {node.lines[0]: values[i] for i, node in nodes.items() if node.kind == "output"}
    return [outputs[name] for name in sorted(outputs)]
