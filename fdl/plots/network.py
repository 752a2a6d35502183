"""Nodes and arrows of a computational graph, while they are found."""

import dataclasses
from typing import NamedTuple


class Node(NamedTuple):
    """A variable or an operation.

    Attributes:
      kind: "input", "output", "variable", "constant" or "literal"; of operations "forward",
        "backward" or "call", the last for a call that is not opened.
      lines: what is written on it.
      frame: index of the call that it is part of; 0 is the function itself.
      effect: whether it does something besides its outputs, such as printing.
    """

    kind: str
    lines: tuple[str, ...]
    frame: int
    effect: bool = False


class Edge(NamedTuple):
    """An arrow between two nodes, by index; `back` leads to the next turn of a loop."""

    source: int
    target: int
    text: str = ""
    back: bool = False


class Frame(NamedTuple):
    """A call that is drawn around its inside; `parent` is -1 for the function itself."""

    title: str
    parent: int


@dataclasses.dataclass
class Network:
    """Nodes, edges and frames, in the order of the program."""

    nodes: list[Node] = dataclasses.field(default_factory=list)
    edges: list[Edge] = dataclasses.field(default_factory=list)
    frames: list[Frame] = dataclasses.field(default_factory=lambda: [Frame("", -1)])

    def node(self, kind: str, *lines: str, frame: int = 0, effect: bool = False) -> int:
        """Add a node and return its index."""
        self.nodes.append(Node(kind, lines, frame, effect))
        return len(self.nodes) - 1

    def link(self, source: int, target: int, text: str = "", *, back: bool = False) -> None:
        """Add an edge."""
        self.edges.append(Edge(source, target, text, back))

    def frame(self, title: str, parent: int) -> int:
        """Add a frame and return its index."""
        self.frames.append(Frame(title, parent))
        return len(self.frames) - 1


def without_dead_code(network: Network) -> Network:
    """Keep the inputs, and what an output or an effect is made from."""
    before: dict[int, list[int]] = {}
    for edge in network.edges:
        before.setdefault(edge.target, []).append(edge.source)
    todo = [i for i, node in enumerate(network.nodes) if node.kind == "output" or node.effect]
    needed = set(todo)
    while todo:
        new = set(before.get(todo.pop(), ())) - needed
        needed |= new
        todo += new
    kept = [i for i, node in enumerate(network.nodes) if i in needed or node.kind == "input"]
    index = {old: new for new, old in enumerate(kept)}
    edges = [
        edge._replace(source=index[edge.source], target=index[edge.target])
        for edge in network.edges
        if edge.target in needed
    ]
    return Network([network.nodes[i] for i in kept], edges, network.frames)
