"""From a function to its computational graph, by way of its jaxpr."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from fdl.plots.network import Network, without_dead_code

SPLIT = ("shard_map", "xla_pmap")  # calls whose inside sees a part of what the caller has
# Operands of all other operations are numbered.
SYMMETRIC = ("add", "add_any", "and", "eq", "max", "min", "mul", "ne", "or", "xor")
# Parameters that repeat the shapes, or say how and not what is computed.
QUIET = (
    "accuracy",
    "body_nconsts",
    "cond_nconsts",
    "indices_are_sorted",
    "inline",
    "mode",
    "name",
    "new_sizes",
    "num_carry",
    "num_consts",
    "out_sharding",
    "precision",
    "preferred_element_type",
    "prevent_cse",
    "shape",
    "sharding",
    "symbolic_zeros",
    "unique_indices",
    "unroll",
    "weak_type",
)
LONGEST = 32  # characters of a parameter that is written down


class Place(NamedTuple):
    """Where an equation stands."""

    frame: int
    depth: int  # levels of calls that are still opened; all where it is negative
    backward: bool  # whether differentiation in reverse mode added it


def read(fun: Callable[..., Any], args: Sequence[Any], depth: int | None) -> Network:
    """Return the graph of `fun(*args)` without dead code; `depth` levels of calls are opened."""
    closed, shapes = jax.make_jaxpr(fun, return_shape=True)(*args)
    network = Network()
    parameters = zip(_parameters(fun, len(args)), args, strict=True)
    names = [name for parameter, arg in parameters for name in _leaves(parameter, arg)]
    inputs = [
        network.node("input", name, _type(variable))
        for name, variable in zip(names, closed.jaxpr.invars, strict=True)
    ]
    place = Place(frame=0, depth=-1 if depth is None else depth, backward=False)
    results = _body(network, closed, inputs, place)
    outvars = closed.jaxpr.outvars
    for name, variable, index in zip(_leaves("out", shapes), outvars, results, strict=True):
        node = network.nodes[index]
        if node.kind == "variable" and node.frame == 0:
            network.nodes[index] = node._replace(kind="output", lines=(name, *node.lines))
        else:  # an input, a number, inside a call, or another output too
            network.link(index, network.node("output", name, _type(variable)))
    return without_dead_code(network)


def _parameters(fun: Callable[..., Any], count: int) -> list[str]:
    """Name positional arguments after the parameters of the function."""
    try:
        known = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):  # it hides them, as some builtins do
        known = []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in known if p.kind in positional][:count]
    rest = next((p.name for p in known if p.kind == inspect.Parameter.VAR_POSITIONAL), "arg")
    return names + [f"{rest}.{i}" for i in range(count - len(names))]


def _leaves(name: str, tree: Any) -> list[str]:
    """Name the leaves of a tree after their paths, such as params.w1."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    keys = [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
    return [f"{name}.{key}" if key else name for key in keys]


def _body(network: Network, jaxpr: Any, inputs: Sequence[int], place: Place) -> list[int]:
    """Add what a jaxpr does to the nodes `inputs`; return the nodes of its outputs."""
    jaxpr = _open(jaxpr)
    nodes = dict(zip(jaxpr.invars, inputs, strict=True))
    for variable in jaxpr.constvars:
        nodes[variable] = network.node("constant", _type(variable), frame=place.frame)

    def find(atom: Any) -> int:
        if isinstance(atom, Literal):
            return network.node("literal", _value(atom), frame=place.frame)
        return nodes[atom]

    for equation in jaxpr.eqns:
        backward = place.backward or "transpose(" in str(equation.source_info.name_stack)
        here = place._replace(backward=backward)
        operands = [find(atom) for atom in equation.invars]
        add = _operation if place.depth == 0 else _rule(equation)
        nodes.update(zip(equation.outvars, add(network, equation, operands, here), strict=True))
    return [find(atom) for atom in jaxpr.outvars]


Rule = Callable[[Network, JaxprEqn, Sequence[int], Place], list[int]]


def _rule(equation: JaxprEqn) -> Rule:
    """Tell how the equation is drawn: opened, or as an operation."""
    if loop := LOOPS.get(equation.primitive.name):
        return loop
    called = _called(equation)
    return _call if len(called) == 1 and _fits(equation, _open(called[0])) else _operation


