"""The restricted Boltzmann machine against scikit-learn, enumeration and numerical integrals."""

import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import objectives, ops

FOLDER = Path(__file__).parents[1] / "fixtures" / "rbm"
CONFIG = json.loads((FOLDER / "config.json").read_text())["config"]
DATA = dict(np.load(FOLDER / "data.npz"))
PRECISION = {jnp.float64: {"rtol": 1e-9, "atol": 1e-12}, jnp.float32: {"rtol": 2e-4, "atol": 1e-5}}
RNG = np.random.default_rng(0)
gibbs = jax.jit(ops.rbm_gibbs, static_argnames="steps")


def fixture(dtype=jnp.float64):
    names = ("W_hidden_by_visible", "b_visible", "b_hidden", "X")
    w, b, c, x = (jnp.asarray(DATA[name], dtype) for name in names)
    return ops.RBMWeights(w.T, b, c), x


def small(visible=4, hidden=3, variance=None):
    """A machine with strong couplings, whose chains mix slowly enough to tell k from k + 1."""
    rng = np.random.default_rng(0)
    w, b, c = rng.normal(size=(visible, hidden)), rng.normal(size=visible), rng.normal(size=hidden)
    return ops.RBMWeights(jnp.asarray(1.5 * w), jnp.asarray(b), jnp.asarray(c), variance)


def states(n):
    return np.array(list(itertools.product([0.0, 1.0], repeat=n)))


def probabilities(weights):
    """p(v) of all visible states from the energies of all joint states."""
    v, h = (states(len(bias)) for bias in (weights.visible_bias, weights.hidden_bias))
    pairs = [np.repeat(v, len(h), 0), np.tile(h, (len(v), 1))]
    p = np.exp(-np.asarray(ops.rbm_energy(*pairs, weights))).reshape(len(v), len(h)).sum(1)
    return v, p / p.sum(), np.log(p.sum())


@pytest.mark.parametrize("dtype", PRECISION)
def test_values_are_those_of_the_fixture(dtype):
    weights, x = fixture(dtype)
    with jax.default_matmul_precision("highest"):
        found = {
            "free_energy": ops.rbm_free_energy(x, weights),
            "p_h_given_v": ops.rbm_hidden(x, weights),
            "meanfield_v1": ops.rbm_visible(ops.rbm_hidden(x, weights), weights),
            "log_partition": ops.rbm_log_partition(weights),
        }
        found["loglik"] = -found["free_energy"] - found["log_partition"]
    for name, value in found.items():
        assert value.dtype == dtype
        np.testing.assert_allclose(value, DATA[name], **PRECISION[dtype], err_msg=name)


@pytest.mark.parametrize("dtype", PRECISION)
def test_gradients_are_those_of_the_fixture(dtype):
    weights, x = fixture(dtype)

    def log_likelihood(w):
        return (-ops.rbm_free_energy(x, w) - ops.rbm_log_partition(w)).mean()

    def mean_field(w):
        v = ops.rbm_visible(ops.rbm_hidden(x, weights), weights)
        free = lambda u: ops.rbm_free_energy(u, w)  # noqa: E731
        return objectives.contrastive_divergence(free, x, v).mean()

    with jax.default_matmul_precision("highest"):
        exact, cd = jax.jit(jax.grad(log_likelihood))(weights), jax.grad(mean_field)(weights)
    for name, value in (("W", exact.kernel.T), ("bh", exact[2]), ("bv", exact[1])):
        expected = DATA[f"exact_grad_loglik_{name}"]
        np.testing.assert_allclose(value, expected, **PRECISION[dtype], err_msg=name)
    np.testing.assert_allclose(-cd.kernel.T, DATA["meanfield_cd1_W"], **PRECISION[dtype])


def test_a_step_of_persistent_chains_is_that_of_the_fixture():
    weights, x = fixture()
    uniform = np.random.RandomState(5).uniform  # as the fixture says of its chains
    v = jnp.asarray(uniform(size=x.shape) < ops.rbm_visible(DATA["pcd_chain_in"], weights), float)

    def loss(w):
        free = lambda u: ops.rbm_free_energy(u, w)  # noqa: E731
        return objectives.contrastive_divergence(free, x, v).mean()

    new = jax.tree.map(lambda w, g: w - CONFIG["lr"] * g, weights, jax.grad(loss)(weights))
    for name, value in (("W", new.kernel.T), ("bh", new.hidden_bias), ("bv", new.visible_bias)):
        np.testing.assert_allclose(value, DATA[f"pcd_{name}_after"], rtol=1e-9, err_msg=name)
    on = ops.rbm_hidden(v, weights)
    np.testing.assert_array_equal(uniform(size=on.shape) < on, DATA["pcd_chain_out"])


