"""The variational auto-encoder against PyTorch, and as probabilistic PCA where it is linear."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from safetensors.numpy import load_file

from fdl import data, losses, models, objectives, outputs, train
from fdl.errors import InputError
from fdl.models import VAE, VAEConfig
from fdl.pure import pure

FOLDER = Path(__file__).parents[1] / "fixtures" / "autoencoders"
FIXTURE = np.load(FOLDER / "data.npz")
WEIGHTS = load_file(FOLDER / "weights.safetensors")
META = json.loads((FOLDER / "config.json").read_text())["config"]
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}


def as_dtype(tree, dtype):
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)


def affine(*names):
    """Return the affine map whose outputs are those of the fixture's maps, one behind another."""
    weights, biases = (
        np.concatenate([WEIGHTS[f"vae.{name}.{part}"] for name in names])
        for part in ("weight", "bias")
    )
    return {"kernel": weights.T, "bias": biases}


def reference(dtype):
    config = VAEConfig(META["d"], (META["h"],), META["z"])
    apply, _, extra = pure(VAE(config, rngs=nnx.Rngs(0)))
    params = {
        "encoder": {"hidden": {0: {"affine": affine("fc1")}}, "output": affine("fc21", "fc22")},
        "decoder": {"hidden": {0: {"affine": affine("fc3")}}, "output": affine("fc4")},
    }
    return apply, as_dtype(params, dtype), extra


@pytest.mark.parametrize("dtype", sorted(TOLERANCE))
def test_it_has_the_references_values_and_gradients(dtype):
    apply, params, extra = reference(dtype)
    x, noise = (jnp.asarray(FIXTURE[name], dtype) for name in ("x", "eps"))

    def objective(params):
        mean, log_variance = apply(params, extra, x, method="encode")[0]
        z = mean + jnp.exp(log_variance / 2) * noise
        logits = apply(params, extra, z, method="decode")[0]
        error = losses.sigmoid_cross_entropy(logits, x).sum(-1)
        kl = losses.gaussian_kl(mean, log_variance)
        return (error + kl).mean(), (mean, log_variance, logits, kl, error)

    with jax.default_matmul_precision("highest"):
        (value, found), grads = jax.jit(jax.value_and_grad(objective, has_aux=True))(params)
    names = ("vae_mu", "vae_logvar", "vae_logits", "vae_kl", "vae_rec")
    for name, array in [*zip(names, found, strict=True), ("vae:loss", value)]:
        assert array.dtype == dtype
        np.testing.assert_allclose(array, FIXTURE[name], **TOLERANCE[dtype])
    z = META["z"]
    out = grads["encoder"]["output"]
    kernels = {
        "fc1.weight": grads["encoder"]["hidden"][0]["affine"]["kernel"].T,
        "fc21.weight": out["kernel"].T[:z],
        "fc21.bias": out["bias"][:z],
        "fc22.weight": out["kernel"].T[z:],
        "fc22.bias": out["bias"][z:],
        "fc3.weight": grads["decoder"]["hidden"][0]["affine"]["kernel"].T,
        "fc4.weight": grads["decoder"]["output"]["kernel"].T,
        "fc4.bias": grads["decoder"]["output"]["bias"],
    }
    keys = [name for name in FIXTURE.files if name.startswith("vae:grad:")]
    assert keys
    for name in keys:
        expected, ours = FIXTURE[name], kernels[name.removeprefix("vae:grad:vae.")]
        np.testing.assert_allclose(ours, expected, **TOLERANCE[dtype])


D, K = 5, 2
LINEAR = VAEConfig(D, (), K, variance="shared")
UNIT = outputs.heteroscedastic(D, by="log_variance", floor=0.0)


def sample(n=400):
    rng = np.random.default_rng(0)
    w = rng.standard_normal((D, K)) * [2.0, 1.0]
    return rng.standard_normal((n, K)) @ w.T + 0.4 * rng.standard_normal((n, D)) + 1.0


