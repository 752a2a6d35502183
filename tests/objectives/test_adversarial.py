"""Training on adversarial examples: PyTorch's gradient, constants, devices, several attacks."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file

from fdl import losses, objectives, train

TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}


def tanh_network(weights, x):
    h = jnp.tanh(x @ weights["0.weight"].T + weights["0.bias"][None])
    return h @ weights["2.weight"].T + weights["2.bias"][None]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_loss_and_gradient_are_those_of_pytorch(dtype, fixture_dir):
    folder = fixture_dir("adversarial")
    weights = load_file(folder / "weights.safetensors")
    weights = {name: jnp.asarray(w, dtype) for name, w in weights.items()}
    arrays = np.load(folder / "data.npz")
    x, y = jnp.asarray(arrays["x"], dtype), arrays["y"]
    found = (re.fullmatch(r"adv_training_loss_alpha0(\d+)", name) for name in arrays.files)
    (match,) = (m for m in found if m)
    epsilon = json.loads((folder / "config.json").read_text())["config"]["eps"]

    def objective(weights):
        def loss(x):
            return losses.softmax_cross_entropy(tanh_network(weights, x), y)

        attacked = objectives.fgsm(loss, x, epsilon=epsilon)
        alpha = float("0." + match[1])
        return objectives.adversarial_loss(loss, x, adversarial=attacked, alpha=alpha).mean()

    value, gradient = jax.jit(jax.value_and_grad(objective))(weights)
    np.testing.assert_allclose(value, arrays[match[0]], **TOLERANCE[dtype])
    compared = [name for name in weights if f"adv_training_grad:{name}" in arrays]
    assert compared
    for name in compared:
        expected = arrays[f"adv_training_grad:{name}"]
        np.testing.assert_allclose(gradient[name], expected, **TOLERANCE[dtype])


def test_training_does_not_see_that_the_attack_depends_on_the_parameters():
    x = np.array([[2.0], [3.0]])

    def objective(w):
        loss = lambda x: (w * x[:, 0]) ** 2  # noqa: E731
        return objectives.adversarial_loss(loss, x, adversarial=w * x, alpha=0.25).sum()

    # d/dw (w a)^2 = 2 w a^2 with a = w x held fixed; not d/dw (w^2 x)^2 = 4 w^3 x^2
    w = 0.7
    expected = (0.25 * 2 * w * x**2 + 0.75 * 2 * w * (w * x) ** 2).sum()
    np.testing.assert_allclose(jax.grad(objective)(w), expected, rtol=1e-12)


def problem():
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(5, 4)), "v": rng.normal(size=(4, 3))}
    return params, {"x": rng.uniform(size=(8, 5)), "y": rng.integers(0, 3, 8)}


def objective(params, extra, batch, key):
    def loss(x):
        return losses.softmax_cross_entropy(jnp.tanh(x @ params["w"]) @ params["v"], batch["y"])

    start = objectives.random_start(key, batch["x"], epsilon=0.1)
    attacked = objectives.pgd(loss, batch["x"], epsilon=0.1, step_size=0.03, steps=3, start=start)
    mixed = objectives.adversarial_loss(loss, batch["x"], adversarial=attacked, alpha=0.3)
    return mixed.mean(), (extra, {"attacked": train.mean(loss(attacked))})


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pmap", "shard_map", "shard_map checked"])
def test_training_is_the_same_on_one_device_and_on_many(how):
    params, batch = problem()
    tx = optax.sgd(0.1)

    def trained(how, **options):
        runner = train.lift(train.make_step(objective, tx), how, **options)
        state = runner.put(train.init_state(params, {}, tx, seed=3))
        for _ in range(2):
            state, metrics = runner.step(state, batch)
        return runner.get((state.params, metrics))

    one = trained("none")
    for devices in (2, 4):
        many = trained(how.split()[0], devices=devices, check_vma="checked" in how)
        for a, b in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10)


def test_robust_accuracy_is_that_against_the_worst_attack_of_each_example():
    versions = np.random.default_rng(1).integers(0, 2, (3, 50)).astype(float)
    found = objectives.robust_correct(list(versions))
    expected = [float(all(versions[:, i])) for i in range(50)]
    assert found.tolist() == expected
    assert 0 < sum(expected) < versions.sum(1).min()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: objectives.adversarial_loss(len, x, adversarial=x, alpha=1.5),
            r"alpha=...\) must lie in \[0, 1\], got 1.5",
        ),
        (
            lambda x: objectives.adversarial_loss(len, x, adversarial=x[:1]),
            r"shape of x \(2, 3\), got \(1, 3\)",
        ),
        (lambda x: objectives.robust_correct([]), r"one shape, got \[\]"),
        (lambda x: objectives.robust_correct([x, x[:1]]), "one shape, got"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((2, 3)))