def test_the_free_energy_of_real_units_is_that_of_a_mixture_of_normals():
    # p(v, h) = pi_h N(v; b + W h, s^2), with pi_h summed from the energies on a grid of v
    weights = small(1, 3, variance=jnp.array([0.7]))
    grid = np.linspace(-40, 40, 8001)[:, None]
    density = np.exp(-np.asarray(ops.rbm_free_energy(grid, weights)))
    log_z = np.log(density.sum() * 0.01)
    np.testing.assert_allclose(ops.rbm_log_partition(weights), log_z, rtol=1e-9)
    h = states(3)
    means = np.asarray(ops.rbm_visible(h, weights))[:, 0]
    joint = np.exp(
        [-np.asarray(ops.rbm_energy(grid, np.tile(s, (len(grid), 1)), weights)) for s in h]
    )
    mass = joint.sum(1) * 0.01 / np.exp(log_z)
    normal = np.exp(-((grid.T - means[:, None]) ** 2) / 1.4) / np.sqrt(1.4 * np.pi)
    np.testing.assert_allclose(mass @ normal, density / np.exp(log_z), atol=1e-9)
    near = slice(3800, 4201, 50)  # farther out all densities are 0
    posterior = (joint[:, near, None] * h[:, None]).sum(0) / joint[:, near, None].sum(0)
    np.testing.assert_allclose(ops.rbm_hidden(grid[near], weights), posterior, atol=1e-9)


@pytest.mark.parametrize("shape", [(4, 3), (3, 14)])
def test_the_partition_function_sums_over_all_states_of_either_layer(shape):
    weights = small(*shape)
    _, _, log_z = probabilities(weights)
    np.testing.assert_allclose(ops.rbm_log_partition(weights), log_z, rtol=1e-12)
    if shape == (3, 14):  # enumerated in parts where the hidden layer must be
        real = weights._replace(variance=jnp.array(1.0))
        h = states(14)
        full = np.asarray(weights.visible_bias) + h @ np.asarray(weights.kernel).T
        terms = (
            h @ np.asarray(weights.hidden_bias)
            + (full**2 - np.asarray(weights.visible_bias) ** 2).sum(1) / 2
        )
        expected = np.logaddexp.reduce(terms) + 1.5 * np.log(2 * np.pi)
        np.testing.assert_allclose(ops.rbm_log_partition(real), expected, rtol=1e-12)


def test_chains_keep_the_distribution_and_come_to_it_from_elsewhere():
    weights = small()
    v, p, _ = probabilities(weights)
    n = 4_000
    keys = jax.random.split(jax.random.key(1), n)
    start = v[np.random.default_rng(1).choice(len(v), n, p=p)]
    for begin, steps in ((start, 1), (np.zeros_like(start), 40)):
        end = np.asarray(gibbs(keys, begin, weights, steps=steps)) @ 2 ** np.arange(4)[::-1]
        counts = np.bincount(end.astype(int), minlength=16)
        chi2 = ((counts - n * p) ** 2 / (n * p)).sum()
        assert chi2 < 37.7  # 0.1 % of draws with 15 degrees of freedom are above
    # a step changes the chains, and each follows its own key
    once = ops.rbm_gibbs(keys[:9], start[:9], weights)
    assert (np.asarray(gibbs(keys, start, weights, steps=1)) != start).any()
    np.testing.assert_array_equal(ops.rbm_gibbs(keys[3:5], start[3:5], weights), once[3:5])


@pytest.mark.slow
def test_real_chains_have_the_moments_of_the_mixture():
    weights = small(2, 2, variance=jnp.array([0.5, 2.0]))
    h = states(2)
    mean = np.asarray(ops.rbm_visible(h, weights))
    b, s2 = np.asarray(weights.visible_bias), np.array([0.5, 2.0])
    pi = np.exp(h @ np.asarray(weights.hidden_bias) + ((mean**2 - b**2) / (2 * s2)).sum(1))
    pi /= pi.sum()
    keys = jax.random.split(jax.random.key(2), 8_000)
    v = np.asarray(gibbs(keys, np.zeros((8_000, 2)), weights, steps=40))
    second = s2 + pi @ mean**2
    np.testing.assert_allclose(v.mean(0), pi @ mean, atol=5 * np.sqrt(second.max() / 8_000))
    np.testing.assert_allclose((v**2).mean(0), second, rtol=0.06)


@pytest.mark.slow
def test_the_bias_of_contrastive_divergence_falls_with_its_steps():
    weights = small()
    weights = weights._replace(kernel=2 * weights.kernel)  # chains forget slowly
    # data of another distribution than the model's: at the optimum CD would have no bias
    x = jnp.asarray(np.tile([[1.0, 0, 1, 0], [0, 1, 1, 1]], (5_000, 1)))
    keys = jax.random.split(jax.random.key(3), len(x))

    def exact(w):
        return (ops.rbm_free_energy(x, w) + ops.rbm_log_partition(w)).mean()

    def cd(w, steps):
        negative = ops.rbm_gibbs(keys, x, w, steps=steps)
        free = lambda u: ops.rbm_free_energy(u, w)  # noqa: E731
        return objectives.contrastive_divergence(free, x, negative).mean()

    truth = jax.grad(exact)(weights).kernel
    gradient = jax.jit(jax.grad(cd), static_argnums=1)
    off = [float(jnp.abs(gradient(weights, k).kernel - truth).max()) for k in (1, 4, 32)]
    assert off[0] > 1.5 * off[1] > 2 * off[2]
    assert off[2] < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("variance", [None, 0.5])