def bound(apply, params, extra, x, key, *, function=objectives.elbo, samples=1):
    posterior, _ = apply(params, extra, x, method="encode")

    def nll(z):
        return UNIT.distribution(apply(params, extra, z, method="decode")[0]).nll(x)

    return function(posterior, nll, key=key, samples=samples)


def principal(x):
    """Return the parameters of the linear VAE that is probabilistic PCA with its true posterior."""
    pca = data.fit_pca(x, K)
    w = pca.directions * np.sqrt(pca.variances - pca.noise)  # (d, k)
    to_code = w / pca.variances  # the posterior's mean is W' (x - mean) / (|w|^2 + noise)
    log_variance = np.log(pca.noise / pca.variances)
    encoder = {
        "kernel": np.concatenate([to_code, np.zeros((D, K))], 1),
        "bias": np.concatenate([-pca.mean @ to_code, log_variance]),
    }
    params = {
        "encoder": {"output": encoder},
        "decoder": {"output": {"kernel": w.T, "bias": pca.mean}},
        "log_variance": np.log(pca.noise),
    }
    return pca, as_dtype(params, "float64")


def test_a_linear_one_is_probabilistic_pca():
    x = sample()
    pca, params = principal(x)
    apply, like, extra = pure(VAE(LINEAR, rngs=nnx.Rngs(0)))
    assert jax.tree.structure(like) == jax.tree.structure(params)
    keys = jax.random.split(jax.random.key(0), len(x))
    found = jax.jit(lambda p: bound(apply, p, extra, x, keys, function=objectives.iwae, samples=3))
    np.testing.assert_allclose(found(params), -pca.nll(x), rtol=1e-9)
    elbo = jax.jit(lambda p: bound(apply, p, extra, x, keys, samples=50))(params)
    error = np.asarray(elbo + pca.nll(x))
    assert abs(error.mean()) < 5 * error.std() / math.sqrt(len(x))
    assert error.std() < 1


@pytest.mark.slow
@pytest.mark.usefixtures("compile_as_users_do")
def test_training_a_linear_one_reaches_the_likelihood_of_probabilistic_pca():
    x = sample()
    pca = data.fit_pca(x, K)
    apply, params, extra = pure(VAE(LINEAR, rngs=nnx.Rngs(1)))
    tx = optax.adam(optax.cosine_decay_schedule(0.03, 2000))

    def update(carry, key):
        params, state = carry
        keys = jax.random.split(key, len(x))
        grads = jax.grad(lambda p: -bound(apply, p, extra, x, keys).mean())(params)
        updates, state = tx.update(grads, state)
        return (optax.apply_updates(params, updates), state), None

    params = as_dtype(params, "float64")
    steps = jax.random.split(jax.random.key(0), 2000)
    (params, _), _ = jax.jit(lambda p: jax.lax.scan(update, (p, tx.init(p)), steps))(params)
    keys = jax.random.split(jax.random.key(1), len(x))
    found = bound(apply, params, extra, x, keys, function=objectives.iwae, samples=50)
    best = -pca.nll(x).mean()
    assert best - 0.02 < float(found.mean()) < best + 1e-3
    assert math.exp(params["log_variance"]) == pytest.approx(pca.noise, rel=0.05)


def test_the_draw_of_a_call_has_the_posteriors_moments():
    apply, params, extra = pure(VAE(VAEConfig.tiny(), rngs=nnx.Rngs(0)))
    n = 20_000
    x = jnp.broadcast_to(jnp.linspace(-1, 1, 6)[None], (n, 6))
    keys = jax.random.split(jax.random.key(0), n)
    raw, posterior, z = jax.jit(lambda k: apply(params, extra, x, key=k, train=True)[0])(keys)
    mean, variance = np.asarray(posterior.mean[0]), np.exp(posterior.log_variance[0])
    error = 5 * np.sqrt(variance / n)
    np.testing.assert_array_less(np.abs(np.mean(z, 0) - mean), error)
    np.testing.assert_allclose(
        np.cov(np.asarray(z).T), np.diag(variance), atol=0.1 * variance.max()
    )
    np.testing.assert_allclose(raw, apply(params, extra, z, method="decode")[0], rtol=1e-5)
    one = apply(params, extra, x[:1], key=keys[7:8], train=True)[0]
    np.testing.assert_allclose(one.code, z[7:8], rtol=1e-5)
    at_mean = apply(params, extra, x[:1])[0]
    np.testing.assert_array_equal(at_mean.code, at_mean.posterior.mean)
    shared = VAE(VAEConfig.tiny(), rngs=nnx.Rngs(0))(x[:9], rngs=nnx.Rngs(3)).code  # one key
    assert len(np.unique(np.asarray(shared)[:, 0])) == 9


