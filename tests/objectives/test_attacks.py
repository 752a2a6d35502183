"""Attacks: PyTorch's values, the exact worst case of a linear model, balls, ranges, batches."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from fdl import losses, objectives

TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}


def network(weights, x):
    """A chain of tanh layers under the names of torch.nn.Sequential."""
    numbers = sorted({int(name.split(".")[0]) for name in weights})
    for i in numbers:
        bias = weights[f"{i}.bias"]
        x = x @ weights[f"{i}.weight"].T + bias[(None,) * (x.ndim - 1)]
        x = jnp.tanh(x) if i != numbers[-1] else x
    return x


def cross_entropy(weights, y, x):
    return losses.softmax_cross_entropy(network(weights, x), y)


@pytest.fixture(scope="module", params=TOLERANCE)
def pinned(request, fixture_dir):
    """The fixture in one precision: weights, arrays, options, and how close to be."""
    folder = fixture_dir("adversarial")
    weights = load_file(folder / "weights.safetensors")
    weights = {name: jnp.asarray(w, request.param) for name, w in weights.items()}
    arrays = dict(np.load(folder / "data.npz"))
    config = json.loads((folder / "config.json").read_text())["config"]
    return weights, arrays, config, request.param


def test_attacks_are_those_of_pytorch(pinned):
    weights, arrays, config, dtype = pinned
    x, y = jnp.asarray(arrays["x"], dtype), arrays["y"]
    loss, eps = partial(cross_entropy, weights, y), config["eps"]
    walk = {"epsilon": eps, "step_size": config["alpha"], "steps": config["steps"]}
    start = jnp.asarray(arrays["pgd_start"], dtype)

    @jax.jit
    def attacks(x):
        return {
            "fgsm": objectives.fgsm(loss, x, epsilon=eps),
            "fgsm_clip01": objectives.fgsm(loss, x, epsilon=eps, data_range=(0, 1)),
            "fgm_l2": objectives.fgm_l2(loss, x, epsilon=eps),
            "pgd_linf": objectives.pgd(loss, x, start=start, data_range=(0, 1), **walk),
            "pgd_l2": objectives.pgd(loss, x, norm="l2", **walk),
        }

    for name, found in attacks(x).items():
        assert found.dtype == dtype
        np.testing.assert_allclose(found, arrays[name], err_msg=name, **TOLERANCE[dtype])
        if f"loss:{name}" in arrays:
            mean = loss(found).mean()
            np.testing.assert_allclose(mean, arrays[f"loss:{name}"], **TOLERANCE[dtype])


RNG = np.random.default_rng(0)
W, BIAS = RNG.normal(size=6), 0.3
X, SIGNS = RNG.uniform(size=(10, 6)), np.where(RNG.uniform(size=10) < 0.5, -1.0, 1.0)


def logistic(x, w=W, signs=SIGNS):
    return jax.nn.softplus(-signs * (x @ w + BIAS))


def test_fgsm_is_the_worst_case_of_logistic_regression():
    found = logistic(objectives.fgsm(logistic, X, epsilon=0.2))
    worst = np.log1p(np.exp(-SIGNS * (X @ W + BIAS) + 0.2 * np.abs(W).sum()))
    np.testing.assert_allclose(found, worst, rtol=1e-12)


def test_the_l2_attack_is_the_worst_case_of_logistic_regression_in_its_ball():
    worst = np.log1p(np.exp(-SIGNS * (X @ W + BIAS) + 0.2 * np.linalg.norm(W)))
    np.testing.assert_allclose(
        logistic(objectives.fgm_l2(logistic, X, epsilon=0.2)), worst, rtol=1e-12
    )
    walk = {"epsilon": 0.2, "step_size": 0.05, "steps": 9, "norm": "l2"}
    np.testing.assert_allclose(logistic(objectives.pgd(logistic, X, **walk)), worst, rtol=1e-12)


def test_a_targeted_attack_lowers_the_loss_as_far_as_the_ball_allows():
    best = np.log1p(np.exp(-SIGNS * (X @ W + BIAS) - 0.2 * np.abs(W).sum()))
    for attack in (objectives.fgsm, partial(objectives.pgd, step_size=0.1, steps=3)):
        found = attack(logistic, X, epsilon=0.2, targeted=True)
        np.testing.assert_allclose(logistic(found), best, rtol=1e-12)


def test_what_the_loss_does_not_depend_on_is_left_alone():
    w = np.where(np.arange(6) < 3, W, 0)
    for attack in (objectives.fgsm, objectives.fgm_l2):
        moved = attack(partial(logistic, w=w), X, epsilon=0.2) - X
        assert (np.abs(moved[:, :3]) > 0).all()
        np.testing.assert_array_equal(moved[:, 3:], 0)
    still = objectives.fgm_l2(lambda x: 0 * x.sum(-1), X, epsilon=0.2)
    np.testing.assert_array_equal(still, X)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_length_of_a_step_does_not_depend_on_the_size_of_the_gradient(scale):
    x = X.astype(np.float32)
    w = jnp.asarray(scale * W, jnp.float32)  # squares are 0 or infinite
    moved = objectives.fgm_l2(lambda x: (x * w[None]).sum(-1), x, epsilon=0.2) - x
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 0.2, rtol=1e-5)


def test_projected_ascent_is_on_average_at_least_as_strong_as_one_step():
    rng = np.random.default_rng(1)
    w, v, x = rng.normal(size=(8, 12)), rng.normal(size=(12, 3)), rng.uniform(size=(200, 8))
    y = (np.tanh(x @ w) @ v).argmax(-1)  # all right before the attack

    def loss(x):
        return losses.softmax_cross_entropy(jnp.tanh(x @ w) @ v, y)

    def means(x):
        for norm, one in (("linf", objectives.fgsm), ("l2", objectives.fgm_l2)):
            many = objectives.pgd(loss, x, epsilon=0.25, step_size=0.06, steps=10, norm=norm)
            yield loss(x).mean(), loss(one(loss, x, epsilon=0.25)).mean(), loss(many).mean()

    for clean, one, many in jax.jit(lambda x: list(means(x)))(x):
        assert clean < one < many


@settings(max_examples=15, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0, 2),
    ratio=st.floats(0, 3),
    seed=st.integers(0, 2**31),
)
def test_every_point_of_an_attack_lies_in_the_ball_and_in_the_range(norm, epsilon, ratio, seed):
    rng = np.random.default_rng(seed)
    x, frequency = rng.uniform(size=(4, 2, 3)), rng.normal(scale=3, size=(2, 3))
    keys = jax.random.split(jax.random.key(seed), 4)
    found = _walk(norm, x, frequency, keys, epsilon, ratio * epsilon)
    for point in found:
        moved = (point - x).reshape(4, -1)
        far = np.abs(moved).max(1) if norm == "linf" else np.linalg.norm(moved, axis=1)
        assert (far <= epsilon * (1 + 1e-12) + 1e-15).all()
        assert (point >= 0).all() and (point <= 1).all()


@partial(jax.jit, static_argnums=0)
def _walk(norm, x, frequency, keys, epsilon, step_size):
    loss = lambda x: jnp.sin(x * frequency[None]).sum((1, 2))  # noqa: E731
    ball = {"epsilon": epsilon, "norm": norm, "data_range": (0.0, 1.0)}
    start = objectives.random_start(keys, x, **ball)
    return start, objectives.pgd(loss, x, start=start, step_size=step_size, steps=5, **ball)


def test_an_example_is_attacked_alike_in_every_batch():
    keys = jax.random.split(jax.random.key(0), len(X))

    def attack(x, signs, keys):
        loss = partial(logistic, signs=signs)
        start = objectives.random_start(keys, x, epsilon=0.2)
        return objectives.pgd(loss, x, epsilon=0.2, step_size=0.03, steps=3, start=start)

    whole = jax.jit(attack)(X, SIGNS, keys)
    alone = jax.vmap(attack)(X[:, None], SIGNS[:, None], keys[:, None])[:, 0]
    np.testing.assert_allclose(alone, whole, rtol=1e-12)
    np.testing.assert_allclose(attack(X[3:5], SIGNS[3:5], keys[3:5]), whole[3:5], rtol=1e-12)


def test_random_starts_fill_the_ball_evenly():
    keys = jax.random.split(jax.random.key(0), 20_000)
    x = jnp.zeros((len(keys), 3))
    cube = objectives.random_start(keys, x, epsilon=2.0)
    np.testing.assert_allclose(cube.mean(0), 0, atol=4 * 2 / np.sqrt(3 * len(keys)))
    np.testing.assert_allclose((cube**2).mean(0), 4 / 3, rtol=0.03)
    ball = objectives.random_start(keys, x, epsilon=2.0, norm="l2")
    inside = np.sort(np.linalg.norm(ball, axis=1) / 2) ** 3  # share of the volume: uniform
    # the largest distance of Kolmogorov and Smirnov is 1.63 / sqrt(n) in 1 of 100 draws
    assert np.abs(inside - np.arange(len(keys)) / len(keys)).max() < 1.63 / np.sqrt(len(keys))
    np.testing.assert_allclose(ball.mean(0), 0, atol=4 * 2 / np.sqrt(5 * len(keys)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: objectives.fgsm(logistic, X, epsilon=-1), r"fgsm\(epsilon=...\) must be >= 0"),
        (lambda: objectives.fgm_l2(logistic, X, epsilon=float("nan")), ">= 0, got nan"),
        (lambda: objectives.fgsm(logistic, [[1]], epsilon=1), r"fgsm\(x\) must be floating"),
        (
            lambda: objectives.fgsm(logistic, X, epsilon=1, data_range=(1, 0)),
            r"low < high, got \(1, 0\)",
        ),
        (
            lambda: objectives.fgsm(lambda x: logistic(x).mean(), X, epsilon=1),
            r"a loss for each of \(10,\) examples, got shape \(\)",
        ),
        (
            lambda: objectives.pgd(logistic, X, epsilon=1, step_size=1, steps=1, norm="l1"),
            "'linf' or 'l2', got 'l1'",
        ),
        (
            lambda: objectives.pgd(logistic, X, epsilon=1, step_size=1, steps=-1),
            r"pgd\(steps=...\) must be >= 0, got -1",
        ),
        (
            lambda: objectives.pgd(logistic, X, epsilon=1, step_size=1, steps=1, start=X[:3]),
            r"shape of x \(10, 6\), got \(3, 6\)",
        ),
        (
            lambda: objectives.random_start(jax.random.key(0), X, epsilon=1),
            r"a key for each of \(10,\) examples, got \(\)",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