def _fits(equation: JaxprEqn, jaxpr: Any) -> bool:
    """Tell a call from an operation with a function for a parameter, such as a scatter."""
    pairs = (equation.invars, jaxpr.invars), (equation.outvars, jaxpr.outvars)
    if any(len(outer) != len(inner) for outer, inner in pairs):
        return False
    same = all([_type(v) for v in outer] == [_type(v) for v in inner] for outer, inner in pairs)
    return same or equation.primitive.name in SPLIT


def _operation(
    network: Network, equation: JaxprEqn, operands: Sequence[int], place: Place
) -> list[int]:
    """Draw the equation as one node and a box for each result."""
    kind = "backward" if place.backward else "forward"
    if _rule(equation) is not _operation:
        kind = "call"
    lines = (_title(equation), *_details(equation))
    node = network.node(kind, *lines, frame=place.frame, effect=bool(equation.effects))
    numbered = len(operands) > 1 and equation.primitive.name not in SYMMETRIC
    for i, operand in enumerate(operands):
        network.link(operand, node, str(i + 1) if numbered else "")
    return [_box(network, node, variable, place.frame) for variable in equation.outvars]


def _box(network: Network, source: int, variable: Any, frame: int, text: str = "") -> int:
    """Add a variable that comes from the node `source`."""
    box = network.node("variable", _type(variable), frame=frame)
    network.link(source, box, text)
    return box


def _enter(network: Network, equation: JaxprEqn, place: Place) -> Place:
    frame = network.frame(", ".join([_title(equation), *_details(equation)]), place.frame)
    return place._replace(frame=frame, depth=place.depth - 1)


def _call(network: Network, equation: JaxprEqn, operands: Sequence[int], place: Place) -> list[int]:
    """Draw what is called with the caller's boxes, or new ones where it sees other shapes."""
    (jaxpr,) = map(_open, _called(equation))
    inside = _enter(network, equation, place)

    def pass_on(nodes: Sequence[int], old: Any, new: Any, frame: int) -> list[int]:
        return [
            node if _type(a) == _type(b) else _box(network, node, b, frame)
            for node, a, b in zip(nodes, old, new, strict=True)
        ]

    inputs = pass_on(operands, equation.invars, jaxpr.invars, inside.frame)
    results = _body(network, jaxpr, inputs, inside)
    return pass_on(results, jaxpr.outvars, equation.outvars, place.frame)


def _scan(network: Network, equation: JaxprEqn, operands: Sequence[int], place: Place) -> list[int]:
    """Draw one turn: constants, carry and slices come in, carry and slices go out."""
    jaxpr = _open(equation.params["jaxpr"])
    inside = _enter(network, equation, place)
    # What is sliced or stacked has one axis more outside; the versions of JAX tell it differently.
    sliced = sum(_rank(a) != _rank(b) for a, b in zip(equation.invars, jaxpr.invars, strict=True))
    stacked = sum(
        _rank(a) != _rank(b) for a, b in zip(equation.outvars, jaxpr.outvars, strict=True)
    )
    carried = len(jaxpr.outvars) - stacked
    first = len(operands) - sliced - carried  # operand that is carried
    boxes = [
        _box(network, node, v, inside.frame, "first" if i < carried else "each")
        for i, (node, v) in enumerate(zip(operands[first:], jaxpr.invars[first:], strict=True))
    ]
    results = _body(network, jaxpr, [*operands[:first], *boxes], inside)
    _turn(network, results[:carried], boxes[:carried])
    return [
        _box(network, node, v, place.frame, "last" if i < carried else "stacked")
        for i, (node, v) in enumerate(zip(results, equation.outvars, strict=True))
    ]


