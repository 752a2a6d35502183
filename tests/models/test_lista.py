"""LISTA against ISTA's steps, and trained against as many steps of FISTA."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from fdl import ops
from fdl.errors import InputError
from fdl.models import LISTA, LISTAConfig
from fdl.pure import pure

RNG = np.random.default_rng(0)
D = RNG.normal(size=(8, 14))
D /= np.linalg.norm(D, axis=0)
L1 = 0.2


def codes_and_inputs(n, seed):
    rng = np.random.default_rng(seed)
    z = rng.laplace(size=(n, 14)) * (rng.random((n, 14)) < 0.2)
    return jnp.asarray(z @ D.T + 0.01 * rng.normal(size=(n, 8)))


@pytest.mark.parametrize("layers", [1, 2, 7])
def test_layers_at_first_are_steps_of_ista(layers):
    x = codes_and_inputs(5, 0)
    model = LISTA.from_dictionary(D, L1, layers=layers)
    expected = ops.ista(x, D, L1, steps=layers)
    np.testing.assert_allclose(model(x), expected, atol=1e-12)
    np.testing.assert_allclose(model.encode(x), expected, atol=1e-12)
    longer = LISTA.from_dictionary(D, L1, layers=layers, lipschitz=20.0)
    expected = ops.ista(x, D, L1, steps=layers, lipschitz=20.0)
    np.testing.assert_allclose(longer(x), expected, atol=1e-12)


def test_trained_layers_come_nearer_to_the_optimum_than_steps_of_fista():
    x, held = codes_and_inputs(256, 1), codes_and_inputs(256, 2)
    apply, params, extra = pure(LISTA.from_dictionary(D, L1, layers=3))

    def above(z, x):
        best = ops.sparse_objective(x, ops.fista(x, D, L1, steps=2000), D, L1)
        return float((ops.sparse_objective(x, z, D, L1) - best).mean())

    def loss(params):
        return ops.sparse_objective(x, apply(params, extra, x)[0], D, L1).mean()

    tx = optax.adam(0.01)

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.jit(lambda c: jax.lax.scan(step, c, None, length=200))(
        (params, tx.init(params))
    )
    learned = above(apply(params, extra, held)[0], held)
    assert 0 < learned < 0.7 * above(ops.fista(held, D, L1, steps=3), held)
    assert learned < 0.5 * above(ops.ista(held, D, L1, steps=3), held)


def test_a_threshold_below_zero_counts_as_zero():
    x = codes_and_inputs(3, 4)
    model = LISTA.from_dictionary(D, L1, layers=2)
    apply, params, extra = pure(model)
    none = apply(params | {"threshold": jnp.zeros(14)}, extra, x)[0]
    less = apply(params | {"threshold": jnp.full(14, -1.0)}, extra, x)[0]
    np.testing.assert_array_equal(none, less)
    assert (none != 0).all()


def test_what_is_wrong_is_said_in_one_line():
    for changes in ({"features_in": 0}, {"codes": 0}, {"layers": 0}, {"threshold": -1.0}):
        with pytest.raises(InputError, match=rf"LISTAConfig\({next(iter(changes))}=\.\.\.\) must"):
            LISTAConfig.tiny(**changes)
    with pytest.raises(
        ValueError, match=r"LISTA needs \(batch, inputs\) with 4 inputs, got \(2, 5"
    ):
        LISTA(LISTAConfig.tiny(), rngs=nnx.Rngs(0))(jnp.ones((2, 5)))
