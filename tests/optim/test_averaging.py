"""Averages of iterates: recorded sequences averaged by hand, and what averaging is for."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fdl.optim.averaging import averaged_params, polyak_average

PATH = np.random.default_rng(0).standard_normal((30, 4))  # theta_0 ... theta_29


def follow(tx, path, state=None):
    """Walk along a recorded path; return the average after each step."""

    @jax.jit
    def walk(path):
        def step(state, pair):
            theta, new = pair
            updates, state = tx.update(new - theta, state, theta)
            return state, (averaged_params(state), updates)

        return jax.lax.scan(step, tx.init(path[0]), (path[:-1], path[1:]))[1]

    averages, updates = walk(path)
    np.testing.assert_array_equal(updates, np.asarray(path[1:] - path[:-1]))
    return np.asarray(averages)


def same(found, expected, rtol=1e-12):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-14)


@pytest.mark.parametrize(("start", "every"), [(0, 1), (7, 1), (0, 4), (5, 3), (28, 1)])
def test_uniform_is_the_mean_of_the_recorded_tail(start, every):
    found = follow(polyak_average(start, every), PATH)
    for t in range(1, 30):
        members = PATH[start + every : t + 1 : every]
        same(found[t - 1], members.mean(0) if len(members) else PATH[t])


@pytest.mark.parametrize(("start", "every"), [(0, 1), (7, 1), (0, 4), (5, 3)])
def test_swa_counts_the_point_that_it_starts_from(start, every):
    found = follow(polyak_average(start, every, "swa"), PATH)
    for t in range(1, 30):
        members = PATH[start : t + 1 : every]
        same(found[t - 1], members.mean(0) if len(members) else PATH[t])


@pytest.mark.parametrize(("start", "every"), [(0, 1), (6, 2)])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.9999])
def test_ema_is_the_weighted_mean_of_the_recorded_tail(decay, start, every):
    found = follow(polyak_average(start, every, "ema", decay=decay), PATH)
    for t in range(1, 30):
        members = PATH[start + every : t + 1 : every]
        if len(members):
            weights = decay ** np.arange(len(members))[::-1]
            same(found[t - 1], weights @ members / weights.sum(), 1e-11)
        else:
            same(found[t - 1], PATH[t])


def test_ema_is_optax_s_bias_corrected_mean_of_the_iterates():
    theirs = optax.ema(0.9, debias=True)
    state, expected = theirs.init(PATH[0]), []
    for theta in PATH[1:]:
        mean, state = theirs.update(theta, state)
        expected.append(mean)
    same(follow(polyak_average(kind="ema", decay=0.9), PATH), expected)


def test_recorded_means_of_another_implementation(fixture_dir):
    folder = fixture_dir("clip_constraints")
    assert (
        "EMA starts at the FIRST iterate"
        in json.loads((folder / "config.json").read_text())["about"]
    )
    data = np.load(folder / "data.npz")
    # the sequence is theta_1, theta_2, ...; what was before it does not count
    path = np.concatenate([np.full((1, 3, 2), 7.0), data["avg_seq"].astype(float)])
    same(follow(polyak_average(), path)[-1], data["polyak_mean"], 1e-9)
    ema = polyak_average(kind="ema", decay=0.9, debias=False)
    same(follow(ema, path)[-1], data["ema_09"], 1e-9)
    assert (
        np.abs(follow(polyak_average(kind="ema", decay=0.9), path)[-1] - data["ema_09"]).max()
        > 0.01
    )


@pytest.mark.parametrize("kind", ["uniform", "ema", "swa"])
def test_the_average_moves_with_the_parameters(kind):
    tx = polyak_average(2, 2, kind, decay=0.8)
    same(follow(tx, 3.0 * PATH - 5.0), 3.0 * follow(tx, PATH) - 5.0, 1e-10)
    still = np.broadcast_to(PATH[0], PATH.shape)
    same(follow(tx, still), still[1:])


def test_a_long_average_in_bfloat16_does_not_stall():
    # a mean kept in bfloat16 stops moving when a member's share is below its last place
    steps = jnp.arange(4001) % 2
    path = (1 + steps / 64).astype(jnp.bfloat16)
    average = follow(polyak_average(), path)[-1]
    assert average.dtype == np.float32
    np.testing.assert_allclose(average, 1 + 1 / 128, rtol=1e-6)


def test_what_is_averaged_is_what_apply_updates_makes():
    theta = jnp.asarray(256.0, jnp.bfloat16)  # + 0.5 is rounded away
    tx = polyak_average()
    _, state = tx.update(jnp.asarray(0.5, jnp.bfloat16), tx.init(theta), theta)
    assert float(averaged_params(state)) == 256.0


def test_an_iterate_that_is_no_member_does_not_spoil_the_average():
    tx = polyak_average(start=1, every=2)
    state = tx.init(jnp.full(4, jnp.nan))
    for theta in [np.full(4, np.nan), PATH[1], PATH[2], np.full(4, np.inf)]:
        _, state = tx.update(np.zeros(4), state, theta)  # theta_1, theta_2, ...: the third counts
    same(averaged_params(state), PATH[2])


def test_averaged_stochastic_descent_reaches_the_optimal_variance():
    # theta <- theta - e (theta + noise), n steps. The mean of the iterates has variance 1/n (the
    # Cramer-Rao bound) up to the start, the last iterate e / (2 - e), whatever n.
    e, n, runs = 0.2, 2000, 400
    noise = np.random.default_rng(1).standard_normal((n, runs))
    tx = optax.chain(optax.sgd(e), polyak_average(50))

    @jax.jit
    def descend(noise):
        def step(carry, noise):
            theta, state = carry
            updates, state = tx.update(theta + noise, state, theta)
            return (theta + updates, state), None

        theta = jnp.zeros(runs)
        theta, state = jax.lax.scan(step, (theta, tx.init(theta)), noise)[0]
        return theta, averaged_params(state)

    last, mean = descend(noise)
    assert np.var(last) == pytest.approx(e / (2 - e), rel=0.25)
    assert np.var(mean) == pytest.approx(1 / (n - 50), rel=0.25)


def test_masked_parts_are_filled_from_the_parameters():
    params = {"w": jnp.ones(2), "b": jnp.full(1, 5.0)}
    tx = optax.masked(polyak_average(), {"w": True, "b": False})
    state = tx.init(params)
    for _ in range(2):
        updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
        params = optax.apply_updates(params, updates)
    found = averaged_params((optax.EmptyState(), state), params)
    np.testing.assert_array_equal(found["w"], [2.5, 2.5])
    np.testing.assert_array_equal(found["b"], [7.0])
    with pytest.raises(ValueError, match=r"averaged_params\(params=...\) must be given"):
        averaged_params(state)


def test_parameters_give_the_average_their_types():
    params = {"w": jnp.ones(2, jnp.bfloat16), "n": None, "z": jnp.ones(1, jnp.complex64)}
    state = polyak_average().init(params)
    assert averaged_params(state, params)["w"].dtype == jnp.bfloat16
    assert averaged_params(state)["w"].dtype == jnp.float32
    assert averaged_params(state, params)["z"].dtype == jnp.complex64
    assert averaged_params(state, params)["n"] is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: polyak_average(-1), r"polyak_average\(start=...\) must be >= 0, got -1"),
        (lambda: polyak_average(every=0), r"polyak_average\(every=...\) must be >= 1, got 0"),
        (lambda: polyak_average(decay=1.0), r"polyak_average\(decay=...\) must be in \[0, 1\)"),
        (lambda: polyak_average(kind="mean"), r"polyak_average\(kind=...\) .* got 'mean'"),
        (lambda: polyak_average().update(PATH[0], None), r"update\(params=...\) must be given"),
        (lambda: averaged_params(optax.EmptyState()), r"averaged_params\(state=...\)"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
