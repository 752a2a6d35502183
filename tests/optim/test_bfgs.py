import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import line_search

from fdl import optim
from tests.optim.problems import (
    FUNCTIONS,
    exact_search,
    fixed_steps,
    linear_cg,
    path,
    quadratic,
    rosenbrock,
    usual,
)

N = 20


def textbook(points, gradients, m):
    """The product form of the book, in NumPy, from a given first matrix."""
    for x0, x1, g0, g1 in zip(points, points[1:], gradients, gradients[1:], strict=False):
        s, y = x1 - x0, g1 - g0
        r = 1 / (s @ y)
        left = np.eye(len(s)) - r * np.outer(s, y)
        m = left @ m @ left.T + r * np.outer(s, s)
    return m


@pytest.mark.parametrize("self_scaling", [False, True])
def test_on_a_quadratic_it_is_linear_conjugate_gradients(self_scaling):
    a, b, best = quadratic(N, condition=8.0)  # the textbook's own rounding grows with it
    tx = optim.bfgs(linesearch=exact_search(a), init_scale="none", self_scaling=self_scaling)
    points, _ = path(tx, lambda x: x @ a @ x / 2 - b @ x, np.zeros(N), N)
    np.testing.assert_allclose(points, linear_cg(a, b, np.zeros(N), N), atol=1e-8)
    np.testing.assert_allclose(points[-1], best, atol=1e-9)
    directions = np.diff(points[:16], axis=0)  # later ones are all but rounding
    conjugate = directions @ a @ directions.T
    scale = np.sqrt(np.outer(np.diag(conjugate), np.diag(conjugate)))
    assert np.abs(conjugate / scale - np.eye(15)).max() < 1e-8


@pytest.mark.parametrize("init_scale", ["none", "yy", 0.3])
def test_after_n_exact_steps_it_has_learned_the_inverse_hessian(init_scale):
    a, b, _ = quadratic(N)
    tx = optim.bfgs(linesearch=exact_search(a), init_scale=init_scale, self_scaling=False)
    _, state = path(tx, lambda x: x @ a @ x / 2 - b @ x, np.zeros(N), N + 1)
    inverse = optim.inverse_hessian(state)
    np.testing.assert_allclose(inverse, np.linalg.inv(a), atol=1e-8)


