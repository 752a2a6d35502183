import inspect

import jax
import jax.numpy as jnp
import optax
import pytest

from fdl import optim
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


@pytest.mark.parametrize(
    "name", ["sdg", "SGD", "", "chain", "scale_by_adam", "hessian_free", "optim.bfgs"]
)
def test_an_unknown_name_is_refused_in_one_line(name):
    with pytest.raises(
        InputError, match="--optimizer must name one of fdl.optim or optax"
    ) as caught:
        optimizer(name, default=0.1)
    assert "\n" not in str(caught.value)


NOISY = {"noisy_sgd", "optimistic_adam"}  # optax warns of these
SEARCHES = {n for n, f in factories().items() if "linesearch" in inspect.signature(f).parameters}


def step_is_downhill(name):
    params = {"w": jnp.ones((3, 2))}  # also the gradient of |w|^2 / 2
    tx = optimizer(name, default=0.1, schedule=optax.constant_schedule, momentum=0.9, params=params)
    more = {"value": 3.0, "grad": params, "value_fn": lambda p: (p["w"] ** 2).sum() / 2}
    state, update = tx.init(params), jax.jit(lambda s: tx.update(params, s, params, **more))
    for _ in range(2):  # the first update of rprop is 0
        updates, state = update(state)
    return (updates["w"] <= 0).all() and (updates["w"] < 0).any()


def test_every_factory_makes_a_transformation():
    for name in factories().keys() - SEARCHES - NOISY:
        if not name.startswith("optax.") or name == "optax.adagrad":  # else it is there twice
            assert step_is_downhill(name), name


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SEARCHES))
def test_every_factory_with_a_line_search_makes_a_transformation(name):
    assert step_is_downhill(name)


def test_a_name_of_both_is_ours_and_the_other_is_called_by_its_room():
    grads = jnp.array([0.01, -2.0])
    ours, theirs = (optimizer(n, 0.5, default=1.0) for n in ("adagrad", "optax.adagrad"))
    first, _ = ours.update(grads, ours.init(grads), grads)
    assert jnp.allclose(first, -0.5 * jnp.sign(grads), rtol=1e-4)  # algorithm 8.4 begins at r = 0
    first, _ = theirs.update(grads, theirs.init(grads), grads)
    assert jnp.allclose(first, -0.5 * grads / jnp.sqrt(0.1 + grads**2), rtol=1e-4)
    lbfgs = [optimizer(n, default=1.0).init(grads)[0] for n in ("lbfgs", "optax.lbfgs")]
    assert [isinstance(state, optim.LBFGSState) for state in lbfgs] == [True, False]
    assert factories()["optax.adam"] is factories()["adam"] is optax.adam


def test_a_schedule_is_not_asked_where_a_line_search_decides():
    asked = []
    for name in ("bfgs", "optax.lbfgs", "momentum"):
        optimizer(name, 0.5, default=1.0, schedule=lambda lr: asked.append(lr) or lr)
    assert asked == [0.5]


def test_a_learning_rate_is_refused_by_what_takes_none():
    with pytest.raises(InputError, match="coordinate_descent takes no learning rate, got 0.5"):
        optimizer("coordinate_descent", 0.5, default=1.0)


def shapes(*sizes):
    """Only shapes: what was allocated for these would be seen."""
    return [jax.ShapeDtypeStruct(size, jnp.float32) for size in sizes]


@pytest.mark.parametrize("name", ["bfgs", "newton", "saddle_free_newton"])
def test_matrices_that_are_too_large_are_refused_before_they_are_made(name):
    model = shapes((64, 256), (256,), (256, 256), (256,), (256, 10), (10,))
    with pytest.raises(InputError, match=f"{name} .* 85002 x 85002 .* 28.9 GB each") as caught:
        optimizer(name, default=0.1, params=model)
    assert "for 85002 parameters" in str(caught.value) and "\n" not in str(caught.value)
    for other in str(caught.value).split(", or ")[1].split(", which")[0].split(" or "):
        for offered in other.split(", "):
            optimizer(offered, default=0.1, params=model)
    optimizer(name, default=0.1, params=shapes((2**14,)))  # 2^28 numbers of 4 bytes: one gigabyte
    with pytest.raises(InputError, match="16385 x 16385"):
        optimizer(name, default=0.1, params=shapes((2**14 + 1,)))


def test_large_models_are_no_matrices():
    model = shapes((2**16, 2**14), (2**14,))  # 4 GB
    for name in ("adam", "lbfgs", "optax.lbfgs", "newton_cg"):
        optimizer(name, default=0.1, params=model)