def _while(
    network: Network, equation: JaxprEqn, operands: Sequence[int], place: Place
) -> list[int]:
    """Draw one turn, and the test, whose node "when false" lets the carry out."""
    params = equation.params
    test, body = params["cond_jaxpr"], params["body_jaxpr"]
    n, m = params["cond_nconsts"], params["body_nconsts"]
    inside = _enter(network, equation, place)
    boxes = [
        _box(network, node, v, inside.frame, "first")
        for node, v in zip(operands[n + m :], equation.outvars, strict=True)
    ]
    parts = [inside._replace(frame=network.frame(name, inside.frame)) for name in ("test", "body")]
    (passed,) = _body(network, test, [*operands[:n], *boxes], parts[0])
    results = _body(network, body, [*operands[n : n + m], *boxes], parts[1])
    _turn(network, results, boxes)
    return _select(network, "when false", passed, [boxes], equation.outvars, inside, place)


def _turn(network: Network, results: Sequence[int], carry: Sequence[int]) -> None:
    for new, old in zip(results, carry, strict=True):
        if new != old:
            network.link(new, old, "next", back=True)


def _cond(network: Network, equation: JaxprEqn, operands: Sequence[int], place: Place) -> list[int]:
    """Draw all branches, and for each result the node that chooses among theirs."""
    index, *rest = operands
    inside = _enter(network, equation, place)
    results = []
    for i, branch in enumerate(equation.params["branches"]):
        frame = network.frame(f"branch {i}", inside.frame)
        results.append(_body(network, branch, rest, inside._replace(frame=frame)))
    return _select(network, "choose", index, results, equation.outvars, inside, place)


def _select(
    network: Network,
    title: str,
    by: int,
    choices: Sequence[Sequence[int]],
    outvars: Sequence[Any],
    inside: Place,
    place: Place,
) -> list[int]:
    """Add for each result a node that lets one of the choices out."""
    boxes = []
    for i, variable in enumerate(outvars):
        kind = "backward" if place.backward else "forward"
        node = network.node(kind, title, frame=inside.frame)
        network.link(by, node, "which" if len(choices) > 1 else "")
        for j, choice in enumerate(choices):
            network.link(choice[i], node, str(j) if len(choices) > 1 else "")
        boxes.append(_box(network, node, variable, place.frame))
    return boxes


LOOPS: dict[str, Rule] = {"scan": _scan, "while": _while, "cond": _cond}


def _open(jaxpr: Any) -> Any:
    return getattr(jaxpr, "jaxpr", jaxpr)


def _called(equation: JaxprEqn) -> list[Any]:
    return [p for p in equation.params.values() if isinstance(p, (Jaxpr, ClosedJaxpr))]


def _type(variable: Any) -> str:
    """Write dtype and shape, such as f32[4,5]."""
    return variable.aval.str_short(short_dtypes=True)


def _rank(variable: Any) -> int:
    return len(variable.aval.shape)


def _value(literal: Any) -> str:
    value = np.asarray(literal.val)
    if value.ndim:
        return _type(literal)
    return (
        f"{float(value):.4g}" if _type(literal)[0] in "fb" and value.dtype != bool else str(value)
    )


def _title(equation: JaxprEqn) -> str:
    """Name the operation, and the function if it is a call of one."""
    called = [_open(jaxpr).debug_info.func_name for jaxpr in _called(equation)]
    name = called[0] if len(called) == 1 and _rule(equation) is not _operation else ""
    return f"{equation.primitive.name} {'' if name == '<lambda>' else name}".strip()


def _details(equation: JaxprEqn) -> list[str]:
    """Write the parameters that matter."""
    if equation.primitive.name == "dot_general":
        pairs = zip(("contract", "batch"), equation.params["dimension_numbers"], strict=True)
        return [f"{name} {_plain(a)} with {_plain(b)}" for name, (a, b) in pairs if a]
    params = ((name, _plain(p)) for name, p in equation.params.items() if name not in QUIET)
    texts = [f"{name}={text}" for name, text in params if text]
    return [text for text in texts if len(text) <= LONGEST]


def _plain(parameter: Any) -> str:
    """Write numbers, texts, types and sequences of them; nothing for flags that are off."""
    if isinstance(parameter, np.dtype):
        return str(parameter)
    if isinstance(parameter, (tuple, list)):
        parts = list(map(_plain, parameter))
        return ", ".join(parts) if all(parts) else ""
    known = isinstance(parameter, (int, float, str)) and parameter is not False
    return str(parameter) if known else ""
