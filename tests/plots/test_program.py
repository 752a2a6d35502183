"""The text of a graph is evaluated, counted and followed."""

from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

from fdl import plots
from tests.plots.dot import evaluate, operations, order, parse, reached


@jax.custom_vjp
def cubed(x):
    return x**3


cubed.defvjp(lambda x: (x**3, x), lambda x, g: (3 * x**2 * g,))
softened = jax.checkpoint(lambda x: jnp.log(jnp.exp(x) + 1.5))


@pytest.mark.parametrize(
    "fun",
    [
        lambda x, y: (x - 2.5 * y) / (y - x**2),
        lambda x, y: jnp.sin(x) * y - jnp.tanh(x * y),
        lambda x, y: jax.jit(lambda a, b: jax.jit(jnp.exp)(a) / b)(y, x),
        lambda x, y: jax.nn.relu(x) - jax.nn.relu(-y) + softened(x) * cubed(y),
    ],
    ids=["quotient", "tanh", "jit", "calls"],
)
def test_the_text_alone_gives_the_values_and_the_gradients_of_the_function(fun):
    x, y = 1.25, -0.75
    value, grads = jax.value_and_grad(fun, (0, 1))(x, y)
    np.testing.assert_allclose(evaluate(plots.graph(fun, x, y), x, y), [value], rtol=1e-12)
    both = plots.graph(jax.value_and_grad(fun, (0, 1)), x, y)
    np.testing.assert_allclose(evaluate(both, x, y), [value, *grads], rtol=1e-12)


def equations(jaxpr):
    """Count the primitives of a jaxpr, and of those that it calls in place of the calls."""
    found = Counter()
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        inner = [p for p in equation.params.values() if isinstance(p, (Jaxpr, ClosedJaxpr))]
        found += sum(map(equations, inner), Counter()) or Counter([equation.primitive.name])
    return found


def net(params, x):
    return jax.nn.softplus(x @ params["w1"] + params["b1"]) @ params["w2"]


def shapes(**sizes):
    return {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in sizes.items()}


def test_each_equation_is_one_ellipse_and_nothing_is_computed():
    n = 10**6  # a matrix of this size does not fit
    args = shapes(w1=(n, n), b1=(1, n), w2=(n, 3)), jax.ShapeDtypeStruct((4, n), np.float32)
    nodes, edges = parse(plots.graph(net, *args))
    assert operations(nodes) == equations(jax.make_jaxpr(net)(*args))
    assert operations(nodes)["dot_general"] == 2
    inputs = [node.lines for node in nodes.values() if node.kind == "input"]
    assert inputs == [
        ["params.b1", f"f32[1,{n}]"],
        ["params.w1", f"f32[{n},{n}]"],
        ["params.w2", f"f32[{n},3]"],
        ["x", f"f32[4,{n}]"],
    ]
    assert [node.lines for node in nodes.values() if node.kind == "output"] == [["out", "f32[4,3]"]]
    products = [node.lines[1:] for node in nodes.values() if node.lines[0] == "dot_general"]
    assert products == [["contract 1 with 0"]] * 2
    order(nodes, edges)


def test_a_product_of_n_factors_has_n_minus_1_multiplications_and_its_gradient_the_known_number():
    def product(a, b, c, d):
        return a * b * c * d

    args = (1.0, 2.0, 3.0, 4.0)
    assert operations(parse(plots.graph(product, *args))[0]) == {"mul": 3}
    nodes, _ = parse(plots.graph(jax.grad(product, range(4)), *args))
    # forwards ab and (ab)c; backwards two for each of the three products, the first of them by 1
    assert operations(nodes, "forward") == {"mul": 2}
    assert operations(nodes, "backward") == {"mul": 6}


def test_an_input_reaches_the_outputs_that_depend_on_it_and_no_other():
    def fun(a, b, c, d):
        def turn(carry, x):
            return (carry[0] * x, carry[1]), carry[1] * x

        (last, same), each = jax.lax.scan(turn, (a, b), jnp.ones(3) * c)
        return {
            "last": last,
            "same": same * 2,
            "each": each.sum(),
            "chosen": jnp.where(d > 0, a, c),
        }

    args = (1.5, 2.5, 3.5, 4.5)
    nodes, edges = parse(plots.graph(fun, *args))
    jacobian = jax.jit(jax.jacobian(fun, (0, 1, 2)))(*args)
    outputs = {n.lines[0]: i for i, n in nodes.items() if n.kind == "output"}
    for i, name in enumerate("abc"):
        (start,) = (k for k, node in nodes.items() if node.lines[0] == name)
        found = {out for out, k in outputs.items() if k in reached(edges, start)}
        # where d > 0 the derivative of `chosen` by c is 0, although it takes part
        assert found - {"out.chosen"} == {
            f"out.{out}" for out in jacobian if out != "chosen" and jacobian[out][i] != 0
        }
    (d,) = (k for k, node in nodes.items() if node.lines[0] == "d")
    assert {out for out, k in outputs.items() if k in reached(edges, d)} == {"out.chosen"}
    order(nodes, edges)


