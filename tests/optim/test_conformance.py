"""What optax asks of a transformation, over every one of fdl.optim: types, shapes, compilation."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fdl import optim
from tests.optim.probes import (
    at,
    hidden_parameters_are_known,
    history,
    objective,
    params_of,
    run,
    update,
)
from tests.optim.registry import ENTRIES, alone, every, marks

pytestmark = pytest.mark.usefixtures("compile_quickly")

DTYPES = [np.float64, np.float32, np.float16, jnp.bfloat16, np.complex64]
QUICK = [np.float64, jnp.bfloat16]


def grid(quick):
    """Pair every transformation with every type; all but a few are slow."""
    return [
        pytest.param(
            entry,
            dtype,
            id=f"{entry.name}-{jnp.dtype(dtype).name}",
            marks=marks(entry) if dtype in quick else [pytest.mark.slow],
        )
        for entry in ENTRIES
        for dtype in DTYPES
        if not (entry.real and jnp.issubdtype(dtype, jnp.complexfloating))
    ]


def forms(tree):
    """Describe a tree: its structure, and shape, dtype and weak type of each leaf."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype, x.weak_type) for x in leaves]


def test_every_public_transformation_is_registered():
    results = (optax.GradientTransformation, optax.GradientTransformationExtraArgs)
    public = {
        name
        for name in optim.__all__
        if callable(getattr(optim, name))
        and inspect.signature(getattr(optim, name)).return_annotation in results
    }
    assert public, "no transformation is found by its return annotation"
    assert public - {entry.name.split()[0] for entry in ENTRIES} == set()


def test_names_are_those_of_the_factories_and_different():
    names = [entry.name for entry in ENTRIES]
    assert len(set(names)) == len(names)
    for entry in ENTRIES:
        assert entry.factory.__name__ == entry.name.split()[0]


@pytest.mark.parametrize(("entry", "dtype"), grid(DTYPES))
def test_state_and_updates_keep_their_forms(entry, dtype):
    """Traced only: the state after an update is the state before it, the updates are of params."""
    tx, params = entry.make(), params_of(dtype)
    before = jax.eval_shape(tx.init, params)

    def again(params, state):
        new, state, _ = update(tx, objective, params, state)
        # a branch of a program may return either
        state = jax.lax.cond(state is None, lambda: state, lambda: tx.init(params))
        return new, state

    with hidden_parameters_are_known():
        new, after = jax.eval_shape(again, params, before)
        grads = jax.tree.map(jnp.zeros_like, params)
        extras = {"value": jnp.zeros(()), "grad": grads, "value_fn": objective}
        updates, _ = jax.eval_shape(lambda p, s: tx.update(p, s, p, **extras), params, before)
    assert forms(after) == forms(before)
    assert [x.dtype for x in jax.tree.leaves(updates)] == [jnp.dtype(dtype)] * 3
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, params)


@every
def test_state_is_of_arrays_and_counts_in_32_bits(entry):
    state = entry.make().init(params_of(np.float32))
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        assert isinstance(leaf, jax.Array), path
        if getattr(path[-1], "name", None) == "count":
            assert leaf.dtype == np.int32


@every
def test_init_is_the_same_compiled(entry):
    params, tx = params_of(np.float32), entry.make()
    plain, compiled = tx.init(params), jax.jit(tx.init)(params)
    assert forms(plain) == forms(compiled) == forms(jax.eval_shape(tx.init, params))
    jax.tree.map(np.testing.assert_array_equal, plain, compiled)


@every
def test_it_compiles_once(entry):
    tx, traced = entry.make(), []

    @jax.jit
    def step(params, state):
        traced.append(None)
        return update(tx, objective, params, state)

    params = params_of(np.float32)
    in_one, state = at(alone(entry.name)(params), 3), tx.init(params)
    for _ in range(3):
        params, state, _ = step(params, state)
    assert len(traced) == 1 and step._cache_size() == 1
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
        (params, state),
        in_one,
    )


LOOPS = {
    "bfgs": optim.scale_by_bfgs(),
    "lbfgs": optim.scale_by_lbfgs(3),
    "nonlinear_cg": optim.scale_by_nonlinear_cg(),
    "newton": optim.scale_by_newton(hessian_fn=lambda p: jnp.eye(11)),
    "cholesky": optim.scale_by_newton(mode="cholesky", hessian_fn=lambda p: jnp.eye(11)),
}


