"""Cells against hand-written loops and their limits; runs of sequences of different lengths."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl.ops import CellWeights, LSTMCarry, elman_step, gru_step, lstm_step, recur

B, T, D, H = 3, 7, 2, 4
LENGTHS = np.array([7, 3, 5])
STEPS = {
    "elman": (elman_step, 1),
    "relu": (functools.partial(elman_step, unit=jax.nn.relu), 1),
    "lstm": (lstm_step, 4),
    "gru": (gru_step, 3),
    "gru before": (functools.partial(gru_step, reset_after=False), 3),
}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, T, D))


def weights_of(name):
    rng, gates = np.random.default_rng(1), STEPS[name][1]
    arrays = rng.normal(size=(D + H + 2, gates * H)) / 2
    return CellWeights(arrays[:D], arrays[D : D + H], arrays[-2], arrays[-1])


def start_of(name, rows=B):
    h = np.random.default_rng(2).normal(size=(2, rows, H)) / 2
    return LSTMCarry(h[0], h[1]) if name == "lstm" else h[0]


def row_of(tree, row):
    return jax.tree.map(lambda a: a[row], tree)


def assert_same(one, other, rtol=1e-10):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12), one, other)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def by_hand(name, weights, h, x):
    """Run one sequence, (T, D), in NumPy; h is (H,) or (h, c)."""
    c, h = (h.c, h.h) if name == "lstm" else (None, h)
    outputs = []
    for x_t in x:
        a = x_t @ weights.kernel_in + weights.bias
        u, b = weights.kernel_hidden, weights.bias_hidden
        if name in ("elman", "relu"):
            total = a + h @ u + b
            h = np.tanh(total) if name == "elman" else np.maximum(total, 0)
        elif name == "lstm":
            i, f, g, o = np.split(a + h @ u + b, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            r = sigmoid(a[:H] + h @ u[:, :H] + b[:H])
            z = sigmoid(a[H : 2 * H] + h @ u[:, H : 2 * H] + b[H : 2 * H])
            if name == "gru":
                n = np.tanh(a[2 * H :] + r * (h @ u[:, 2 * H :] + b[2 * H :]))
                h = (1 - z) * n + z * h
            else:
                n = np.tanh(a[2 * H :] + (r * h) @ u[:, 2 * H :] + b[2 * H :])
                h = (1 - z) * h + z * n
        outputs.append(h)
    return np.array(outputs), LSTMCarry(h, c) if name == "lstm" else h


@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("name", STEPS)
def test_each_sequence_of_a_batch_runs_as_if_it_were_alone(name, reverse):
    weights, start = weights_of(name), start_of(name)
    padded = np.where(np.arange(T)[None, :, None] < LENGTHS[:, None, None], X, np.nan)
    y, carry = recur(
        STEPS[name][0],
        weights,
        jnp.asarray(padded),
        jax.tree.map(jnp.asarray, start),
        lengths=jnp.asarray(LENGTHS),
        reverse=reverse,
    )
    turn = slice(None, None, -1 if reverse else 1)
    for row, length in enumerate(LENGTHS):
        alone, last = by_hand(name, weights, row_of(start, row), X[row, :length][turn])
        np.testing.assert_allclose(y[row, :length], alone[turn], rtol=1e-12)
        np.testing.assert_array_equal(y[row, length:], 0)
        assert_same(row_of(carry, row), last)


@functools.cache
def gradients(name, *, plain=False, **options):
    """Gradients of a loss that sees all outputs; `plain` hides which step it is from `recur`."""
    step = (lambda *args: STEPS[name][0](*args)) if plain else STEPS[name][0]
    mix = np.random.default_rng(3).normal(size=(B, T, H))

    def loss(weights, x, carry):
        y, last = recur(step, weights, x, carry, lengths=jnp.asarray(LENGTHS), **options)
        return (mix * jnp.sin(3 * y)).sum() + sum((a**2).sum() for a in jax.tree.leaves(last))

    arguments = weights_of(name), X, start_of(name)
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(*arguments), loss


@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "backwards"])
def test_the_lstm_has_the_gradients_of_its_steps(reverse):
    assert_same(
        gradients("lstm", reverse=reverse)[0], gradients("lstm", reverse=reverse, plain=True)[0]
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lstm", {"chunk": 3}),
        pytest.param("lstm", {"hoist": True}, marks=pytest.mark.slow),
        pytest.param("lstm", {"chunk": T + 1}, marks=pytest.mark.slow),
        pytest.param("gru", {"hoist": True}, marks=pytest.mark.slow),
        pytest.param("gru", {"chunk": 2, "reverse": True}, marks=pytest.mark.slow),
        pytest.param("elman", {"chunk": 2}, marks=pytest.mark.slow),
    ],
)
def test_how_it_is_computed_changes_no_gradient(name, options):
    plain = {"reverse": True} if "reverse" in options else {}
    assert_same(gradients(name, **options)[0], gradients(name, **plain)[0])


@pytest.mark.slow
def test_the_lstm_can_be_differentiated_in_all_orders_and_mapped():
    (_, first), loss = gradients("lstm")
    point = weights_of("lstm"), X, start_of("lstm")
    rng = np.random.default_rng(4)
    direction = jax.tree.map(lambda a: rng.normal(size=a.shape), point)

    @jax.jit
    def derivatives(point, direction):
        gradient = jax.grad(lambda p: loss(*p))
        forward = jax.jvp(lambda p: loss(*p), (point,), (direction,))[1]
        over = jax.jvp(gradient, (point,), (direction,))[1]

        def along(p):
            return sum(
                jnp.vdot(a, b)
                for a, b in zip(
                    jax.tree.leaves(gradient(p)), jax.tree.leaves(direction), strict=True
                )
            )

        return forward, over, jax.grad(along)(point)

    forward, over, twice = derivatives(point, direction)
    inner = sum(
        np.vdot(a, b)
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(direction), strict=True)
    )
    np.testing.assert_allclose(forward, inner, rtol=1e-10)
    assert_same(over, twice, rtol=1e-8)
    step = 1e-5

    @jax.jit
    def gradient_at(distance):
        return jax.grad(lambda p: loss(*p))(
            jax.tree.map(lambda a, d: a + distance * d, point, direction)
        )

    moved = gradient_at(step), gradient_at(-step)
    numeric = jax.tree.map(lambda a, b: (a - b) / (2 * step), *moved)
    scale = max(np.abs(a).max() for a in jax.tree.leaves(over))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7 * scale), over, numeric)
    both = jax.vmap(lambda a: loss(a, *point[1:]))(
        jax.tree.map(lambda a: jnp.stack([a, 2 * a]), point[0])
    )
    np.testing.assert_allclose(both[0], loss(*point), rtol=1e-12)
    np.testing.assert_allclose(
        both[1], loss(jax.tree.map(lambda a: 2 * a, point[0]), *point[1:]), rtol=1e-12
    )


def test_an_open_forget_gate_keeps_memory_and_gradient_for_any_time():
    bias = np.repeat([-800.0, 800.0, 0.3, 0.2], H)  # i shut, f open
    weights = CellWeights(np.zeros((D, 4 * H)), np.zeros((H, 4 * H)), bias)
    x = np.random.default_rng(0).normal(size=(1, 500, D))

    def memory(c):
        return recur(lstm_step, weights, jnp.asarray(x), LSTMCarry(jnp.zeros((1, H)), c))[1].c[0]

    c = jnp.linspace(-1, 2, H)[None]
    np.testing.assert_array_equal(memory(c), c[0])
    np.testing.assert_array_equal(jax.jacrev(memory)(c)[:, 0], np.eye(H))


def test_gru_keeps_its_state_or_forgets_it_as_z_says():
    weights = weights_of("gru")
    h, x = start_of("gru"), X[:, 0]
    for reset_after, kept in ((True, 800.0), (False, -800.0)):
        bias = weights.bias.copy()
        bias[H : 2 * H] = kept
        step = functools.partial(gru_step, reset_after=reset_after)
        np.testing.assert_allclose(step(weights._replace(bias=bias), h, x)[0], h, rtol=1e-12)
        bias[H : 2 * H], bias[:H] = -kept, -800.0  # all new, and the past reset
        new = step(weights._replace(bias=bias), h, x)[0]
        past = weights.bias_hidden[2 * H :] if not reset_after else 0
        candidate = x @ weights.kernel_in[:, 2 * H :] + bias[2 * H :] + past
        np.testing.assert_allclose(new, np.tanh(candidate), rtol=1e-12)


def test_both_forms_of_the_gru_agree_where_nothing_is_reset():
    weights = weights_of("gru")
    weights.bias[:H] = 800.0

    def negated(a):
        a = a.copy()
        a[..., H : 2 * H] *= -1
        return a

    other = CellWeights(*map(negated, weights))
    h, x = start_of("gru"), X[:, 0]
    np.testing.assert_allclose(
        gru_step(weights, h, x)[0], gru_step(other, h, x, reset_after=False)[0], rtol=1e-12
    )


def test_a_bias_of_the_candidate_alone_is_one_with_zeros_for_the_gates():
    weights, h = weights_of("gru"), start_of("gru")
    alone = weights._replace(bias_hidden=weights.bias_hidden[2 * H :])
    whole = weights.bias_hidden.copy()
    whole[: 2 * H] = 0
    np.testing.assert_array_equal(
        gru_step(alone, h, X[:, 0])[0],
        gru_step(weights._replace(bias_hidden=whole), h, X[:, 0])[0],
    )


@pytest.mark.slow
@pytest.mark.usefixtures("compile_as_users_do")
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_chunks_of_square_root_length_save_memory(name):
    time = 1024
    x = jnp.zeros((8, time, 16), jnp.float32)
    gates = STEPS[name][1] * 16
    weights = CellWeights(jnp.zeros((16, gates), jnp.float32), jnp.zeros((16, gates), jnp.float32))
    h = jnp.zeros((8, 16), jnp.float32)

    def bytes_of(chunk):
        def loss(weights):
            carry = LSTMCarry(h, h) if name == "lstm" else h
            return recur(STEPS[name][0], weights, x, carry, chunk=chunk)[1][0].sum()

        return jax.jit(jax.grad(loss)).lower(weights).compile().memory_analysis().temp_size_in_bytes

    assert bytes_of(32) < bytes_of(None) / 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros((B, D))}, r"recur\(x\)"),
        ({"carry": np.zeros((B + 1, H))}, r"recur\(carry\)"),
        ({"lengths": np.zeros(B + 1, int)}, r"recur\(lengths\)"),
        ({"chunk": 0}, r"recur\(chunk"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    arguments = {"x": X, "carry": start_of("gru")} | changes
    with pytest.raises(ValueError, match=message):
        recur(gru_step, weights_of("gru"), **arguments)