def test_a_scan_is_one_turn_with_constants_carry_and_slices():
    def fun(scale, x0, xs):
        return jax.lax.scan(lambda x, u: (scale * x + u, jnp.sin(x)), x0, xs)

    nodes, edges = parse(plots.graph(fun, jnp.ones(2), jnp.ones(2), jnp.ones((7, 2))))
    assert operations(nodes) == {"mul": 1, "add": 1, "sin": 1}
    assert {n.calls for n in nodes.values() if n.kind == "forward"} == {("scan, length=7",)}
    kinds = [
        (e.text, nodes[e.source].lines[-1], nodes[e.target].lines[-1])
        for e in edges
        if e.text.isalpha()
    ]
    assert kinds == [
        ("first", "f64[2]", "f64[2]"),
        ("each", "f64[7,2]", "f64[2]"),
        ("next", "f64[2]", "f64[2]"),
        ("last", "f64[2]", "f64[2]"),
        ("stacked", "f64[2]", "f64[7,2]"),
    ]
    (back,) = (e for e in edges if e.dashed)
    made_by = [nodes[e.source].lines[0] for e in edges if e.target == back.source]
    assert made_by == ["add"] and back.text == "next"
    assert back.target in {e.target for e in edges if e.text == "first"}
    order(nodes, edges)


def test_a_while_loop_shows_its_test_its_body_and_what_each_takes():
    def fun(limit, step, x):
        return jax.lax.while_loop(lambda s: s[0] < limit, lambda s: (s[0] + step, -s[1]), (x, step))

    nodes, edges = parse(plots.graph(fun, 9.0, 2.0, 1.0))
    calls = {n.lines[0]: n.calls for n in nodes.values() if n.kind == "forward"}
    assert calls == {
        "lt": ("while", "test"),
        "add": ("while", "body"),
        "neg": ("while", "body"),
        "when false": ("while",),
    }
    assert sum(e.dashed for e in edges) == 2
    (limit,) = (i for i, node in nodes.items() if node.lines[0] == "limit")
    outputs = {i for i, node in nodes.items() if node.kind == "output"}
    assert len(outputs) == 2 and outputs <= reached(edges, limit)
    order(nodes, edges)


def test_each_branch_of_a_cond_is_shown_and_the_index_chooses():
    def fun(i, x):
        return jax.lax.switch(i, [jnp.sin, jnp.cos, lambda x: 2 * x], x)

    nodes, edges = parse(plots.graph(fun, 1, 0.5))
    calls = {n.lines[0]: n.calls for n in nodes.values() if n.kind == "forward"}
    branches = {name: calls[name] for name in ("sin", "cos", "mul")}
    assert branches == {
        name: ("cond", f"branch {i}") for i, name in enumerate(["sin", "cos", "mul"])
    }
    (choose,) = (i for i, node in nodes.items() if node.lines[0] == "choose")
    arrows = {e.text: e.source for e in edges if e.target == choose}
    made_by = {e.target: nodes[e.source].lines[0] for e in edges}
    assert [made_by[arrows[k]] for k in ("0", "1", "2")] == ["sin", "cos", "mul"]
    assert set(arrows) == {"which", "0", "1", "2"} and "clamp" in calls
    order(nodes, edges)


@jax.jit
def outer(x):
    return jnp.sin(inner(x))


@jax.jit
def inner(x):
    return jnp.cos(x)


def test_calls_in_calls_are_opened_as_deep_as_asked_for():
    def calls(depth):
        nodes, _ = parse(plots.graph(outer, 1.0, depth=depth))
        ellipses = [n for n in nodes.values() if n.kind in ("forward", "call")]
        return {n.lines[0]: (n.kind, n.calls) for n in ellipses}

    opened = {
        "sin": ("forward", ("jit outer",)),
        "cos": ("forward", ("jit outer", "jit inner")),
    }
    assert calls(None) == calls(2) == opened
    assert calls(1) == {"sin": opened["sin"], "jit inner": ("call", ("jit outer",))}
    assert calls(0) == {"jit outer": ("call", ())}


def test_what_reverse_mode_adds_is_told_apart_inside_of_calls_too():
    nodes, _ = parse(plots.graph(jax.grad(jax.jit(lambda x: jnp.exp(x) * x)), 1.0))
    assert operations(nodes, "forward") == {"exp": 1}
    # of x: g e^x; of e^x: g x, then times e^x
    assert operations(nodes, "backward") == {"mul": 3, "add_any": 1}


