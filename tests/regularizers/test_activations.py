"""Penalties on activations: PyTorch's numbers, extremes, and batches spread over devices."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fdl import regularizers, train

FIXTURE = np.load(Path(__file__).parents[1] / "fixtures" / "losses" / "data.npz")
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}
OF_THE_FIXTURE = {  # name without the target rate in it -> the input's name, and the function
    "student_t_penalty": ("h", lambda h, _: regularizers.activation_student_t(h)),
    "l1_penalty": ("h", lambda h, _: regularizers.activation_l1(h)),
    "kl_sparsity": (
        "a",
        lambda a, rho: regularizers.activation_kl(jax.nn.sigmoid(a), target=rho),
    ),
}
NAMES = [n.removesuffix(":loss") for n in FIXTURE.files if n.endswith(":loss")]
NAMES = [n for n in NAMES if n.split("_rho")[0] in OF_THE_FIXTURE]


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(function, x):
    loss, pullback = jax.vjp(function, x)
    return loss, pullback(jnp.ones_like(loss))[0]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", NAMES)
def test_penalties_have_the_values_and_gradients_of_pytorch(name, dtype):
    argument, function = OF_THE_FIXTURE[name.split("_rho")[0]]
    digits = re.search(r"_rho0(\d+)$", name)  # rho01 is 0.1
    rho = float(f"0.{digits[1]}") if digits else None
    h = jnp.asarray(FIXTURE[f"{name}:in:{argument}"], dtype)
    loss, gradient = value_and_gradient(lambda h: function(h, rho), h)
    assert loss.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(loss, FIXTURE[f"{name}:loss"], **TOLERANCE[dtype])
    np.testing.assert_allclose(gradient, FIXTURE[f"{name}:grad:{argument}"], **TOLERANCE[dtype])


def test_the_fixture_has_all_of_them():
    assert {n.split("_rho")[0] for n in NAMES} == set(OF_THE_FIXTURE)


def test_images_of_units_are_summed_and_half_precision_is_widened():
    h = np.full((2, 8, 8, 64), 0.1, jnp.bfloat16)
    exact = 4096 * float(jnp.bfloat16(0.1))
    np.testing.assert_allclose(regularizers.activation_l1(h), exact, rtol=1e-6)
    square = np.log1p(float(jnp.bfloat16(0.1)) ** 2)
    np.testing.assert_allclose(regularizers.activation_student_t(h), 4096 * square, rtol=1e-5)


def test_a_unit_that_is_off_gets_no_gradient_from_l1():
    gradient = jax.grad(lambda h: regularizers.activation_l1(h).sum())(np.array([[0.0, -2.0]]))
    np.testing.assert_array_equal(gradient, [[0.0, -1.0]])


def test_student_t_prefers_one_large_activation_to_many_small_ones():
    few, many = np.array([[2.0, 0, 0, 0]]), np.array([[1.0, 1, 1, 1]])  # the same norm
    assert regularizers.activation_student_t(few) < regularizers.activation_student_t(many)
    assert regularizers.activation_l1(few) < regularizers.activation_l1(many)


def test_kl_is_the_divergence_of_two_coins_and_zero_only_at_the_target():
    rates = np.array([0.02, 0.2, 0.7])
    h = np.stack([rates / 2, rates * 1.5])  # means are the rates
    p, q = np.array([0.2, 0.8]), np.stack([rates, 1 - rates], 1)
    expected = (p * np.log(p / q)).sum()
    assert float(regularizers.activation_kl(h, target=0.2)) == pytest.approx(expected, rel=1e-12)
    at_target = regularizers.activation_kl(np.full((3, 2), 0.2), target=0.2)
    assert abs(float(at_target)) < 1e-15


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_kl_of_units_that_are_always_off_or_on_is_finite_and_draws_them_back(dtype):
    def penalty(a):
        return regularizers.activation_kl(jax.nn.sigmoid(a), target=0.1)

    value, gradient = value_and_gradient(penalty, jnp.asarray([[-300.0, 300.0, 12.0]], dtype))
    assert np.isfinite(value) and np.isfinite(gradient).all() and value > 1
    assert gradient[0, 2] > 0
    low, high = (jnp.asarray([[v]], dtype) for v in (0.0, 1.0))
    slope = jax.grad(lambda h: regularizers.activation_kl(h, target=0.1))
    assert slope(low) < 0 < slope(high)


RNG = np.random.default_rng(3)
BATCH = {"x": RNG.standard_normal((8, 3))}
PARAMS = {"w": RNG.standard_normal((3, 2))}


def objective(params, extra, batch, key):
    del key
    h = jax.nn.sigmoid(batch["x"] @ params["w"])
    kl = regularizers.activation_kl(h, target=0.1)
    return regularizers.activation_student_t(h).mean() + 2.0 * kl, (extra, {"kl": train.mean(kl)})


def updated(how, devices):
    tx = optax.sgd(0.5)
    runner = train.lift(train.make_step(objective, tx), how, devices=devices)
    state, metrics = runner.step(runner.put(train.init_state(PARAMS, {}, tx)), BATCH)
    return runner.get(state.params)["w"], float(runner.get(metrics)["loss"])


@pytest.mark.parametrize(
    ("how", "devices"),
    [
        ("shard_map", 4),
        *(
            pytest.param(how, n, marks=pytest.mark.slow)
            for how, n in (("shard_map", 2), ("pmap", 2), ("pmap", 4))
        ),
    ],
)
def test_the_rate_is_that_of_all_devices(how, devices):
    def whole(w):
        h = jax.nn.sigmoid(BATCH["x"] @ w)
        rate = h.mean(0)
        kl = 0.1 * jnp.log(0.1 / rate) + 0.9 * jnp.log(0.9 / (1 - rate))
        return jnp.log1p(h**2).sum(-1).mean() + 2.0 * kl.sum()

    value, gradient = jax.value_and_grad(whole)(PARAMS["w"])
    found, loss = updated(how, devices)
    assert loss == pytest.approx(float(value), rel=1e-12)
    np.testing.assert_allclose(found, PARAMS["w"] - 0.5 * gradient, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: regularizers.activation_kl(np.ones((2, 2)), target=1.0), r"in \(0, 1\), got 1.0"),
        (lambda: regularizers.activation_l1(np.ones(3)), r"activation_l1\(h\).*got \(3,\)"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