def test_annealed_importance_sampling_finds_the_partition_function(variance):
    weights = small(5, 6, None if variance is None else jnp.full(5, variance))
    estimate = jax.jit(ops.rbm_ais, static_argnames=("chains", "steps"))
    base = weights.visible_bias + 0.5
    found = estimate(jax.random.key(0), weights, base, chains=200, steps=300)
    truth = ops.rbm_log_partition(weights)
    assert 0 < found.standard_error < 0.3
    assert abs(found.value - truth) < 4 * found.standard_error
    more = estimate(jax.random.key(0), weights, base, chains=200, steps=1200)
    assert more.standard_error < found.standard_error


def test_annealed_importance_sampling_is_unbiased_and_knows_its_error():
    for weights in (small(), small(4, 3, jnp.full(4, 2.0))):  # with however few steps
        keys = jax.random.split(jax.random.key(4), 400)
        base = weights.visible_bias + 0.5
        found = jax.jit(
            jax.vmap(lambda k, w=weights, b=base: ops.rbm_ais(k, w, b, chains=50, steps=4))
        )(keys)
        ratio = np.exp(found.value - ops.rbm_log_partition(weights))
        spread = ratio.std()
        assert 0.01 < spread < 0.5
        assert abs(ratio.mean() - 1) < 4 * spread / 20
        assert 0.6 < np.mean(found.standard_error) / np.std(found.value) < 1.2  # skewed


@pytest.mark.parametrize("dtype", PRECISION)
def test_annealing_nothing_has_no_error(dtype):
    weights = jax.tree.map(lambda a: a.astype(dtype), small())
    weights = weights._replace(kernel=0 * weights.kernel, hidden_bias=jnp.zeros(3, dtype))
    found = ops.rbm_ais(jax.random.key(0), weights, weights.visible_bias, chains=2, steps=2)
    assert found.value.dtype == found.standard_error.dtype == dtype
    np.testing.assert_allclose(
        found.value, ops.rbm_log_partition(weights), rtol=PRECISION[dtype]["rtol"]
    )
    assert found.standard_error < PRECISION[dtype]["atol"]


def test_no_gradient_passes_through_the_chains():
    weights = small(variance=jnp.array(1.0))
    x, keys = jnp.asarray(RNG.normal(size=(5, 4))), jax.random.split(jax.random.key(0), 5)

    def loss(w, held):
        v = ops.rbm_gibbs(keys, x, weights if held else w)
        free = lambda u: ops.rbm_free_energy(u, w)  # noqa: E731
        return objectives.contrastive_divergence(free, x, v).mean()

    held, free = (jax.grad(loss)(weights, h) for h in (True, False))
    jax.tree.map(np.testing.assert_array_equal, held, free)


def test_what_is_wrong_is_said_in_one_line():
    weights, key = small(), jax.random.key(0)
    keys = jax.random.split(key, 2)
    v = jnp.zeros((2, 4))
    for function in (ops.rbm_free_energy, ops.rbm_hidden):
        with pytest.raises(ValueError, match=rf"{function.__name__}\(v\) must be \(b, 4\)"):
            function(v[:, :3], weights)
    with pytest.raises(ValueError, match=r"rbm_visible\(h\) must be \(b, 3\), got \(2, 4\)"):
        ops.rbm_visible(v, weights)
    with pytest.raises(ValueError, match=r"the kernel must be \(4, 3\) as the biases"):
        ops.rbm_energy(v, v[:, :3], weights._replace(kernel=weights.kernel.T))
    with pytest.raises(ValueError, match=r"rbm_gibbs\(steps=...\) must be >= 1, got 0"):
        ops.rbm_gibbs(keys, v, weights, steps=0)
    with pytest.raises(ValueError, match=r"rbm_gibbs\(keys\) must hold a key for each of 2"):
        ops.rbm_gibbs(key, v, weights)
    with pytest.raises(ValueError, match=r"at most 20 units, got 21: take rbm_ais"):
        ops.rbm_log_partition(ops.RBMWeights(jnp.zeros((21, 30)), jnp.zeros(21), jnp.zeros(30)))
    with pytest.raises(ValueError, match=r"rbm_ais\(chains, steps\).*got 1 and 5"):
        ops.rbm_ais(key, weights, jnp.zeros(4), chains=1, steps=5)
    with pytest.raises(ValueError, match=r"rbm_ais\(base_bias\) must be \(4,\), got \(3,\)"):
        ops.rbm_ais(key, weights, jnp.zeros(3))
    with pytest.raises(ValueError, match=r"contrastive_divergence\(positive, negative\)"):
        objectives.contrastive_divergence(lambda v: v[:, 0], v, v[:1])
