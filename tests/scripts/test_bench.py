import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "bench"))

import bfgs_step  # noqa: E402
import harness  # noqa: E402
import picture  # noqa: E402
import timing  # noqa: E402
from tables import Table  # noqa: E402


def test_everyone_has_two_turns_a_round_and_each_is_first_in_turn():
    assert timing.order(["a", "b", "c"], 0) == ["a", "b", "c", "c", "b", "a"]
    assert [timing.order(["a", "b", "c"], i)[0] for i in range(5)] == ["a", "b", "c", "a", "b"]


def test_a_load_that_grows_cancels_from_the_ratios():
    clock = 0.0

    def contender(cost):
        def turn(repetitions):
            nonlocal clock
            clock += 1.0
            return repetitions * cost * (1 + 0.01 * clock)  # slower with every turn

        return turn

    turns = {"fast": contender(1e-3), "slow": contender(3e-3)}
    spent = timing.rounds(turns, 6, seconds=0.03)
    assert len(spent["fast"]) == len(spent["slow"]) == 6
    np.testing.assert_allclose(timing.ratio(spent, "slow", "fast"), 3, rtol=1e-12)
    np.testing.assert_allclose(timing.spread(spent, "slow", "fast"), (3, 3), rtol=1e-12)
    assert spent["fast"][-1] > 1.1 * spent["fast"][0]  # the load itself is not hidden


def test_a_ratio_is_the_median_over_rounds():
    spent = {"a": [1.0, 4.0, 90.0], "b": [1.0, 2.0, 10.0]}  # a disturbed round, the last
    assert timing.ratio(spent, "a", "b") == 2
    assert timing.spread(spent, "a", "b") == (1.5, 5.5)


def test_what_is_timed_is_a_repetition():
    turns = {
        "x": lambda repetitions: 0.25 * repetitions,
        "y": lambda repetitions: 4.0 * repetitions,
    }
    assert timing.rounds(turns, 2, seconds=1.0) == {"x": [0.25, 0.25], "y": [4.0, 4.0]}


def bowl(x):
    return jnp.sum(jnp.arange(1, x.size + 1) * x**2) / 2 + jnp.sum(x) ** 2 + jnp.sum(x**4) / 4


def product_form(f, x, iterations):
    """The textbook's BFGS: M as a product of matrices, steps halved until f falls enough."""
    gradient = jax.jit(jax.grad(f))
    g, identity = gradient(x), np.eye(x.size)
    m, d = identity, -g * min(1, 1 / np.linalg.norm(g))
    for k in range(iterations):
        step = 1.0
        while f(x + step * d) > f(x) + 1e-4 * step * (g @ d):
            step /= 2
        s, y = step * d, gradient(x + step * d) - g
        m = m * (s @ y) / (y @ y) if k == 0 else m
        left = identity - np.outer(s, y) / (s @ y)
        m = left @ m @ left.T + np.outer(s, s) / (s @ y)
        x, g = x + s, g + y
        d = -m @ g
    return x, m


def test_the_bfgs_written_by_hand_is_that_of_the_textbook():
    x0 = jnp.array([3.0, -2.0, 1.0, 2.0])
    end = jax.jit(bfgs_step.hand_written(bowl, 7))(x0)
    x, matrix = product_form(jax.jit(bowl), x0, 7)
    assert end.count == 7
    np.testing.assert_allclose(end.x, x, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(end.matrix, matrix, rtol=1e-7, atol=1e-12)


def test_the_analysis_counts_in_units_of_the_matrix():
    n = 300
    state = {"matrix": jnp.zeros((n, n)), "x": jnp.zeros(n)}
    found = bfgs_step.analyse(
        lambda state, g: ({"matrix": state["matrix"] + jnp.outer(g, g), "x": g}, g.sum()),
        state,
        jnp.ones(n),
    )
    np.testing.assert_allclose(found.state, 1 + 1 / n)
    assert 2 <= found.flops < 2.05  # a product and a sum
    assert 2 <= found.traffic < 2.05  # one reading, one writing
    assert found.further < 0.05


def test_an_update_of_bfgs_reads_its_matrix_twice_and_writes_it_once():
    found = bfgs_step.ours(1000)
    assert found.traffic < 3.2 and found.flops < 10
    assert found.state < 1.02 and found.further < 0.05


def results():
    def row(solver, problem, work, f=0.0, solved=True):
        empty = dict.fromkeys(harness.Result._fields, 0)
        more = {"solver": solver, "problem": problem, "f": f, "f0": 1.0, "solved": solved}
        return harness.Result(**empty | more | {"work": work, "ng": work})

    return [
        *(row("fdl-bfgs", name, work) for name, work in (("p", 40), ("q", 20), ("r", 30))),
        row("fdl-newton", "p", 50),
        row("fdl-newton", "q", 5, solved=False),
        row("fdl-newton", "r", 10, f=0.5),  # another minimum
    ]


def test_a_profile_grows_where_the_best_value_was_reached():
    table = Table(results())
    costs, shares = picture.profile(table, "fdl-bfgs")
    assert costs == [20, 30, 40]
    np.testing.assert_allclose(shares, [100 / 3, 200 / 3, 100])
    costs, shares = picture.profile(table, "fdl-newton")
    assert costs == [50] and shares == pytest.approx([100 / 3])


def test_the_picture_shows_each_solver_that_ran_in_its_panel(monkeypatch, tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setattr(plt, "close", lambda figure: None)
    picture.draw(Table(results()), str(tmp_path / "profile.png"))
    left, right = plt.gcf().axes
    monkeypatch.undo()
    shown = [[line.get_label() for line in axis.get_lines()] for axis in (left, right)]
    plt.close("all")
    assert shown == [["fdl bfgs"], ["fdl newton"]]
    assert (tmp_path / "profile.png").stat().st_size > 5000