@pytest.mark.parametrize("name", usual("rosenbrock", "trigonometric"))
def test_its_matrix_is_that_of_the_product_form(name):
    fun, x0 = FUNCTIONS[name]
    steps = np.full(6, 0.05)  # short enough for every pair to show curvature on the way
    tx = optim.bfgs(linesearch=fixed_steps(steps), init_scale="none", self_scaling=False)
    points, state = path(tx, fun, x0, 6)
    gradients = [np.array(jax.grad(fun)(x)) for x in points[:6]]
    pairs = np.diff(points[:6], axis=0), np.diff(gradients, axis=0)
    assert all(s @ y > 0 for s, y in zip(*pairs, strict=True))
    expected = textbook(points[:6], gradients, np.eye(len(x0)))
    np.testing.assert_allclose(optim.inverse_hessian(state), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("damping", ["skip", "powell"])
@pytest.mark.parametrize("self_scaling", [False, True])
def test_secant_equation_symmetry_and_positive_definiteness_after_any_pairs(damping, self_scaling):
    """200 random pairs, half of them without curvature, a few of them zero or not finite."""
    rng = np.random.default_rng(0)
    tx = optim.scale_by_bfgs(damping=damping, self_scaling=self_scaling)
    x, g = rng.normal(size=(2, 6))
    update = jax.jit(tx.update)
    state = tx.init(x)
    _, state = update(g, state, x)
    learned = 0
    for i in range(200):
        s, y = rng.normal(size=(2, 6))
        if i % 2:
            y = np.sign(s @ y) * y
        if i % 40 == 7:
            y = y * np.nan
        x, g = x + s, np.nan_to_num(g) + y
        _, state = update(g, state, x)
        m = np.array(optim.inverse_hessian(state))
        assert np.isfinite(m).all()
        np.testing.assert_allclose(m, m.T, rtol=1e-10, atol=1e-12 * np.abs(m).max())
        assert np.linalg.eigvalsh(m).min() > -1e-10 * np.abs(m).max()
        if damping == "skip" and s @ y > 1e-3 and not state.blocks[0].fresh:
            np.testing.assert_allclose(m @ y, s, atol=1e-7 * np.linalg.norm(m) + 1e-10)
            learned += 1
    assert learned > 50 or damping == "powell"


def test_a_matrix_for_each_leaf_is_one_for_all_where_leaves_do_not_interact():
    a, c = quadratic(4, seed=1)[0], quadratic(3, seed=2)[0]

    def fun(p):
        return p["a"] @ a @ p["a"] / 2 + p["b"] @ c @ p["b"] / 2

    p0 = {"a": jnp.arange(1.0, 5.0), "b": jnp.ones(3)}
    found = {
        layout: optim.minimize(optim.bfgs(layout=layout), fun, p0, gtol=1e-10)
        for layout in ("dense", "per_leaf")
    }
    for result in found.values():
        assert result.status == optim.Status.CONVERGED
        assert all(np.abs(leaf).max() < 1e-8 for leaf in jax.tree.leaves(result.params))
    blocks = optim.inverse_hessian(found["per_leaf"].state)
    assert [m.shape for m in blocks] == [(4, 4), (3, 3)]
    one = optim.scale_by_bfgs(layout="per_leaf"), optim.scale_by_bfgs()
    g = jnp.ones(4)
    alone = [tx.update(g, tx.init(g), g)[0] for tx in one]
    np.testing.assert_array_equal(*alone)


@pytest.mark.parametrize("name", usual("rosenbrock", "wood"))
def test_ten_steps_are_those_of_scipy_with_its_step_lengths(name):
    fun, x0 = FUNCTIONS[name]
    f, g = jax.jit(fun), jax.jit(jax.grad(fun))
    x, m, steps, points = x0.copy(), np.eye(len(x0)), [], [x0]
    gradient, before = np.array(g(x)), None
    for _ in range(10):  # scipy's BFGS, with its own search
        d = -m @ gradient
        found = line_search(
            f, lambda z: np.array(g(z)), x, d, gradient, float(f(x)), before, c1=1e-4, c2=0.9
        )
        if found[0] is None:
            break
        steps.append(found[0])
        before = float(f(x))
        new = x + found[0] * d
        change = np.array(g(new)) - gradient
        s, r = new - x, 1 / (change @ (new - x))
        left = np.eye(len(x)) - r * np.outer(s, change)
        m = left @ m @ left.T + r * np.outer(s, s)
        x, gradient = new, np.array(g(new))
        points.append(x)
    # the first direction is that of -g, times a length of its own
    lengths = [*steps, *[0.0] * (10 - len(steps))]
    direction = optim.scale_by_bfgs(init_scale="none")
    first, _ = direction.update(g(x0), direction.init(x0), jnp.asarray(x0), value=f(x0))
    lengths[0] *= float(np.linalg.norm(g(x0)) / np.linalg.norm(first))
    tx = optax.chain(direction, optax.scale(-1.0), fixed_steps(lengths))
    ours, _ = path(tx, fun, x0, len(steps))
    assert len(steps) >= 4
    np.testing.assert_allclose(ours, points, rtol=1e-6, atol=1e-8)


def test_convergence_is_superlinear():
    found = path(optim.bfgs(), rosenbrock, np.array([-1.2, 1.0]), 60)[0]
    errors = np.linalg.norm(found - 1.0, axis=1)
    end = np.flatnonzero(errors < 1e-11)[0]
    last = errors[end - 3 : end + 1]
    assert (last[1:] / last[:-1] < 0.2).all()


def test_iterates_are_invariant_under_affine_maps_with_the_matrix_mapped_too():
    fun, x0 = FUNCTIONS["trigonometric"]
    a = np.array([[2.0, 0.3, 0.0], [0.0, 0.5, 0.1], [0.2, 0.0, 1.5]])
    direction, back = optim.scale_by_bfgs(), np.linalg.inv(a)

    def run(fun, x0, m):
        state = direction.init(jnp.asarray(x0))
        known = state.blocks[0]._replace(correction=m - jnp.eye(3), fresh=jnp.array(False))
        begin = optax.GradientTransformationExtraArgs(
            lambda params: state._replace(blocks=(known,)), direction.update
        )
        return path(optax.chain(begin, optax.scale(-1.0), fixed_steps(np.full(8, 0.3))), fun, x0, 8)

    points, end = run(fun, x0, jnp.eye(3))
    mapped, mapped_end = run(lambda z: fun(a @ z), back @ x0, back @ back.T)
    np.testing.assert_allclose(mapped @ a.T, points, rtol=1e-8, atol=1e-10)
    m, mapped_m = optim.inverse_hessian(end), optim.inverse_hessian(mapped_end)
    np.testing.assert_allclose(a @ mapped_m @ a.T, m, rtol=1e-7, atol=1e-10)


def test_a_search_that_finds_nothing_begins_anew():
    tx = optim.scale_by_bfgs()
    x, g = jnp.zeros(2), jnp.array([3.0, 4.0])
    _, state = tx.update(g, tx.init(x), x)
    _, state = tx.update(g + jnp.array([1.0, 0.0]), state, x + jnp.array([0.5, 0.0]))
    assert not state.blocks[0].fresh
    d, state = tx.update(g, state, x + jnp.array([0.5, 0.0]))  # it has not moved
    assert state.blocks[0].fresh
    np.testing.assert_allclose(d, g / 5, rtol=1e-12)
    np.testing.assert_array_equal(optim.inverse_hessian(state), np.eye(2))


def test_a_direction_that_does_not_lead_down_begins_anew():
    tx = optim.scale_by_bfgs()
    x, g = jnp.zeros(2), jnp.array([3.0, 4.0])
    _, state = tx.update(g, tx.init(x), x)
    block = state.blocks[0]._replace(correction=-2 * jnp.eye(2), fresh=jnp.array(False))  # M = -I
    y = jnp.array([0.0, -1.0])  # no curvature: nothing to learn
    d, state = tx.update(g + y, state._replace(blocks=(block,)), x - y)
    np.testing.assert_allclose(d, (g + y) / np.linalg.norm(g + y), rtol=1e-12)
    np.testing.assert_array_equal(optim.inverse_hessian(state), np.eye(2))


@pytest.mark.parametrize(
    ("options", "cosine", "learned"),
    [({}, 1e-11, False), ({}, 1e-9, True), ({"curvature_eps": 0.5}, 0.4, False)],
)
def test_a_pair_is_learned_where_its_cosine_is_large_enough(options, cosine, learned):
    tx = optim.scale_by_bfgs(**options)
    x, g = jnp.zeros(2), jnp.array([3.0, 4.0])
    _, state = tx.update(g, tx.init(x), x)
    s, y = 2.0 * jnp.array([1.0, 0.0]), 3.0 * jnp.array([cosine, (1 - cosine**2) ** 0.5])
    _, state = tx.update(g - y, tx.update(g - 2 * y, state, x - s)[1], x)
    assert bool(state.blocks[0].fresh) != learned


def test_where_init_was_given_is_no_step():
    tx = optim.scale_by_bfgs()
    g = jnp.array([3.0, 4.0])
    d, state = tx.update(g, tx.init(jnp.zeros(2)), jnp.ones(2))  # s'g > 0
    np.testing.assert_allclose(d, g / 5, rtol=1e-12)
    assert state.blocks[0].fresh


def test_where_the_product_with_the_matrix_overflows_it_begins_anew():
    tx = optim.scale_by_bfgs(self_scaling=True)
    x, g = jnp.zeros(2), jnp.array([3.0, 4.0])
    _, state = tx.update(g, tx.init(x), x)
    block = state.blocks[0]._replace(scale=jnp.asarray(1e250), fresh=jnp.array(False))
    y = jnp.array([1e40, 0.0])
    d, state = tx.update(g + y, state._replace(blocks=(block,)), x + 1.0)
    assert np.isfinite(d).all() and d @ (g + y) > 0
    assert np.isfinite(optim.inverse_hessian(state)).all()


def test_powell_keeps_a_fifth_of_the_curvature_that_the_matrix_promises():
    """After a pair with s'y < 0.2 y'M y the new matrix satisfies M y = s~ with s~'y = 0.2 y'M y."""
    tx = optim.scale_by_bfgs(damping="powell", init_scale="none")
    x, g = jnp.zeros(3), jnp.array([3.0, 4.0, 1.0])
    _, state = tx.update(g, tx.init(x), x)
    _, state = tx.update(g + jnp.array([1.0, 2.0, 0.0]), state, x + jnp.array([1.0, 1.0, 0.0]))
    m = np.array(optim.inverse_hessian(state))
    s, y = np.array([0.5, -0.6, 0.3]), np.array([1.0, 1.0, 0.5])
    assert 0 < s @ y < 0.2 * y @ m @ y
    where, there = jnp.array([1.0, 1.0, 0.0]) + s, g + jnp.array([1.0, 2.0, 0.0]) + y
    _, state = tx.update(there, state, where)
    part = 0.8 * (y @ m @ y) / (y @ m @ y - s @ y)
    moved = part * s + (1 - part) * m @ y
    np.testing.assert_allclose(moved @ y, 0.2 * y @ m @ y, rtol=1e-12)
    np.testing.assert_allclose(optim.inverse_hessian(state) @ y, moved, rtol=1e-10)


def test_self_scaling_makes_the_matrix_larger_and_never_smaller():
    tx = optim.scale_by_bfgs(self_scaling=True, init_scale="none")
    x, g = jnp.zeros(2), jnp.array([1.0, 1.0])
    for curvature, factor in ((0.25, 4.0), (4.0, 1.0)):
        _, state = tx.update(g, tx.init(x), x)
        s = jnp.array([1.0, 0.0])
        _, state = tx.update(g + curvature * s, state, x + s)
        # along s the curvature is learned; across it only the factor is seen
        expected = np.diag([1 / curvature, factor])
        np.testing.assert_allclose(optim.inverse_hessian(state), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_lower_precision_converges_as_far_as_it_can(kind):
    a, b, best = quadratic(5, condition=10)
    fun = lambda x: x @ a.astype("f") @ x / 2 - b.astype("f") @ x  # noqa: E731
    found = optim.minimize(
        optim.bfgs(), lambda x: fun(x.astype("f")), jnp.zeros(5, kind), gtol=1e-5, max_iter=60
    )
    assert found.params.dtype == kind
    assert optim.inverse_hessian(found.state).dtype == jnp.float32
    tolerance = {"float32": 1e-4, "bfloat16": 2e-2}[kind]
    np.testing.assert_allclose(found.params.astype(float), best, atol=tolerance)


@pytest.mark.usefixtures("compile_as_users_do")
def test_traffic_flops_and_memory_of_a_step():
    """By XLA's own analysis; the numbers of the docstring."""
    n = 500
    tx, x = optim.scale_by_bfgs(self_scaling=True), jnp.zeros(n)
    state = tx.init(x)
    step = jax.jit(tx.update, donate_argnums=1).lower(x, state, x).compile()
    cost, memory = step.cost_analysis(), step.memory_analysis()
    assert cost["bytes accessed"] / 8 / n**2 <= 3.2
    assert cost["flops"] / n**2 <= 10
    assert memory.temp_size_in_bytes / 8 / n**2 <= 0.05
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) / n**2 <= 1.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init_scale": "ss"}, r"bfgs\(init_scale=...\) must be yy, none or a number, got 'ss'"),
        ({"init_scale": 0.0}, r"bfgs\(init_scale=...\) must be > 0, got 0.0"),
        ({"damping": "none"}, r"bfgs\(damping=...\) must be skip or powell, got 'none'"),
        ({"layout": "flat"}, r"bfgs\(layout=...\) must be dense or per_leaf, got 'flat'"),
        ({"curvature_eps": -1.0}, r"\(curvature_eps=...\) must be >= 0, got -1.0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        optim.bfgs(**options)