def test_samples_come_from_the_prior():
    x = sample()
    pca, params = principal(x)
    apply, _, extra = pure(VAE(LINEAR, rngs=nnx.Rngs(0)))
    draw = jax.jit(lambda p, key: apply(p, extra, key, 20_000, method="sample")[0])
    raw = np.asarray(draw(params, jax.random.key(0)))
    means, log_variance = raw[:, :D], raw[:, D:]
    np.testing.assert_allclose(log_variance, math.log(pca.noise), rtol=1e-6)
    plane = pca.directions * (pca.variances - pca.noise) @ pca.directions.T
    np.testing.assert_allclose(np.cov(means.T), plane, atol=0.06 * pca.variances[0])
    np.testing.assert_allclose(means.mean(0), pca.mean, atol=0.1)


def test_a_variance_for_each_pixel_is_the_decoders():
    config = VAEConfig.tiny(variance="each")
    model = VAE(config, rngs=nnx.Rngs(0))
    z = jnp.asarray(np.random.default_rng(0).standard_normal((3, 2)))
    raw = model.decode(z)
    assert raw.shape == (3, config.features_out) == (3, 12)
    assert float(np.ptp(np.asarray(raw[:, 6:]), axis=0).min()) > 0
    shared = VAE(VAEConfig.tiny(variance="shared"), rngs=nnx.Rngs(0)).decode(z)
    np.testing.assert_array_equal(shared[:, 6:], 0)
    plain = VAE(VAEConfig.tiny(), rngs=nnx.Rngs(0))
    assert plain.decode(z).shape == (3, 6)
    np.testing.assert_array_equal(plain.decode(z), shared[:, :6])


@pytest.mark.parametrize(
    ("how", "devices"),
    [("shard_map", 4), *(pytest.param("pmap", n, marks=pytest.mark.slow) for n in (2, 4))],
)
def test_the_elbo_is_the_same_on_any_number_of_devices(how, devices):
    apply, params, extra = pure(VAE(LINEAR, rngs=nnx.Rngs(0)))

    def objective(params, extra, batch, key):
        each = bound(apply, params, extra, batch["x"], key, samples=2)
        return -each.mean(), (extra, {})

    def after(how, devices):
        tx = optax.sgd(0.01)
        runner = train.lift(train.make_step(objective, tx), how, devices=devices)
        state = runner.put(train.init_state(as_dtype(params, "float64"), extra, tx))
        for _ in range(2):
            state, metrics = runner.step(state, {"x": sample(8)})
        return runner.get(state.params), float(runner.get(metrics)["loss"])

    (one, loss), (many, spread) = after("none", 1), after(how, devices)
    assert spread == pytest.approx(loss, rel=1e-12)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: VAEConfig(0, (), 2), r"\(features_in=...\) must be >= 1, got 0"),
        (lambda: VAEConfig(3, (), 0), r"\(code=...\) must be >= 1, got 0"),
        (lambda: VAEConfig(3, (0,), 2), r"\(hidden=...\) must be widths >= 1, got \(0,\)"),
        (lambda: VAEConfig(3, (), 2, variance="all"), r"\(variance=...\) must be .* got 'all'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_inputs_of_another_size_are_refused():
    model = models.VAE(VAEConfig.tiny(), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"with 6 values an example, got \(2, 5\)"):
        model(jnp.ones((2, 5)))
    with pytest.raises(ValueError, match=r"with 2 values an example, got \(2, 3\)"):
        model.decode(jnp.ones((2, 3)))
