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


def network(shape):
    """Return two layers, and the squared norm of their Jacobian by the chain rule."""
    rng = np.random.default_rng(2)
    w, v = rng.normal(size=(shape[0], 5)), rng.normal(size=(5, shape[1]))
    x = rng.normal(size=(7, shape[0]))
    slopes = 1 - np.tanh(x @ w) ** 2
    jacobians = np.einsum("dh,bh,hm->bdm", w, slopes, v)
    return lambda x: jnp.tanh(x @ w) @ v, x, (jacobians**2).sum((1, 2))


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_the_exact_form_is_the_norm_of_the_jacobian_of_any_encoder(shape):
    encode, x, expected = network(shape)
    found = jax.jit(lambda x: regularizers.contractive(encode, x))(x)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_probes_are_unbiased_and_orthogonal_signs_exact():
    encode, x, expected = network((4, 6))
    hadamard = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1.0]])
    probes = np.broadcast_to(hadamard, (len(x), 4, 4))
    estimate = jax.jit(lambda v: regularizers.contractive_hutchinson(encode, x, v))
    np.testing.assert_allclose(estimate(probes), expected, rtol=1e-12)
    count = 2000
    for draw in (jax.random.rademacher, jax.random.normal):
        v = np.asarray(draw(jax.random.key(0), (len(x), count, 4)), np.float64)
        each = np.asarray(jax.vmap(lambda v: estimate(v[:, None]), in_axes=1)(v))
        assert (np.abs(each.mean(0) - expected) < 5 * each.std(0) / np.sqrt(count)).all()
        np.testing.assert_allclose(estimate(v), each.mean(0), rtol=1e-10)


def test_the_gradient_of_the_forms_is_one():
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(5, 3)), rng.normal(size=(3, 4)), rng.normal(size=4)
    basis = np.broadcast_to(np.sqrt(3) * np.eye(3), (5, 3, 3))
    forms = (
        lambda e, w: regularizers.contractive_sigmoid(e(x), w),
        lambda e, w: regularizers.contractive(e, x),
        lambda e, w: regularizers.contractive_hutchinson(e, x, basis),
    )
    closed, exact, probed = (
        jax.grad(lambda w, form=form: form(lambda x: sigmoid_code(w, b, x), w).sum())(w)
        for form in forms
    )
    np.testing.assert_allclose(exact, closed, rtol=1e-10)
    np.testing.assert_allclose(probed, closed, rtol=1e-10)


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
        (
            lambda: regularizers.contractive(lambda x: x, np.ones(3)),
            r"must be floating point \(b, d\)",
        ),
        (
            lambda: regularizers.contractive(lambda x: x[0], np.ones((2, 3))),
            r"codes \(b, m\), got \(3,\)",
        ),
        (
            lambda: regularizers.contractive_hutchinson(
                lambda x: x, np.ones((2, 3)), np.ones((2, 3))
            ),
            r"probes\) must be \(b, k >= 1, d\) over x \(2, 3\), got \(2, 3\)",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
