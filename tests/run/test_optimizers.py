import inspect

import jax
import jax.numpy as jnp
import optax
import pytest

from fdl.errors import InputError
from fdl.run.optimizers import factories, optimizer


def test_a_name_gives_the_update_of_the_optax_function():
    grads = {"w": jnp.array([1.0, -2.0])}
    ours, theirs = optimizer("sgd", 0.1, default=1.0, momentum=0.9), optax.sgd(0.1, momentum=0.9)
    for tx in (ours, theirs):
        state = tx.init(grads)
        for _ in range(3):
            updates, state = tx.update(grads, state, grads)
        # after three equal gradients the trace is 1 + 0.9 + 0.81
        assert jnp.allclose(updates["w"], -0.271 * grads["w"], rtol=1e-6)


def test_options_that_an_optimizer_lacks_are_not_passed():
    assert "momentum" not in inspect.signature(optax.adam).parameters
    optimizer("adam", default=0.1, momentum=0.9)


def test_a_line_search_keeps_its_own_step_size_and_others_get_the_default():
    quadratic = jax.value_and_grad(lambda p: ((p - 3.0) ** 2).sum())
    params = jnp.zeros(2)
    value, grad = quadratic(params)
    tx = optimizer("lbfgs", default=1e-6)
    updates, _ = tx.update(
        grad, tx.init(params), params, value=value, grad=grad, value_fn=lambda p: quadratic(p)[0]
    )
    assert jnp.abs(updates).min() > 0.1  # a default of 1e-6 would hardly move
    updates, _ = (tx := optimizer("sgd", default=0.5)).update(grad, tx.init(params), params)
    assert jnp.allclose(updates, 3.0)


@pytest.mark.parametrize("name", ["sdg", "SGD", "", "chain", "scale_by_adam", "__name__"])
def test_an_unknown_name_is_refused_in_one_line(name):
    with pytest.raises(InputError, match="--optimizer must name one of optax") as caught:
        optimizer(name, default=0.1)
    assert "\n" not in str(caught.value)


def test_every_factory_makes_a_transformation():
    params = {"w": jnp.ones((3, 2))}
    for name in factories().keys() - {"noisy_sgd", "optimistic_adam"}:  # optax warns of these
        tx = optimizer(name, default=0.1, schedule=optax.constant_schedule, momentum=0.9)
        state = tx.init(params)
        more = {"value": 6.0, "grad": params, "value_fn": lambda p: p["w"].sum()}
        for _ in range(2):  # the first update of rprop is 0
            updates, state = tx.update(params, state, params, **more)
        assert (updates["w"] < 0).all(), name