@pytest.mark.parametrize("name", LOOPS)
def test_outside_jit_a_direction_compiles_nothing_after_its_first_update(name):
    """A loop whose body is a new function each time would be a new program each time."""
    events, seen = [], []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(duration)

    tx, params = LOOPS[name], params_of()
    state = tx.init(params)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.jit(lambda x: x + 1)(0.0)
        assert events, "JAX tells of no compilation: the name of the event has changed"
        for _ in range(5):
            grads = jax.tree.map(jnp.cos, params)
            _, state = tx.update(grads, state, params, value_fn=objective)
            params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
            seen.append(len(events))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert seen[0] == seen[-1]


@pytest.mark.parametrize(("entry", "dtype"), grid(QUICK))
def test_it_descends_in_every_type(entry, dtype):
    params = params_of(dtype)
    end, _ = at(alone(entry.name)(params), 12)
    assert objective(end) < 0.9 * objective(params)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(end))


@every
def test_hyperparameters_may_be_traced(entry):
    params = params_of()
    plain, _ = at(alone(entry.name)(params), 6)
    injected, _ = run(entry.inject(), params, 6)
    assert objective(injected) < objective(params)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), injected, plain)


@pytest.mark.slow
@every
def test_starts_side_by_side_move_as_each_alone(entry):
    params = params_of()
    starts = jax.tree.map(lambda p: jnp.stack([p, p + 0.3, 0.5 - p]), params)
    points, _ = jax.device_get(jax.vmap(alone(entry.name))(starts))
    for i in range(3):
        start = jax.tree.map(lambda s, i=i: s[i], starts)
        end, _ = at(alone(entry.name)(start), 5)
        assert objective(end) < objective(start)
        jax.tree.map(
            lambda x, y, i=i: np.testing.assert_allclose(x[i, 4], y, rtol=1e-10, atol=1e-12),
            points,
            end,
        )


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, id=entry.name, marks=marks(entry))
        for entry in ENTRIES
        if "learning_rate" in inspect.signature(entry.factory).parameters
    ],
)
def test_a_learning_rate_may_be_a_schedule(entry):
    """One that is constant for three updates gives those of a number, and then it is felt."""
    rate, params = entry.kwargs.get("learning_rate", 1.0), params_of()
    halved = {"learning_rate": lambda count: jnp.where(count < 3, rate, rate / 2)}
    points = history(entry._replace(kwargs=entry.kwargs | halved).make(), 4)(params)[0]
    plain = alone(entry.name)(params)[0]
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9), at(points, 3), at(plain, 3)
    )
    moved = jax.tree.map(lambda x, y: np.not_equal(x, y).any(), at(points, 4), at(plain, 4))
    # from the second update on the search of nonlinear_cg interpolates its first trial
    assert any(jax.tree.leaves(moved)) == (entry.name != "nonlinear_cg")


@every
def test_value_and_gradient_are_in_a_state_at_most_once(entry):
    """Else `optax.value_and_grad_from_state` would not know which to take, and raise."""
    state = entry.make().init(params_of())
    for name in ("value", "grad"):
        assert len(optax.tree.get_all_with_path(state, name)) <= 1


@every
def test_missing_keywords_are_asked_for_by_name(entry):
    tx, params = optax.with_extra_args_support(entry.factory(**entry.kwargs)), params_of()
    try:
        updates, _ = tx.update(params, tx.init(params), params)
    except (TypeError, ValueError) as error:
        assert any(name in str(error) for name in ("value_fn", "'value'", "'grad'"))
    else:
        assert forms(updates)[0] == forms(params)[0]


@every
def test_missing_parameters_are_asked_for_by_name(entry):
    tx, params = entry.factory(**entry.kwargs), params_of()
    try:
        extras = {"value": 0.0, "grad": params, "value_fn": objective}
        updates, _ = optax.with_extra_args_support(tx).update(params, tx.init(params), **extras)
    except ValueError as error:
        assert "params" in str(error)
    else:
        assert forms(updates)[0] == forms(params)[0]