def test_an_operation_with_a_function_for_a_parameter_is_no_call():
    nodes, _ = parse(plots.graph(lambda x: x.at[1].add(2.0), jnp.ones(3)))
    assert operations(nodes, "forward")["scatter-add"] == 1
    total = jax.jit(lambda x: jax.lax.reduce(x, 0.0, lambda a, b: a + b + a * b, (0,)))
    nodes, _ = parse(plots.graph(total, jnp.ones(3)))
    assert operations(nodes) == {"reduce": 1}


@pytest.mark.devices
@pytest.mark.parametrize("split", [jax.pmap, jax.shard_map], ids=["pmap", "shard_map"])
def test_inside_of_a_call_over_devices_a_variable_has_the_shape_of_its_part(split):
    if split is jax.shard_map:
        spec = jax.sharding.PartitionSpec("d")
        mesh = jax.sharding.Mesh(jax.devices()[:2], "d")
        split = partial(split, mesh=mesh, in_specs=spec, out_specs=spec)
    nodes, edges = parse(plots.graph(split(jnp.sin), jnp.ones((2, 3))))
    (sine,) = (i for i, node in nodes.items() if node.lines[0] == "sin")
    assert nodes[sine].calls[-1].startswith("shard_map")
    assert {n.lines[-1].partition("{")[0] for i, n in nodes.items() if i != sine} >= {
        "f64[2,3]",
        "f64[1,3]",
    }
    ends = [i for i, node in nodes.items() if node.kind in ("input", "output")]
    assert [nodes[i].lines[-1] for i in ends] == ["f64[2,3]"] * 2
    assert ends[1] in reached(edges, ends[0])


def test_literals_and_constants_are_nodes_of_their_own():
    table = jnp.arange(6.0).reshape(3, 2)
    nodes, _ = parse(plots.graph(lambda x: 3 * x @ table + 0.12345678 - 10**9, jnp.ones(3)))
    assert [n.lines for n in nodes.values() if n.kind == "plain"] == [["3"], ["0.1235"], ["1e+09"]]
    assert [n.lines for n in nodes.values() if n.kind == "box"].count(["f64[3,2]"]) == 1
    flags = parse(plots.graph(lambda k, b: (k + 12345678, b & True), 1, True))[0]
    assert [n.lines for n in flags.values() if n.kind == "plain"] == [["12345678"], ["True"]]


def test_what_has_no_part_in_an_output_is_left_out_also_in_calls():
    def fun(x, unused):
        both = jax.jit(lambda a, b: (jnp.sin(a), jnp.cos(b) * 7))
        jnp.exp(x)
        return both(x, unused)[0]

    nodes, edges = parse(plots.graph(fun, 1.0, 2.0))
    assert operations(nodes) == {"sin": 1}
    assert [n.lines[0] for n in nodes.values() if n.kind == "input"] == ["x", "unused"]
    assert len(edges) == 3 and len(nodes) == 5  # x, sin, its box, out; unused
    assert "cluster" not in plots.graph(lambda x: (jax.jit(jnp.exp)(x), x)[1], 1.0)


def test_what_has_an_effect_is_no_dead_code():
    def fun(x):
        jax.debug.callback(lambda y: None, jnp.cos(x))
        return jnp.sin(x)

    counts = operations(parse(plots.graph(fun, 1.0))[0])
    assert counts == {"sin": 1, "cos": 1, "debug_callback": 1}


def test_an_output_may_be_an_input_a_number_or_another_output():
    def fun(x):
        y = x * 2
        return {"again": y, "x": x, "one": 1.0, "y": y}

    nodes, edges = parse(plots.graph(fun, 3.0))
    assert evaluate(plots.graph(fun, 3.0), 3.0) == [6.0, 1.0, 3.0, 6.0]
    names = sorted(n.lines[0] for n in nodes.values() if n.kind == "output")
    assert names == ["out.again", "out.one", "out.x", "out.y"]
    assert operations(nodes) == {"mul": 1}


def test_inputs_are_named_after_the_parameters_of_the_function():
    def named(fun, *args):
        nodes, _ = parse(plots.graph(fun, *args))
        return [node.lines[0] for node in nodes.values() if node.kind == "input"]

    tree = {"a": [1.0, 2.0], "b": (3.0, None)}
    assert named(lambda p, *rest: 0.0, tree, 1.0, 2.0) == [
        "p.a.0", "p.a.1", "p.b.0", "rest.0", "rest.1"
    ]  # fmt: skip
    assert named(partial(lambda a, b: a * b, 2.0), 3.0) == ["b"]
    assert named(jax.grad(lambda weights, x: weights * x), 1.0, 2.0) == ["weights", "x"]
    assert named(jax.jit(lambda q: q), 1.0) == ["q"]
