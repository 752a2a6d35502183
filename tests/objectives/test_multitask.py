"""Losses of several tasks: missing labels, learned weights, and many devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fdl import train
from fdl.objectives import multitask_loss, multitask_losses, uncertainty_weighted_loss

RNG = np.random.default_rng(0)
EACH = {"digit": RNG.random(8), "slant": RNG.random(8)}
MASK = {"digit": np.array([1, 0, 0, 0, 1, 1, 0, 0])}


def test_losses_are_means_over_the_labelled():
    found = multitask_losses(EACH, MASK)
    np.testing.assert_allclose(found["digit"], EACH["digit"][[0, 4, 5]].mean(), rtol=1e-14)
    np.testing.assert_allclose(found["slant"], EACH["slant"].mean(), rtol=1e-14)


def test_what_is_not_labelled_counts_nothing_whatever_it_is():
    each = {"digit": np.where(MASK["digit"], EACH["digit"], np.nan)}
    found, grad = jax.value_and_grad(lambda d: multitask_losses({"digit": d}, MASK)["digit"])(
        each["digit"]
    )
    np.testing.assert_allclose(found, EACH["digit"][[0, 4, 5]].mean(), rtol=1e-14)
    np.testing.assert_allclose(grad, MASK["digit"] / 3, rtol=1e-14)
    nothing = multitask_losses(each, {"digit": np.zeros(8, bool)})
    assert float(nothing["digit"]) == 0


def test_spread_over_devices_the_mean_is_over_all_labelled_examples():
    """Four devices hold 1, 0, 2 and 0 labels: means of their means would be wrong."""
    losses, masks = jax.tree.map(lambda a: a.reshape(4, 2), (EACH, MASK))
    parts = jax.vmap(lambda e, m: multitask_losses(e, m), axis_name="data")(losses, masks)
    whole = multitask_losses(EACH, MASK)
    for task, value in whole.items():
        np.testing.assert_allclose(parts[task].mean(), value, rtol=1e-14)
    assert abs(EACH["digit"][0] / 2 + EACH["digit"][4:6].mean() / 2 - whole["digit"]) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pmap", "shard_map"])
def test_a_step_on_four_devices_is_the_step_of_one(how):
    def objective(params, extra, batch, key):
        out = batch["x"] * params["w"]
        each = {"a": (out - 1) ** 2, "b": jnp.abs(out)}
        loss = multitask_loss(multitask_losses(each, {"a": batch["mask"]}), {"b": 0.3})
        return loss, (extra, {"a": train.mean(each["a"], batch["mask"])})

    tx = optax.sgd(0.1)
    batch = {"x": RNG.random(8), "mask": MASK["digit"]}
    results = []
    for kind, devices in (("none", None), (how, 4)):
        runner = train.lift(train.make_step(objective, tx), kind, devices=devices)
        state = runner.put(train.init_state({"w": jnp.float64(0.3)}, {}, tx))
        for _ in range(3):
            state, metrics = runner.step(state, batch)
        results.append((runner.get(state.params), train.floats(runner.get(metrics))))
    (one, m_one), (many, m_many) = results
    np.testing.assert_allclose(many["w"], one["w"], rtol=1e-12)
    assert m_many == pytest.approx(m_one, rel=1e-12)


def test_weights_multiply_and_1_is_the_default():
    losses = {"a": jnp.array(2.0), "b": jnp.array(5.0)}
    assert float(multitask_loss(losses)) == 7
    assert float(multitask_loss(losses, {"b": 0.1})) == 2.5
    assert float(multitask_loss(losses, {"a": 0.0, "b": jnp.array(1.0)})) == 5


def test_the_best_uncertainty_of_a_task_is_its_loss_and_units_do_not_matter():
    losses = {"a": jnp.array(3.0), "b": jnp.array(0.02)}

    def total(s, losses=losses):
        return uncertainty_weighted_loss(losses, s)

    best = {task: jnp.log(loss) for task, loss in losses.items()}
    slope = jax.grad(total)(best)
    np.testing.assert_allclose([slope["a"], slope["b"]], 0, atol=1e-15)
    assert all(total(best) < total(best | {task: best[task] + e}) for task in best for e in (-1, 1))
    np.testing.assert_allclose(total(best), sum((1 + np.log(v)) / 2 for v in losses.values()))
    # where s is at its best, a task's gradient is that of its logarithm: a unit drops out
    for scale in (1.0, 1000.0):
        scaled = {"a": losses["a"], "b": scale * losses["b"]}
        s = {task: jnp.log(loss) for task, loss in scaled.items()}
        grad = jax.grad(lambda x, s=s, c=scale: total(s, {"a": x["a"], "b": c * x["b"]}))(losses)
        np.testing.assert_allclose([grad["a"], grad["b"]], [1 / 6, 1 / 0.04], rtol=1e-12)


def test_the_uncertainty_of_two_regressions_is_found_by_descent():
    """Two targets of noise 0.5 and 2 about their means: exp(s) becomes their variances."""
    noise = {"a": 0.5 * RNG.standard_normal(500), "b": 2 * RNG.standard_normal(500)}

    def objective(p):
        losses = {task: ((y - p["mean"][task]) ** 2).mean() for task, y in noise.items()}
        return uncertainty_weighted_loss(losses, p["s"])

    p = {"mean": {"a": 0.0, "b": 0.0}, "s": {"a": 0.0, "b": 0.0}}
    p = jax.tree.map(jnp.float64, p)
    descend = jax.jit(lambda p: jax.tree.map(lambda v, g: v - 0.2 * g, p, jax.grad(objective)(p)))
    for _ in range(300):
        p = descend(p)
    for task, y in noise.items():
        np.testing.assert_allclose(p["mean"][task], y.mean(), atol=1e-6)
        np.testing.assert_allclose(np.exp(p["s"][task]), y.var(), rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: multitask_losses({"a": jnp.ones((2, 1))}), r"both be \(b,\), got \(2, 1\)"),
        (lambda: multitask_losses(EACH, {"digit": np.ones(3)}), r"got \(8,\) and \(3,\)"),
        (lambda: multitask_losses(EACH, {"ink": np.ones(8)}), r"'slant'\], got 'ink'"),
        (lambda: multitask_loss({"a": 1.0}, {"b": 1.0}), r"weights=...\) must be of the tasks"),
        (lambda: multitask_loss({"a": 1.0}, {"a": -1.0}), "must be >= 0, got -1.0 for 'a'"),
        (lambda: multitask_loss({}), "needs one at least, got none"),
        (lambda: uncertainty_weighted_loss({"a": 1.0}, {"b": 1.0}), r"tasks \['a'\], got \['b'\]"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
