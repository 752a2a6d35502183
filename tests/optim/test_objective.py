"""The objective as transformations see it: data bound, trees as masks and flatten leave them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fdl.optim import objective


def params_of(dtype=np.float64):
    return {"w": jnp.arange(6.0, dtype=dtype).reshape(2, 3), "b": jnp.asarray(2.0, dtype)}


def f(params, scale=1.0, shift=0.0):
    return scale * jnp.sum(params["w"] ** 2) + params["b"] + shift


def test_keywords_that_the_objective_knows_are_bound_and_others_dropped():
    p = params_of()
    extra = {"scale": 3.0, "value": 7.0, "key": None}
    np.testing.assert_allclose(objective.bind(f, p, None, extra)(p), 3 * 55 + 2)
    np.testing.assert_allclose(objective.bind(f, p, p, {})(p), 57)
    np.testing.assert_allclose(objective.bind(f, p, None, {"shift": -2.0})(p), 55)


def test_a_keyword_named_as_the_parameters_is_not_data():
    # the first parameter is what is optimised, whatever its name
    bound = objective.bind(lambda value: value**2, jnp.asarray(3.0), None, {"value": 100.0})
    np.testing.assert_allclose(bound(jnp.asarray(3.0)), 9.0)


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        (np.float64, np.float64),
        (np.float32, np.float32),
        (jnp.bfloat16, np.float32),
        (np.complex128, np.float64),
        (np.complex64, np.float32),
    ],
)
def test_values_are_real_scalars_of_at_least_float32(dtype, kind):
    x = jnp.ones(3, dtype)
    for fun in (lambda x: jnp.sum(x), lambda x: jnp.sum(x)[None]):
        value = objective.bind(fun, x, None, {})(x)
        assert value.shape == () and value.dtype == kind
        assert float(value) == 3.0


def test_a_flat_vector_finds_its_way_back():
    p = params_of()
    flat = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(p)])
    bound = objective.bind(f, flat, p, {"scale": 2.0})
    np.testing.assert_allclose(bound(flat), f(p, 2.0))
    gradient = jax.grad(bound)(flat)
    np.testing.assert_allclose(gradient, objective.reform(jax.grad(f)(p, 2.0), flat), rtol=1e-14)


def test_a_flat_vector_gives_each_leaf_its_own_type():
    like = {"h": jnp.ones(2, jnp.bfloat16), "w": jnp.ones(3, np.float32)}
    seen = {}

    def fun(p):
        seen.update(p)
        return jnp.float32(0)

    objective.bind(fun, jnp.arange(5.0, dtype=np.float32), like, {})(jnp.arange(5.0))
    assert {k: v.dtype for k, v in seen.items()} == {k: v.dtype for k, v in like.items()}
    np.testing.assert_array_equal(seen["w"], [2, 3, 4])


def test_the_flat_vector_of_optax_is_the_one_that_is_undone():
    p = params_of()
    seen = []

    def update(updates, state, params=None, *, grad, value_fn, **extra):
        seen.append(objective.bind(value_fn, params, grad, extra)(params))
        np.testing.assert_array_equal(objective.reform(grad, params), updates)
        return updates, state

    spy = optax.GradientTransformationExtraArgs(lambda p: optax.EmptyState(), update)
    tx, grad = optax.flatten(spy), jax.grad(f)(p)
    tx.update(grad, tx.init(p), p, grad=grad, value_fn=f, shift=1.0)
    np.testing.assert_allclose(seen, [f(p, shift=1.0)])


def test_hidden_parameters_cannot_be_evaluated_and_that_is_said():
    hidden = {"w": jnp.ones(2), "b": optax.MaskedNode()}
    assert objective.masked(hidden) and not objective.masked(params_of())
    assert not objective.masked({}) and not objective.masked(None)
    with pytest.warns(UserWarning, match="fdl.optim.blockwise"):
        assert objective.bind(f, hidden, None, {}) is None


def test_reform_hides_what_is_hidden_and_keeps_what_is_not():
    p = params_of()
    hidden = {"w": jnp.zeros((2, 3)), "b": optax.MaskedNode()}
    formed = objective.reform(p, hidden)
    assert isinstance(formed["b"], optax.MaskedNode)
    np.testing.assert_array_equal(formed["w"], p["w"])
    assert objective.reform(p, p) is p
