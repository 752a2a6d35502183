"""Dropout's masks and batch normalisation's statistics, split over devices or not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from fdl.models import BatchNorm, Dropout
from fdl.pure import pure

SEEDS = np.arange(8)
X = (np.random.default_rng(0).normal(size=(8, 5)) + 3.0).astype(np.float32)


def keys_of(seeds):
    return jax.vmap(jax.random.key)(seeds)


def test_dropout_keeps_the_share_and_scales_what_it_keeps():
    x = np.full((200, 500), 3.0)
    y = np.asarray(jax.jit(lambda: Dropout(0.2)(x, rngs=nnx.Rngs(0)))())
    assert set(np.unique(y)) == {0.0, 3.0 / 0.8}
    assert (y > 0).mean() == pytest.approx(0.8, abs=5 * np.sqrt(0.8 * 0.2 / x.size))


@pytest.mark.parametrize("seeds", [SEEDS, 0], ids=["a key for each", "one key"])
def test_gradient_of_dropout_passes_where_the_value_does(seeds):
    @jax.jit
    def run(x):
        rngs = keys_of(seeds) if np.ndim(seeds) else jax.random.key(seeds)
        y, pullback = jax.vjp(lambda x: Dropout(0.5)(x, rngs=rngs), x)
        return y, pullback(jnp.ones_like(y))[0]

    y, gradient = run(X)
    assert 0 < np.sum(y == 0) < X.size
    np.testing.assert_array_equal(gradient, np.where(y == 0, 0, 2))


def test_mask_of_an_example_is_a_function_of_its_key_only():
    @jax.jit
    def run(x, seeds):
        return Dropout(0.5)(x, rngs=nnx.Rngs(keys_of(seeds)))

    whole, order = np.asarray(run(X, SEEDS)), np.array([3, 1, 7, 0, 2, 6, 5, 4])
    assert 0 < (whole == 0).sum() < X.size
    np.testing.assert_array_equal(run(X[order], SEEDS[order]), whole[order])
    for part in np.split(np.arange(8), 4):
        np.testing.assert_array_equal(run(X[part], SEEDS[part]), whole[part])


def test_two_dropouts_of_one_forward_pass_draw_different_masks():
    @jax.jit
    def run(ones):
        rngs, dropout = nnx.Rngs(keys_of(SEEDS)), Dropout(0.5)
        return dropout(ones, rngs=rngs), dropout(ones, rngs=rngs)

    first, second = map(np.asarray, run(np.ones((8, 100))))
    assert 0.4 < (first == second).mean() < 0.6


def test_rate_zero_and_evaluation_change_nothing_and_need_no_keys():
    assert Dropout(0.0)(X) is X
    dropout = Dropout(0.5)
    dropout.eval()
    assert dropout(X) is X
    dropout.train()
    with pytest.raises(ValueError, match="'dropout' is needed"):
        dropout(X)


def test_rate_one_drops_all_with_a_finite_gradient():
    dropout = Dropout(1.0)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: dropout(x).sum()))(X)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_dropout_keeps_bfloat16():
    x = jax.ShapeDtypeStruct((8, 5), jnp.bfloat16)
    out = jax.eval_shape(lambda x: Dropout(0.5)(x, rngs=nnx.Rngs(0)), x)
    assert out.dtype == jnp.bfloat16


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_dropout_refuses_a_rate_that_is_no_probability(rate):
    with pytest.raises(ValueError, match=rf"rate=...\) must lie in \[0, 1\], got {rate}"):
        Dropout(rate)


def test_dropout_refuses_another_number_of_keys_than_examples():
    with pytest.raises(ValueError, match=r"each of \(8,\) examples is needed, got \(3,\)"):
        jax.eval_shape(lambda: Dropout(0.5)(X, rngs=keys_of(SEEDS[:3])))


def test_batch_norm_standardises_every_feature_over_batch_and_positions():
    x = np.random.default_rng(1).normal(size=(4, 3, 2, 5)) * 7 + 2
    y = np.asarray(BatchNorm(5, epsilon=1e-12)(x))
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var((0, 1, 2)), 1, rtol=1e-10)
    expected = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)))
    np.testing.assert_allclose(y, expected, rtol=1e-9)


def test_batch_norm_has_flax_values_and_running_averages():
    ours, theirs = BatchNorm(5, momentum=0.8), nnx.BatchNorm(5, momentum=0.8, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(ours(X), theirs(X), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.mean[...], theirs.mean[...], rtol=1e-6)
    np.testing.assert_allclose(ours.var[...], theirs.var[...], rtol=1e-5)
    ours.eval(), theirs.eval()
    np.testing.assert_allclose(ours(X), theirs(X), rtol=1e-5)


def test_batch_norm_can_average_the_unbiased_variance_of_pytorch():
    norm = BatchNorm(5, momentum=0.0, unbiased_running_var=True)
    y = norm(X)
    np.testing.assert_allclose(norm.var[...], np.asarray(X).var(0, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(y, BatchNorm(5)(X), rtol=1e-6)  # the one in use stays biased


def test_batch_norm_ignores_scale_and_shift_of_its_input():
    norm = BatchNorm(5, epsilon=1e-10)
    np.testing.assert_allclose(norm(50 * X - 7), norm(X), rtol=1e-3, atol=1e-3)


def test_batch_norm_in_use_is_a_fixed_affine_map():
    norm = BatchNorm(2)
    norm.eval()
    norm.mean[...], norm.var[...] = np.float32([1.0, -1.0]), np.float32([4.0, 9.0])
    norm.scale[...], norm.bias[...] = np.float32([2.0, 3.0]), np.float32([0.5, 0.0])
    out = norm(np.array([[3.0, 2.0]], np.float32))
    np.testing.assert_allclose(out, [[2 * 2 / 2 + 0.5, 3 * 3 / 3]], rtol=1e-5)
    np.testing.assert_array_equal(norm.mean[...], [1, -1])


def test_batch_norm_split_over_an_axis_is_that_of_the_whole_batch_with_its_gradients():
    apply, params, extra = pure(BatchNorm(5, axis_name="data", unbiased_running_var=True))
    weights = np.random.default_rng(2).normal(size=X.shape).astype(np.float32)

    def whole(params, x):
        out, new = apply(params, extra, x, train=True)  # no axis is bound here
        return (out * weights).sum(), new

    def in_four(params, x):
        body = jax.vmap(lambda x: apply(params, extra, x, train=True), axis_name="data")
        out, new = body(x.reshape(4, 2, 5))
        return (out.reshape(8, 5) * weights).sum(), new

    def run(function):
        return jax.jit(jax.value_and_grad(function, argnums=(0, 1), has_aux=True))(params, X)

    (value, new), gradient = run(whole)
    (split_value, split_new), split_gradient = run(in_four)
    np.testing.assert_allclose(split_value, value, rtol=1e-5)
    for name in ("mean", "var"):  # all participants hold the same averages
        for participant in split_new[name]:
            np.testing.assert_allclose(participant, new[name], rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        split_gradient,
        gradient,
    )


@pytest.mark.devices
def test_batch_norm_on_four_devices_is_that_of_the_whole_batch():
    apply, params, extra = pure(BatchNorm(5, axis_name="data"))
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def step(x):
        return apply(params, extra, x, train=True)

    spread = jax.shard_map(step, mesh=mesh, in_specs=P("data"), out_specs=(P("data"), P()))
    (out, new), (y, averages) = jax.jit(spread)(X), jax.jit(step)(X)
    np.testing.assert_allclose(out, y, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), new, averages)


def test_batch_norm_of_bfloat16_takes_its_statistics_in_float32():
    norm = BatchNorm(1, momentum=0.0)
    x = (300 + 2 * (np.arange(256) % 2)).astype(jnp.bfloat16)[:, None]
    y = norm(x)
    assert y.dtype == jnp.bfloat16 and norm.mean[...].dtype == jnp.float32
    exact = np.asarray(x, float)
    np.testing.assert_allclose(norm.mean[...], exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(norm.var[...], exact.var(0), rtol=1e-5)


def test_batch_norm_does_not_see_what_is_masked():
    """Rows that fill up a batch, whatever is in them, leave statistics and gradients alone."""
    mask = np.array([1, 1, 0, 1, 1, 0, 1, 0], bool)
    apply, params, extra = pure(BatchNorm(5, axis_name="data", unbiased_running_var=True))
    weights = np.random.default_rng(2).normal(size=X.shape).astype(np.float32)

    def padded(x):
        filled = jnp.where(mask[:, None], x, 1e4)
        out, new = apply(params, extra, filled, mask=mask, train=True)
        return (jnp.where(mask[:, None], out, 0) * weights).sum(), new

    def in_four(x):
        body = jax.vmap(
            lambda x, mask: apply(params, extra, x, mask=mask, train=True), axis_name="data"
        )
        filled = jnp.where(mask[:, None], x, 1e4)
        out, new = body(filled.reshape(4, 2, 5), mask.reshape(4, 2))
        kept = jnp.where(mask[:, None], out.reshape(8, 5), 0)
        return (kept * weights).sum(), jax.tree.map(lambda a: a[0], new)

    def alone(x):
        out, new = apply(params, extra, x[np.flatnonzero(mask)], train=True)
        return (out * weights[mask]).sum(), new

    expected = jax.jit(jax.value_and_grad(alone, has_aux=True))(X)
    for found in (padded, in_four):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            jax.jit(jax.value_and_grad(found, has_aux=True))(X),
            expected,
        )


def test_batch_norm_takes_positions_in_a_mask():
    x = np.random.default_rng(3).normal(size=(2, 4, 3))
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 0]], bool)
    norm = BatchNorm(3, momentum=0.0)
    norm(x, mask=mask)
    np.testing.assert_allclose(norm.mean[...], x[mask].mean(0), rtol=1e-6)
    np.testing.assert_allclose(norm.var[...], x[mask].var(0), rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_batch_norm_has_the_derivatives_of_its_formula(masked):
    norm = BatchNorm(5, epsilon=0.1)
    apply, params, extra = pure(norm)
    real = np.array([1, 1, 0, 1, 1, 1, 0, 1], bool) if masked else np.ones(8, bool)

    def loss(x):
        y, new = apply(params, extra, x, mask=real if masked else None, train=True)
        return jnp.sin(y).sum() + jnp.cos(new["mean"]).sum() + jnp.sin(new["var"]).sum()

    def formula(x):
        mean = x[real].mean(0, keepdims=True)
        var = jnp.square(x[real] - mean).mean(0, keepdims=True)
        new = jnp.cos(0.1 * mean).sum() + jnp.sin(0.9 + 0.1 * var).sum()
        return jnp.sin((x - mean) / jnp.sqrt(var + 0.1)).sum() + new

    with jax.enable_x64(True):
        x, v = jnp.asarray(X, jnp.float64), jnp.cos(jnp.asarray(X, jnp.float64))

        def derivatives(f):
            gradient = jax.grad(f)
            twice = jax.grad(lambda x: jnp.vdot(gradient(x), v))
            return jax.jvp(f, (x,), (v,)), jax.jvp(gradient, (x,), (v,)), twice(x)

        found, expected = jax.jit(lambda: (derivatives(loss), derivatives(formula)))()
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_gradient_is_orthogonal_to_weights_before_a_batch_norm():
    """Their length does not matter to the output, and a bias there has no effect at all."""
    inputs = np.random.default_rng(4).normal(size=(16, 6))
    w, b = np.random.default_rng(5).normal(size=(6, 5)), np.ones((1, 5))

    def loss(w, b):
        out = BatchNorm(5, epsilon=1e-12)(inputs @ w + b)
        return (jnp.sin(3 * out) * jnp.arange(1, 6)[None]).sum()

    value, (gradient, bias) = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(w, b)
    assert loss(w * np.array([[0.1, 2, 3, 40, 5]]), b) == pytest.approx(float(value), rel=1e-9)
    np.testing.assert_allclose((w * gradient).sum(0), 0, atol=1e-9)
    np.testing.assert_allclose(bias, 0, atol=1e-9)
    assert np.abs(gradient).max() > 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BatchNorm(5)(X[:1]), "at least 2 values of each feature in training, got 1"),
        (lambda: BatchNorm(5)(X, mask=np.ones(7)), r"of shape \(8,\), got \(7,\)"),
        (lambda: BatchNorm(4)(X), r"\(batch, ..., 4\), got \(8, 5\)"),
        (lambda: BatchNorm(5, momentum=1.0), r"must lie in \[0, 1\), got 1.0"),
        (lambda: BatchNorm(5, epsilon=0.0), r"must be > 0, got 0.0"),
    ],
)
def test_batch_norm_refuses_what_makes_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call()
