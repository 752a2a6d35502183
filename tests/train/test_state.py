import jax
import jax.numpy as jnp
import numpy as np
import optax

from fdl.train.state import State, init_state


def test_state_is_a_plain_tree_of_arrays() -> None:
    state = init_state({"w": jnp.ones(2)}, {"mean": jnp.zeros(3)}, optax.adam(0.1), seed=7)
    leaves, treedef = jax.tree.flatten(state)
    assert all(type(a) is type(jnp.ones(())) for a in leaves)
    back = jax.tree.unflatten(treedef, leaves)
    assert isinstance(back, State) and back.params["w"] is state.params["w"]
    assert state.step.dtype == np.int32 and state.step == 0
    np.testing.assert_array_equal(state.key, jax.random.key_data(jax.random.key(7)))


def test_state_has_shapes_without_values() -> None:
    """A checkpoint is restored into such a template, with nothing computed for it."""
    tx = optax.sgd(0.1, momentum=0.9)
    params = {"w": jax.ShapeDtypeStruct((3, 2), jnp.float32)}
    shapes = jax.eval_shape(lambda p: init_state(p, {}, tx), params)
    assert shapes.opt_state[0].trace["w"].shape == (3, 2)
    assert shapes.key.shape == (2,) and shapes.key.dtype == np.uint32
