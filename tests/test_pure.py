"""A module taken apart computes what the module computes; nothing changes behind its back."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fdl.models.layers import Dropout
from fdl.pure import in_precision, pure

Tree = Any


class Net(nnx.Module):
    """Affine map, batch statistics, dropout that takes its streams in the call."""

    def __init__(self, rngs: nnx.Rngs):
        self.inner = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, momentum=0.75, rngs=rngs)
        self.drop = nnx.Dropout(0.5)

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.drop(self.norm(self.inner(x)), rngs=rngs)


def inputs(n: int = 6) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).standard_normal((n, 3)), jnp.float32)


def assert_same(a: Tree, b: Tree, **tolerance: float) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def leaves_by_name(tree: Tree) -> dict[str, jax.Array]:
    pairs = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="."): leaf for p, leaf in pairs}


def test_parameters_and_other_state_are_plain_dicts() -> None:
    _, params, extra = pure(Net(nnx.Rngs(0)))
    assert set(leaves_by_name(params)) == {
        "inner.kernel",
        "inner.bias",
        "norm.scale",
        "norm.bias",
    }
    assert set(leaves_by_name(extra)) == {"norm.mean", "norm.var"}
    for tree in (params, extra, params["inner"], extra["norm"]):
        assert type(tree) is dict


def test_use_is_that_of_the_module() -> None:
    module = Net(nnx.Rngs(0))
    apply, params, extra = pure(module)
    extra = jax.tree.map(lambda a: a + 0.5, extra)
    out, same = apply(params, extra, inputs())
    module.eval()
    module.norm.mean[...], module.norm.var[...] = extra["norm"]["mean"], extra["norm"]["var"]
    np.testing.assert_array_equal(out, module(inputs()))
    assert same is extra


def test_training_is_that_of_the_module_and_returns_its_statistics() -> None:
    module = Net(nnx.Rngs(0))
    apply, params, extra = pure(module)
    key, x = jax.random.key(5), inputs()
    out, new = apply(params, extra, x, key=key, train=True)
    module.train()
    np.testing.assert_array_equal(out, module(x, rngs=nnx.Rngs(key)))
    hidden = x @ params["inner"]["kernel"]
    np.testing.assert_allclose(new["norm"]["mean"], 0.25 * hidden.mean(0), atol=1e-6)
    np.testing.assert_allclose(new["norm"]["var"], 0.75 + 0.25 * hidden.var(0), rtol=1e-5)


def test_nothing_is_changed_and_no_memory_is_shared() -> None:
    module = Net(nnx.Rngs(0))
    before = jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(module)))
    graph = nnx.graphdef(module)
    apply, params, extra = pure(module)
    held = jax.tree.map(np.array, (params, extra))
    first, _ = apply(params, extra, inputs(), key=jax.random.key(1), train=True)
    second, _ = apply(params, extra, inputs(), key=jax.random.key(1), train=True)
    np.testing.assert_array_equal(first, second)  # no statistic, no counter is kept anywhere
    assert_same((params, extra), held)
    assert_same(nnx.to_pure_dict(nnx.state(module)), before)
    assert nnx.graphdef(module) == graph  # neither train() nor eval() was called on it
    jax.tree.map(lambda a: a.delete(), (params, extra))  # as donation does
    assert_same(nnx.to_pure_dict(nnx.state(module)), before)
    _, params2, _ = pure(module)
    module.inner.kernel[...] = jnp.zeros((3, 4), jnp.float32)
    assert float(abs(params2["inner"]["kernel"]).sum()) > 0


def test_same_call_under_transformations() -> None:
    apply, params, extra = pure(Net(nnx.Rngs(0)))
    key, x = jax.random.key(2), inputs()

    def eager(params: Tree) -> jax.Array:
        return jnp.square(apply(params, extra, x, key=key, train=True)[0]).sum()

    loss = jax.jit(eager)
    assert_same(loss(params), eager(params), rtol=1e-5)
    direction = jax.tree.map(jnp.ones_like, params)
    h = 1e-2
    ahead, behind = (loss(jax.tree.map(lambda p, s=s: p + s, params)) for s in (h, -h))
    slope = jax.jvp(loss, (params,), (direction,))[1]
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * h), rtol=1e-2)
    grads = jax.grad(loss)(params)
    np.testing.assert_allclose(sum(g.sum() for g in jax.tree.leaves(grads)), slope, rtol=1e-4)


def test_ensemble_by_vmap_is_each_member() -> None:
    members = [pure(Net(nnx.Rngs(i))) for i in range(3)]
    apply = members[0].apply
    params, extra = (
        jax.tree.map(lambda *a: jnp.stack(a), *[m[i] for m in members]) for i in (1, 2)
    )
    keys = jax.random.split(jax.random.key(0), 3)

    def one(params: Tree, extra: Tree, key: jax.Array) -> tuple[jax.Array, Tree]:
        return apply(params, extra, inputs(), key=key, train=True)

    outs, news = jax.jit(jax.vmap(one))(params, extra, keys)
    for i, (_, p, e) in enumerate(members):
        out, new = jax.jit(one)(p, e, keys[i])
        np.testing.assert_allclose(outs[i], out, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(news["norm"]["var"][i], new["norm"]["var"], rtol=1e-5)


@pytest.mark.devices
def test_pmap_gives_each_device_its_own_call() -> None:
    apply, params, extra = pure(Net(nnx.Rngs(0)))
    x = inputs(8).reshape(4, 2, 3)
    found = jax.pmap(lambda x: apply(params, extra, x)[0])(x)
    np.testing.assert_allclose(
        np.asarray(found).reshape(8, 4), apply(params, extra, inputs(8))[0], rtol=1e-5, atol=1e-6
    )


class OwnStreams(nnx.Module):
    """Stock dropout that holds its streams, equal ones at first."""

    def __init__(self) -> None:
        self.a, self.b = (nnx.Dropout(0.5, rngs=nnx.Rngs(0)) for _ in "ab")

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.stack([self.a(x), self.b(x)])


class StreamsOfTheCall(nnx.Module):
    """Stock dropout that gets its streams in the call."""

    def __init__(self) -> None:
        self.drop = nnx.Dropout(0.5)

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        return jnp.stack([self.drop(x, rngs=rngs), self.drop(x, rngs=rngs)])


@pytest.mark.parametrize("make", [OwnStreams, StreamsOfTheCall])
def test_stock_dropout_is_a_function_of_the_key(make: type[nnx.Module]) -> None:
    apply, params, extra = pure(make())
    assert params == {} and extra == {}
    x, keys = jnp.ones((8, 8)), jax.random.split(jax.random.key(0), 8)
    masks = [apply({}, {}, x, key=k, train=True)[0] for k in (keys[0], keys[0], keys[1])]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()  # another key
    assert (masks[0][0] != masks[0][1]).any()  # another layer, or another call
    np.testing.assert_array_equal(apply({}, {}, x, key=keys[0])[0], [x, x])
    own = [apply({}, {}, x, train=True)[0] for _ in "ab"] if make is OwnStreams else [x, x]
    np.testing.assert_array_equal(*own)  # without a key the same again: no stream moves on
    many = apply({}, {}, x, key=keys, train=True)[0]  # a key for each example, as the step gives
    np.testing.assert_array_equal(many, masks[0])


def test_recurrent_net_of_flax_works_in_every_transformation() -> None:
    """It keeps random streams inside; they are no part of what is trained or saved."""

    class Recurrent(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.rnn = nnx.RNN(nnx.LSTMCell(3, 4, rngs=rngs))

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.rnn(x)[:, -1]

    module = Recurrent(nnx.Rngs(0))
    apply, params, extra = pure(module)
    assert extra == {} and all("cell" in name for name in leaves_by_name(params))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 3)), jnp.float32)
    expected = module(x)

    def loss(params: Tree, key: jax.Array) -> jax.Array:
        return jnp.square(apply(params, {}, x, key=key, train=True)[0]).sum()

    key = jax.random.key(0)
    np.testing.assert_allclose(apply(params, extra, x)[0], expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(loss)(params, key), jnp.square(expected).sum(), rtol=1e-5)

    def descend(params: Tree, key: jax.Array) -> tuple[Tree, jax.Array]:
        value, grads = jax.value_and_grad(loss)(params, key)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), value

    _, losses = jax.lax.scan(descend, params, jax.random.split(key, 5))
    assert (np.diff(losses) < 0).all()


def test_lists_of_modules_have_integer_keys() -> None:
    class Chain(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.layers = nnx.List([nnx.Linear(3, 3, rngs=rngs) for _ in range(11)])

        def __call__(self, x: jax.Array) -> jax.Array:
            for layer in self.layers:
                x = layer(x)
            return x

    module = Chain(nnx.Rngs(0))
    apply, params, extra = pure(module)
    assert list(params["layers"]) == list(range(11))
    np.testing.assert_allclose(apply(params, extra, inputs())[0], module(inputs()), rtol=1e-6)
    read_back = {"layers": {str(i): p for i, p in params["layers"].items()}}
    with pytest.raises(ValueError, match="same leaves in another arrangement"):
        apply(read_back, extra, inputs())  # a file's names are strings; restore with a template


def test_tied_parameters_stay_one_leaf() -> None:
    class Tied(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.encode = nnx.Linear(3, 3, use_bias=False, rngs=rngs)
            self.decode = nnx.Linear(3, 3, use_bias=False, rngs=rngs)
            self.decode.kernel = self.encode.kernel

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.decode(self.encode(x))

    apply, params, extra = pure(Tied(nnx.Rngs(0)))
    (w,) = jax.tree.leaves(params)
    x = inputs()
    np.testing.assert_allclose(apply(params, extra, x)[0], x @ w @ w, rtol=1e-5, atol=1e-6)
    (grad,) = jax.tree.leaves(jax.grad(lambda p: apply(p, extra, x)[0].sum())(params))
    np.testing.assert_allclose(grad, jax.grad(lambda w: (x @ w @ w).sum())(w), rtol=1e-4, atol=1e-5)


def test_trees_that_do_not_fit_are_refused_by_name() -> None:
    apply, params, extra = pure(Net(nnx.Rngs(0)))
    wrong = params | {"inner": params["inner"] | {"kernel": jnp.ones((4, 4))}}
    with pytest.raises(
        ValueError, match=r"params\.inner\.kernel must have shape \(3, 4\), got \(4, 4\)$"
    ):
        apply(wrong, extra, inputs())
    missing = params | {"inner": {"kernel": params["inner"]["kernel"]}}
    with pytest.raises(
        ValueError, match=r"^apply\(params, extra\): params\.inner\.bias is missing$"
    ):
        apply(missing, extra, inputs())
    with pytest.raises(ValueError, match=r"params\.more is not in the model$"):
        apply(params | {"more": jnp.ones(1)}, extra, inputs())
    with pytest.raises(ValueError, match=r"extra\.norm\.mean is missing; extra\.norm\.var is miss"):
        apply(params, {}, inputs())
    with pytest.raises(ValueError, match=r"extra\.norm\.var must have shape"):
        apply(params, {"norm": extra["norm"] | {"var": jnp.ones(())}}, inputs())


def test_arguments_and_switches_reach_the_module() -> None:
    class Scaled(nnx.Module):
        def __init__(self) -> None:
            self.w = nnx.Param(jnp.float32(2.0))

        def __call__(self, x: jax.Array, y: jax.Array, *, power: int, twice: bool = False) -> Tree:
            out = self.w[...] * x + y**power
            return {"out": 2 * out if twice else out}

    apply, params, extra = pure(Scaled())
    out, _ = apply(params, extra, 3.0, 2.0, power=3, twice=True)
    assert float(out["out"]) == 2 * (2 * 3 + 2**3)
    half, _ = in_precision(apply, jnp.bfloat16)(params, extra, jnp.float32(3), 2.0, power=3)
    assert float(half["out"]) == 2 * 3 + 2**3 and half["out"].dtype == jnp.float32


class Coder(nnx.Module):
    """Two maps in one module, the second of them random in training."""

    def __init__(self, rngs: nnx.Rngs):
        self.up = nnx.Linear(3, 4, rngs=rngs)
        self.down = nnx.Linear(4, 3, rngs=rngs)
        self.drop = Dropout(0.5)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.up(x)

    def decode(self, code: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.down(self.drop(code, rngs=rngs))


def test_another_method_is_called_by_name() -> None:
    module = Coder(nnx.Rngs(0))
    apply, params, extra = pure(module)
    code, _ = apply(params, extra, inputs())
    out, _ = jax.jit(lambda p, c: apply(p, extra, c, method="decode"))(params, code)
    module.eval()
    assert_same(out, module.decode(module(inputs())), rtol=1e-6)
    noisy, _ = apply(params, extra, code, key=jax.random.key(0), train=True, method="decode")
    assert np.abs(noisy - out).max() > 0.01
    with pytest.raises(ValueError, match=r"apply\(method=...\): Coder has no method 'encode'"):
        apply(params, extra, code, method="encode")


def test_key_of_each_example_draws_its_mask() -> None:
    class Dropped(nnx.Module):
        def __init__(self) -> None:
            self.drop = Dropout(0.5)

        def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
            return self.drop(self.drop(x, rngs=rngs), rngs=rngs)

    apply, params, extra = pure(Dropped())
    keys, x = jax.random.split(jax.random.key(0), 6), jnp.ones((6, 32))
    whole, _ = apply(params, extra, x, key=keys, train=True)
    parts = [
        apply(params, extra, x[i : i + 2], key=keys[i : i + 2], train=True)[0] for i in (0, 2, 4)
    ]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert len({tuple(row) for row in np.asarray(whole).tolist()}) == 6
    assert 0 < (whole > 0).mean() < 0.45  # twice dropped: a quarter is left, by two masks


def test_low_precision_computes_low_and_returns_high() -> None:
    class Probe(nnx.Module):
        def __init__(self) -> None:
            self.w = nnx.Param(jnp.full(2, 1 + 2**-10, jnp.float32))
            self.seen = nnx.BatchStat(jnp.zeros(2, jnp.float32))

        def __call__(self, x: jax.Array, index: jax.Array) -> Tree:
            out = self.w[...] * x
            self.seen[...] = out
            return out, {"in": str(x.dtype), "index": str(index.dtype)}

    apply, params, extra = pure(Probe())
    dtypes = []

    def recording(params: Tree, extra: Tree, *args: Any, **kwargs: Any) -> Tree:
        (out, seen), extra = apply(params, extra, *args, **kwargs)
        dtypes.append((seen["in"], seen["index"], str(out.dtype), str(params["w"].dtype)))
        return out, extra

    index = jnp.arange(2, dtype=jnp.int32)
    low = in_precision(recording, jnp.bfloat16)
    x = jnp.full(2, 1 + 2**-10, jnp.float32)
    out, new = low(params, extra, x, index, train=True)
    assert dtypes == [("bfloat16", "int32", "bfloat16", "bfloat16")]
    np.testing.assert_array_equal(out, [1.0, 1.0])  # 2^-10 is below bfloat16's resolution
    assert out.dtype == jnp.float32 and new["seen"].dtype == jnp.float32
    grads = jax.grad(lambda p: low(p, extra, x, index)[0].sum())(params)
    assert grads["w"].dtype == jnp.float32
    narrow = in_precision(lambda p, e, x, **_: (x, {"seen": x}), jnp.bfloat16)
    assert narrow(params, extra, x)[1]["seen"].dtype == jnp.float32  # as it was given
    wide, _ = in_precision(recording, jnp.bfloat16, output=jnp.float64)(params, extra, x, index)
    assert wide.dtype == jnp.float64
