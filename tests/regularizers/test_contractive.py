"""The contractive penalty is the Jacobian's norm; its encoder's tangents are those of the data."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fdl import regularizers


def sigmoid_code(w, b, x):
    return jax.nn.sigmoid(x @ w + b[None])


def test_the_closed_form_is_the_norm_of_the_jacobian():
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(5, 4)), rng.normal(size=(4, 3)), rng.normal(size=3)
    jacobians = jax.vmap(jax.jacfwd(lambda x: sigmoid_code(w, b, x[None])[0]))(x)
    found = regularizers.contractive_sigmoid(sigmoid_code(w, b, x), w)
    np.testing.assert_allclose(found, (jacobians**2).sum((1, 2)), rtol=1e-12)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_tangents_are_the_leading_singular_vectors(shape):
    rng = np.random.default_rng(1)
    w, x = rng.normal(size=shape), rng.normal(size=(70, shape[0]))  # more than one block
    encode = lambda x: jnp.tanh(x @ w)  # noqa: E731
    found = jax.jit(lambda x: regularizers.leading_tangents(encode, x, count=2))(x)
    for i in (0, 69):
        jacobian = (1 - np.tanh(x[i] @ w) ** 2)[:, None] * w.T
        _, _, rows = np.linalg.svd(jacobian)
        np.testing.assert_allclose(np.abs(found[i] @ rows[:2].T), np.eye(2), atol=1e-8)


def test_weak_tangents_are_dropped():
    w = np.diag([1.0, 5.0, 0.4])
    found = regularizers.leading_tangents(lambda x: x @ w, np.zeros((1, 3)), count=3, threshold=0.1)
    np.testing.assert_allclose(np.abs(found[0]), np.eye(3)[[1, 0, 2]] * [[1], [1], [0]], atol=1e-12)


def contractive_auto_encoder(x, *, hidden, strength, steps):
    """Learn a code that reconstructs x with shared weights and otherwise does not move."""
    w = 0.1 * np.random.default_rng(0).normal(size=(x.shape[1], hidden))
    params = {"w": w, "b": np.zeros(hidden), "c": x.mean(0)}
    tx = optax.adam(optax.cosine_decay_schedule(0.03, steps))

    def objective(p):
        h = sigmoid_code(p["w"], p["b"], x)
        error = ((h @ p["w"].T + p["c"][None] - x) ** 2).sum(-1)
        return (error + strength * regularizers.contractive_sigmoid(h, p["w"])).mean()

    def update(carry, _):
        params, state = carry
        updates, state = tx.update(jax.grad(objective)(params), state)
        return (optax.apply_updates(params, updates), state), None

    run = jax.jit(lambda p: jax.lax.scan(update, (p, tx.init(p)), length=steps)[0][0])
    return run(params)


def spots(angle):
    """Three round spots on 10x10 pixels, turned about the centre."""
    rows, columns = jnp.meshgrid(jnp.arange(10) - 4.5, jnp.arange(10) - 4.5, indexing="ij")
    c, s = jnp.cos(angle), jnp.sin(angle)
    rows, columns = c * rows - s * columns, s * rows + c * columns
    centres = [(-1.5, -1, 1.0), (1.5, 2, 0.7), (1, -2, 0.5)]
    return sum(
        h * jnp.exp(-((rows - r) ** 2 + (columns - q) ** 2) / 4.5) for r, q, h in centres
    ).ravel()


@pytest.mark.slow
def test_the_learned_tangent_of_a_turned_image_is_the_turn():
    angles = np.linspace(-0.8, 0.8, 81)
    x, truth = jax.jit(jax.vmap(lambda a: jax.jvp(spots, (a,), (1.0,))))(angles)
    truth = truth / np.linalg.norm(truth, axis=1, keepdims=True)

    def cosine(strength):
        """Of the learned and the true tangent, for a code that is wider than it needs to be."""
        cae = contractive_auto_encoder(x, hidden=40, strength=strength, steps=4000)
        encode = lambda x: sigmoid_code(cae["w"], cae["b"], x)  # noqa: E731
        learned = regularizers.leading_tangents(encode, x, count=1)[:, 0]
        return np.median(np.abs((learned * truth).sum(-1)))

    assert cosine(0.02) > 0.9
    assert cosine(0.0) < 0.7  # without the penalty a code moves off the manifold, too


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: regularizers.contractive_sigmoid(np.ones((2, 3)), np.ones((4, 5))),
            r"got \(2, 3\), \(4, 5\)",
        ),
        (
            lambda: regularizers.leading_tangents(jnp.sin, np.ones((2, 3)), count=4),
            r"count=...\) must lie in 1..3, got 4",
        ),
        (
            lambda: regularizers.leading_tangents(jnp.sin, np.ones(3), count=1),
            r"\(n, d\) and in \[0, 1\], got \(3,\) and 0.0",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
