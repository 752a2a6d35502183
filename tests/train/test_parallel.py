"""Every derivative of a loss spread over devices is that of one device with the whole batch."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from fdl.train import parallel

pytestmark = pytest.mark.usefixtures("compile_quickly")

B, IN, HIDDEN, OUT = 16, 5, 4, 3
RUNNERS = ["vmap", "pmap", "shard_map", "shard_map checked"]
GRID = [(runner, n) for runner in RUNNERS for n in (1, 2, 4, 8)]


def quick(*pairs: tuple[str, int]) -> list:
    """Mark all other combinations of the grid as slow."""
    return [pytest.param(*p, marks=[] if p in pairs else pytest.mark.slow) for p in GRID]


Tree = Any


def problem() -> tuple[Tree, Tree, Tree]:
    """Return parameters, a direction and a batch: float64, labels that are distributions."""
    rng = np.random.default_rng(0)
    shapes = {"b1": (HIDDEN,), "b2": (OUT,), "w1": (IN, HIDDEN), "w2": (HIDDEN, OUT)}
    params, v = ({k: rng.standard_normal(s) for k, s in shapes.items()} for _ in range(2))
    batch = {"x": rng.standard_normal((B, IN)), "y": rng.dirichlet(np.ones(OUT), B)}
    return params, v, batch


def model(p: Tree, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ p["w1"] + p["b1"][None]) @ p["w2"] + p["b2"][None]


def loss_of(p: Tree, batch: Tree) -> jax.Array:
    return -(batch["y"] * jax.nn.log_softmax(model(p, batch["x"]))).sum(-1).mean()


def vdot(a: Tree, b: Tree) -> jax.Array:
    return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def loss_curvature(logits: jax.Array, u: jax.Array) -> jax.Array:
    """Multiply u by the Hessian of the mean cross-entropy with respect to the logits."""
    p = jax.nn.softmax(logits)
    return (p * u - p * (p * u).sum(-1, keepdims=True)) / len(logits)


def derivatives(p: Tree, v: Tree, batch: Tree) -> Tree:
    """What one device of many computes, written as the documentation tells its users to."""

    def loss(p: Tree) -> jax.Array:
        return parallel.mean_over_devices(loss_of(parallel.shared(p), batch))

    def local_model(p: Tree) -> jax.Array:
        return model(parallel.shared(p), batch["x"])

    value, grad = jax.value_and_grad(loss)(p)
    logits, jv = jax.jvp(local_model, (p,), (v,))
    hjv = jax.lax.stop_gradient(loss_curvature(logits, jv))
    return {
        "value": value,
        "gradient": grad,
        "jvp": jax.jvp(loss, (p,), (v,))[1],
        "hvp forward over reverse": jax.jvp(jax.grad(loss), (p,), (v,))[1],
        "hvp reverse over reverse": jax.grad(lambda q: vdot(jax.grad(loss)(q), v))(p),
        "dense hessian": jax.hessian(loss)(p),
        "gauss-newton product": jax.grad(
            lambda q: parallel.mean_over_devices(jnp.vdot(hjv, local_model(q)))
        )(p),
    }


def first_derivative(p: Tree, v: Tree, batch: Tree) -> Tree:
    """The cheapest part of `derivatives`, to see what the comparison notices."""
    del v

    def loss(p: Tree) -> jax.Array:
        return parallel.mean_over_devices(loss_of(parallel.shared(p), batch))

    value, grad = jax.value_and_grad(loss)(p)
    return {"value": value, "gradient": grad}


def line_search(p: Tree, v: Tree, batch: Tree) -> Tree:
    """Make three steps of L-BFGS, whose line search evaluates the loss again by itself."""
    del v

    def loss(p: Tree) -> jax.Array:
        return parallel.mean_over_devices(loss_of(parallel.shared(p), batch))

    return lbfgs(loss, p)


def lbfgs(loss: Callable[[Tree], jax.Array], p: Tree) -> Tree:
    tx = optax.lbfgs(memory_size=3)

    def step(carry: Tree, _: None) -> tuple[Tree, jax.Array]:
        p, state = carry
        value, grad = jax.value_and_grad(loss)(p)
        updates, state = tx.update(grad, state, p, value=value, grad=grad, value_fn=loss)
        return (optax.apply_updates(p, updates), state), value

    (p, _), values = jax.lax.scan(step, (p, tx.init(p)), length=3)
    return {"params": p, "values": values}


@cache
def one_device(what: Callable) -> Tree:
    """The truth: plain JAX on the whole batch; second-order products from dense matrices."""
    p, v, batch = problem()
    loss = partial(loss_of, batch=batch)
    if what is line_search:
        return jax.device_get(jax.jit(partial(lbfgs, loss))(p))
    return jax.device_get(jax.jit(dense)(p, v, batch))


def dense(p: Tree, v: Tree, batch: Tree) -> Tree:
    flat, unravel = ravel_pytree(p)
    v_flat, _ = ravel_pytree(v)
    loss = partial(loss_of, batch=batch)
    grad = jax.grad(loss)(p)
    hessian = jax.hessian(loss)(p)
    rows = [jnp.concatenate([h.reshape(p[a].size, -1) for h in hessian[a].values()], 1) for a in p]
    hvp = unravel(jnp.concatenate(rows) @ v_flat)
    jacobian = jax.jacrev(lambda f: model(unravel(f), batch["x"]))(flat)
    prob = jax.nn.softmax(model(p, batch["x"]))
    curvature = jnp.einsum("bi,ij->bij", prob, jnp.eye(OUT)) - jnp.einsum("bi,bj->bij", prob, prob)
    gauss_newton = jnp.einsum("bip,bij,bjq->pq", jacobian, curvature, jacobian) / B
    return {
        "value": loss(p),
        "gradient": grad,
        "jvp": vdot(grad, v),
        "hvp forward over reverse": hvp,
        "hvp reverse over reverse": hvp,
        "dense hessian": hessian,
        "gauss-newton product": unravel(gauss_newton @ v_flat),
    }


def on_devices(what: Callable, runner: str, n: int) -> list[Tree]:
    """Run the per-device function with the batch spread over n devices; return each replica."""
    p, v, batch = problem()
    spread = jax.tree.map(lambda a: a.reshape(n, B // n, *a.shape[1:]), batch)
    chosen = jax.devices()[:n]

    def fresh(
        *args: Tree,
    ) -> Tree:  # a new function each time: JAX remembers the traces of old ones
        return what(*args)

    if runner in ("vmap", "pmap"):
        lifted = (
            jax.jit(jax.vmap(fresh, (None, None, 0), axis_name="data"))
            if runner == "vmap"
            else jax.pmap(fresh, "data", in_axes=(None, None, 0), devices=chosen)
        )
        stacked = jax.device_get(lifted(p, v, spread))
        return [jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(n)]
    mesh = Mesh(np.array(chosen), ("data",), axis_types=(AxisType.Auto,))
    checked = runner == "shard_map checked"
    lifted = jax.jit(
        jax.shard_map(
            fresh, mesh=mesh, in_specs=(P(), P(), P("data")), out_specs=P(), check_vma=checked
        )
    )
    out = lifted(p, v, batch)
    return [jax.tree.map(lambda a, i=i: np.asarray(a.addressable_data(i)), out) for i in range(n)]


def assert_as_one_device(what: Callable, runner: str, n: int) -> None:
    expected = one_device(what)
    for replica in on_devices(what, runner, n):
        for name, tree in replica.items():
            same = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-13, err_msg=name)
            jax.tree.map(same, tree, expected[name])


@pytest.mark.devices
@pytest.mark.parametrize(
    ("runner", "n"), quick(("vmap", 4), ("pmap", 4), ("shard_map", 8), ("shard_map checked", 2))
)
def test_derivatives_are_those_of_one_device(runner: str, n: int) -> None:
    assert_as_one_device(derivatives, runner, n)


@pytest.mark.devices
@pytest.mark.parametrize(("runner", "n"), quick(("pmap", 4), ("shard_map checked", 2)))
def test_line_search_goes_the_way_of_one_device(runner: str, n: int) -> None:
    assert_as_one_device(first_derivative, runner, n)  # devices that disagree would dead-lock
    assert_as_one_device(line_search, runner, n)


def test_without_an_axis_nothing_is_done() -> None:
    p, v, batch = problem()
    assert parallel.shared(p) is p and parallel.mean_over_devices(v) is v
    found = jax.device_get(jax.jit(first_derivative)(p, v, batch))
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-12),
        found["gradient"],
        one_device(derivatives)["gradient"],
    )


# The comparison above is worth something only if it notices the two mistakes that are easily made.


@pytest.mark.devices
@pytest.mark.parametrize("runner", ["vmap", "pmap", "shard_map"])
def test_comparison_notices_that_shared_was_dropped(
    runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "shared", lambda tree: tree)
    with pytest.raises(AssertionError, match="gradient"):
        assert_as_one_device(first_derivative, runner, 4)


@pytest.mark.devices
@pytest.mark.parametrize("runner", RUNNERS)
def test_comparison_notices_that_gradients_were_averaged_twice(
    runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "shared", averaged_twice(parallel.shared))
    with pytest.raises(AssertionError, match="gradient"):
        assert_as_one_device(first_derivative, runner, 4)


def averaged_twice(shared: Callable) -> Callable:
    """Keep the values and divide the gradients, already averaged, by the devices once more."""

    def once_more(a: jax.Array) -> jax.Array:
        part = a / jax.lax.psum(1, "data")
        return part + jax.lax.stop_gradient(a - part)

    return lambda tree, axis="data": jax.tree.map(once_more, shared(tree, axis))


@pytest.mark.devices
def test_gradient_of_a_local_loss_then_pmean_is_n_times_too_large_under_check_vma() -> None:
    """The trap that `shared` is there for; if JAX ever mends it, `shared` can go."""

    def naive(p: Tree, v: Tree, batch: Tree) -> Tree:
        return jax.lax.pmean(jax.grad(loss_of)(p, batch), "data")

    grad = one_device(derivatives)["gradient"]
    for runner, times in (("pmap", 1), ("shard_map", 1), ("shard_map checked", 4)):
        found = on_devices(naive, runner, 4)[0]
        np.testing.assert_allclose(found["w1"], times * grad["w1"], rtol=1e-10)


@pytest.mark.devices
def test_shared_leaves_integers_alone_and_batches() -> None:
    tree = {"n": jnp.arange(3), "w": jnp.ones((5, 2)), "flag": jnp.array(True)}

    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        marked = parallel.shared(tree | {"w": w})
        assert marked["n"].dtype == tree["n"].dtype and marked["flag"].dtype == bool
        return parallel.mean_over_devices((marked["w"] @ x).sum())

    each = jax.vmap(jax.grad(loss), (0, None))  # five vectors of parameters, inside the axis
    grads = jax.vmap(each, (None, 0), axis_name="data")(tree["w"], jnp.array([[1.0, 2], [3, 6]]))
    np.testing.assert_allclose(grads, np.broadcast_to([2.0, 4.0], (2, 5, 2)))
