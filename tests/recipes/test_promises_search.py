"""Search does what its recipe's docstring promises, on digits that chose nothing."""

import importlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import data, initializers, losses, run, train
from fdl.errors import InputError, NonFiniteError

pytestmark = pytest.mark.slow
SMALL = {"steps": 25, "eval_every": 25, "hidden": (16,), "batch": 32}


def execute(out, **settings):
    module = importlib.import_module("recipes.search")
    settings = {"quiet": True, "parallel": "none"} | settings
    return run.execute(module.main, module.Config(out=str(out), **settings))


def table(folder):
    """The cells of trials.md, a dict a row."""
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (folder / "trials.md").read_text().splitlines()
    )
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_a_trial_among_others_ends_as_it_does_alone(tmp_path):
    together = execute(tmp_path / "all", trials=8, **SMALL)
    names = ("lr", "momentum", "l2", "dropout")
    space = ",".join(f"{name}={together[name]!r}" for name in names)
    alone = execute(tmp_path / "one", trials=1, space=space, **SMALL)
    assert together["dropout"] > 0 and together["valid_loss"] < together["valid_loss_median"]
    for name in ("valid_loss", "test_loss", "valid_accuracy", "test_accuracy"):
        assert alone[name] == pytest.approx(together[name], rel=1e-5)


def test_a_trial_is_what_the_equations_of_momentum_decay_and_dropout_say(tmp_path):
    lr, momentum, l2, rate, steps = 0.2, 0.6, 0.01, 0.3, 25
    space = f"lr={lr},momentum={momentum},l2={l2},dropout={rate}"
    figures = execute(tmp_path / "run", trials=1, space=space, **SMALL)
    digits = data.digits(flat=True)
    fit, _ = data.split_validation(digits.train, 0.2, by="order")
    keys = jax.random.split(jax.random.key(0), 2)
    draw = initializers.he_normal()
    w = [draw(key, s, jnp.float32) for key, s in zip(keys, [(64, 16), (16, 10)], strict=True)]
    params = (w, [jnp.zeros(16), jnp.zeros(10)])

    def logits(params, x, mask=1.0):
        (first, second), (b, c) = params
        return (mask * jnp.maximum(x @ first + b[None], 0)) @ second + c[None]

    def loss(params, x, y, mask):
        decay = sum((w**2).sum() for w in params[0]) / 2
        return losses.softmax_cross_entropy(logits(params, x, mask), y).mean() + l2 * decay

    velocity = jax.tree.map(jnp.zeros_like, params)
    grad = jax.jit(jax.grad(loss))
    for i in range(steps):
        size = lr * (1 + np.cos(np.pi * i / steps)) / 2
        batch = data.batch(fit, 32, seed=0, step=i)
        keys = [jax.random.fold_in(key, 0) for key in train.example_keys(jax.random.key(0), i, 32)]
        kept = jnp.stack([jax.random.bernoulli(key, jnp.float32(1 - rate), (16,)) for key in keys])
        g = grad(params, batch["x"], batch["y"], kept / jnp.float32(1 - rate))
        velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, g)
        params = jax.tree.map(lambda p, v, size=size: p - size * v, params, velocity)
    found = losses.softmax_cross_entropy(logits(params, digits.test["x"]), digits.test["y"]).mean()
    assert figures["test_loss"] == pytest.approx(float(found), rel=1e-4)


def test_a_trial_that_is_no_longer_finite_does_not_stop_the_others(tmp_path):
    space = "lr=0.1|1e20"
    figures = execute(tmp_path / "two", method="grid", space=space, **SMALL)
    assert figures["failed"] == 1 and figures["lr"] == np.float32(0.1)
    good, bad = table(tmp_path / "two")
    assert good["failed"] == "" and bad["failed"].startswith("not finite after ")
    alone = execute(tmp_path / "one", trials=1, space="lr=0.1", **SMALL)
    assert figures["test_loss"] == pytest.approx(alone["test_loss"], rel=1e-5)
    with pytest.raises(NonFiniteError, match="all 2 trials failed"):
        execute(tmp_path / "none", trials=2, space="lr=1e20", **SMALL)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"space": "rate=0:1"}, "--space must be of lr, momentum, l2, dropout, got 'rate'"),
        ({"space": "lr=a|b"}, r"--space lr=... must lie in \[0, inf\), got 'a'"),
        ({"space": "dropout=1"}, r"--space dropout=... must lie in \[0, 1\), got '1'"),
        ({"space": "lr=log:0:1"}, "must have LOW > 0"),
        ({"method": "grid", "points": 1}, "must be >= 2, got 1"),
        ({"trials": 3, "parallel": "pmap"}, "8 devices"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line(settings, told, tmp_path):
    with pytest.raises(InputError, match=told) as caught:
        execute(tmp_path / "run", **SMALL | settings)
    assert "\n" not in str(caught.value)


def test_search_finds_settings_that_read_better_than_the_usual_ones(tmp_path):
    found, usual = [], []
    for seed in range(5):
        out = tmp_path / str(seed)
        found.append(execute(out, seed=seed, eval_every=1000))
        assert json.loads((out / "result.json").read_text()) == pytest.approx(found[-1], rel=1e-5)
        valid = [float(row["valid_loss"]) for row in table(out)]
        assert len(valid) == 32 and valid == sorted(valid)
        own = {"space": "lr=0.05", "trials": 1, "seed": seed, "eval_every": 1000}
        usual.append(execute(tmp_path / f"usual-{seed}", **own))
    best, plain = (
        {name: np.mean([f[name] for f in figures]) for name in figures[0]}
        for figures in (found, usual)
    )
    assert best["valid_loss"] < 0.6 * best["valid_loss_median"]
    assert best["test_accuracy"] > 0.908 and best["test_loss"] < 0.34
    assert best["test_accuracy"] > plain["test_accuracy"] + 0.004
    assert best["test_loss"] < plain["test_loss"] - 0.015
