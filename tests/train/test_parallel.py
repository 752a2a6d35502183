"""Every derivative of a loss spread over devices is that of one device with the whole batch."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from fdl.train import parallel

B, IN, HIDDEN, OUT = 16, 5, 4, 3
DEVICES = [1, 2, 4, 8]
RUNNERS = ["vmap", "pmap", "shard_map", "shard_map checked"]

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
    """The truth: plain JAX on the whole batch; products with second derivatives from dense matrices."""
    p, v, batch = problem()
    loss = partial(loss_of, batch=batch)
    if what is line_search:
        return jax.device_get(jax.jit(partial(lbfgs, loss))(p))
    flat, unravel = jax.flatten_util.ravel_pytree(p)
    v_flat = jax.flatten_util.ravel_pytree(v)[0]
    hessian = jax.hessian(lambda f: loss(unravel(f)))(flat)
    jacobian = jax.jacrev(lambda f: model(unravel(f), batch["x"]))(flat)
    prob = np.asarray(jax.nn.softmax(model(p, batch["x"])))
    curvature = np.einsum("bi,ij->bij", prob, np.eye(OUT)) - np.einsum("bi,bj->bij", prob, prob)
    gauss_newton = np.einsum("bip,bij,bjq->pq", jacobian, curvature, jacobian) / B
    grad = jax.grad(loss)(p)
    return jax.device_get(
        {
            "value": loss(p),
            "gradient": grad,
            "jvp": vdot(grad, v),
            "hvp forward over reverse": unravel(hessian @ v_flat),
            "hvp reverse over reverse": unravel(hessian @ v_flat),
            "dense hessian": jax.hessian(loss)(p),
            "gauss-newton product": unravel(gauss_newton @ v_flat),
        }
    )


def on_devices(what: Callable, runner: str, n: int) -> list[Tree]:
    """Run the per-device function with the batch spread over n devices; return each replica."""
    p, v, batch = problem()
    spread = jax.tree.map(lambda a: a.reshape(n, B // n, *a.shape[1:]), batch)
    chosen = jax.devices()[:n]
    if runner in ("vmap", "pmap"):
        lifted = (
            jax.jit(jax.vmap(what, (None, None, 0), axis_name="data"))
            if runner == "vmap"
            else jax.pmap(what, "data", in_axes=(None, None, 0), devices=chosen)
        )
        stacked = jax.device_get(lifted(p, v, spread))
        return [jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(n)]
    mesh = Mesh(np.array(chosen), ("data",), axis_types=(AxisType.Auto,))
    checked = runner == "shard_map checked"
    lifted = jax.jit(
        jax.shard_map(
            what, mesh=mesh, in_specs=(P(), P(), P("data")), out_specs=P(), check_vma=checked
        )
    )
    out = lifted(p, v, batch)
    return [jax.tree.map(lambda a, i=i: np.asarray(a.addressable_data(i)), out) for i in range(n)]


def assert_as_one_device(what: Callable, runner: str, n: int) -> None:
    expected = one_device(what)
    for replica in on_devices(what, runner, n):
        for name, tree in expected.items():
            jax.tree.map(
                partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-13, err_msg=name),
                replica[name],
                tree,
            )


@pytest.mark.parametrize("n", DEVICES)
@pytest.mark.parametrize("runner", RUNNERS)
def test_derivatives_are_those_of_one_device(runner: str, n: int) -> None:
    assert_as_one_device(derivatives, runner, n)


@pytest.mark.parametrize("n", DEVICES)
@pytest.mark.parametrize("runner", RUNNERS)
def test_line_search_goes_the_way_of_one_device(runner: str, n: int) -> None:
    assert_as_one_device(line_search, runner, n)
