"""Auto-encoders against PyTorch, principal components, the score of a density, and their limits."""

import json
import math
from pathlib import Path
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from safetensors.numpy import load_file

from fdl import data, losses, ops, optim, regularizers, train
from fdl.errors import InputError
from fdl.models import Autoencoder, AutoencoderConfig
from fdl.pure import pure

FOLDER = Path(__file__).parents[1] / "fixtures" / "autoencoders"
FIXTURE = np.load(FOLDER / "data.npz")
WEIGHTS = load_file(FOLDER / "weights.safetensors")
META = json.loads((FOLDER / "config.json").read_text())["config"]
# The fixture's description leaves these out; its losses are met by no others.
OPTIONS = {"l1": 0.1, "kl": 0.5, "rho": 0.05, "contraction": 0.3} | META
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}
DTYPES = sorted(TOLERANCE)


def as_dtype(tree, dtype):
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)


def affine(name, dtype):
    weight, bias = (WEIGHTS[f"{name}.{part}"] for part in ("weight", "bias"))
    return as_dtype({"kernel": weight.T, "bias": bias}, dtype)


def reference(dtype):
    """Return the fixture's auto-encoder: a sigmoid code, a linear output."""
    apply, _, extra = pure(
        Autoencoder(AutoencoderConfig(META["d"], (META["h"],)), rngs=nnx.Rngs(0))
    )
    return (
        apply,
        {"encoder": {0: affine("enc", dtype)}, "decoder": {0: affine("dec", dtype)}},
        extra,
    )


def terms(name, apply, extra, dtype):
    """Return the objective of a variant, written out as a recipe writes it."""
    x, mask, noise = (jnp.asarray(FIXTURE[k], dtype) for k in ("x", "mask", "noise"))
    seen = {"denoise_mask": x * mask, "denoise_gauss": x + noise}.get(name, x)

    def objective(params):
        out, features = apply(params, extra, seen, features=True)[0]
        h, error = features["code"], losses.squared_error(out, x).sum(-1).mean()
        if name == "sparse_l1":
            return error + OPTIONS["l1"] * regularizers.activation_l1(h).mean()
        if name == "sparse_kl":
            return error + OPTIONS["kl"] * regularizers.activation_kl(h, target=OPTIONS["rho"])
        if name == "contractive":
            kernel = params["encoder"][0]["kernel"]
            penalty = regularizers.contractive_sigmoid(h, kernel)
            return error + OPTIONS["contraction"] * penalty.mean()
        return error

    return objective


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name", ["plain", "sparse_l1", "sparse_kl", "denoise_mask", "denoise_gauss", "contractive"]
)
def test_every_variant_has_the_references_loss_and_gradients(name, dtype):
    apply, params, extra = reference(dtype)
    with jax.default_matmul_precision("highest"):
        value, grads = jax.jit(jax.value_and_grad(terms(name, apply, extra, dtype)))(params)
    np.testing.assert_allclose(value, FIXTURE[f"{name}:loss"], **TOLERANCE[dtype])
    names = [k for k in FIXTURE.files if k.startswith(f"{name}:grad:")]
    assert names
    for key in names:
        layer, part = key.split(":")[-1].split(".")
        found = grads[{"enc": "encoder", "dec": "decoder"}[layer]][0]
        found = found["kernel"].T if part == "weight" else found["bias"]
        assert found.dtype == dtype
        np.testing.assert_allclose(found, FIXTURE[key], **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_forms_of_the_contractive_penalty_are_the_references(dtype):
    apply, params, extra = reference(dtype)
    x = jnp.asarray(FIXTURE["x"], dtype)
    d = x.shape[1]
    encode = lambda x: apply(params, extra, x, method="encode")[0]  # noqa: E731
    basis = jnp.broadcast_to(jnp.eye(d, dtype=dtype)[None], (len(x), d, d)) * math.sqrt(d)
    with jax.default_matmul_precision("highest"):
        found = [
            regularizers.contractive_sigmoid(encode(x), params["encoder"][0]["kernel"]),
            regularizers.contractive(encode, x),
            regularizers.contractive_hutchinson(encode, x, basis),
        ]
    for each in found:
        np.testing.assert_allclose(each, FIXTURE["jacobian_fro2"], **TOLERANCE[dtype])


def sample(d=6):
    """Correlated data with distinct variances, and a mean that is not 0."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    scales = np.array([3.0, 2.0, 1.0, 0.5, 0.3, 0.2])
    return rng.standard_normal((80, d)) * scales @ turn.T + 1.0


def fitted(config, x, penalty=None, **options):
    """Return the auto-encoder of least squared error (and penalty), by L-BFGS in 64 bits."""
    apply, params, extra = pure(Autoencoder(config, rngs=nnx.Rngs(1)))

    def objective(params):
        error = losses.squared_error(apply(params, extra, x)[0], x).sum(-1).mean()
        encode = lambda x: apply(params, extra, x, method="encode")[0]  # noqa: E731
        return error + (0 if penalty is None else penalty(encode, x))

    found = jax.jit(lambda p: optim.minimize(optim.lbfgs(), objective, p, **options))(
        as_dtype(params, "float64")
    )
    return float(found.value), lambda x, **how: apply(found.params, extra, x, **how)[0]


@pytest.mark.parametrize("tied", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_linear_auto_encoder_finds_the_principal_subspace(tied):
    x = sample()
    config = AutoencoderConfig.linear(6, 2, tied=tied)
    loss, apply = fitted(config, x, gtol=1e-9)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    assert loss == pytest.approx(values[:-2].sum(), rel=1e-8)
    decoder = np.asarray(jax.jacobian(lambda z: apply(z, method="decode")[0])(jnp.zeros((1, 2))))
    plane = np.linalg.qr(decoder[:, 0])[0]
    cosines = np.linalg.svd(plane.T @ vectors[:, -2:])[1]
    assert np.arccos(np.minimum(cosines, 1)).max() < 1e-3
    pca = data.fit_pca(x, 2)
    np.testing.assert_allclose(apply(x), pca.decode(pca.encode(x)), atol=1e-4)


@pytest.mark.slow
def test_an_overcomplete_code_copies_unless_it_is_penalised():
    x = sample()
    config = AutoencoderConfig.linear(6, 8)
    loss, apply = fitted(config, x)
    assert loss < 1e-8
    slope = jax.jacobian(lambda x: apply(x[None])[0])(jnp.zeros(6))
    np.testing.assert_allclose(slope, np.eye(6), atol=1e-3)
    config = AutoencoderConfig(6, (8,), tied=True)  # the two maps cannot trade their scales
    penalty = lambda encode, x: regularizers.contractive(encode, x).mean()  # noqa: E731
    penalised, _ = fitted(config, x, penalty=penalty, max_iter=50)
    assert penalised > 0.1


def test_tied_kernels_are_one_leaf_whose_gradient_is_the_sum_of_both_uses():
    config = AutoencoderConfig.tiny(unit=ops.tanh)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 6)))
    apply, params, extra = pure(Autoencoder(config, rngs=nnx.Rngs(0)))
    config = AutoencoderConfig.tiny(unit=ops.tanh, tied=True)
    tied_apply, tied, _ = pure(Autoencoder(config, rngs=nnx.Rngs(0)))
    assert [list(layer) for layer in tied["decoder"].values()] == [["bias"], ["bias"]]
    params = as_dtype(params, "float64")
    for i in (0, 1):
        params["decoder"][i]["kernel"] = params["encoder"][1 - i]["kernel"].T
    tied = {
        "encoder": params["encoder"],
        "decoder": {i: {"bias": layer["bias"]} for i, layer in params["decoder"].items()},
    }

    def cubes(apply):
        return jax.value_and_grad(lambda p: (apply(p, extra, x)[0] ** 3).sum())

    (value, both), (tied_value, one) = cubes(apply)(params), cubes(tied_apply)(tied)
    assert float(tied_value) == pytest.approx(float(value), rel=1e-12)
    for i in (0, 1):
        total = both["encoder"][i]["kernel"] + both["decoder"][1 - i]["kernel"].T
        np.testing.assert_allclose(one["encoder"][i]["kernel"], total, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.usefixtures("compile_as_users_do")
def test_what_a_denoising_auto_encoder_adds_is_the_score_of_the_density():
    """(r(x) - x) / s^2 = d log p_s(x) / dx, p_s the data's density with the noise in it."""
    scale, deviation = 0.5, 0.4
    centres, weights = np.array([-1.0, 1.5]), np.array([0.4, 0.6])
    # quadrature in place of samples: quantiles of the data, Hermite's nodes of the noise
    quantiles = NormalDist().inv_cdf
    spots = deviation * np.array([quantiles((i + 0.5) / 120) for i in range(120)])
    nodes, masses = np.polynomial.hermite_e.hermegauss(20)
    x = np.repeat((centres[:, None] + spots).ravel(), 20)[:, None]
    noisy = x + scale * np.tile(nodes, 240)[:, None]
    mass = np.outer(np.repeat(weights / 120, 120), masses / masses.sum()).ravel()
    config = AutoencoderConfig(1, (24,), code_unit=ops.tanh, bias_init=nnx.initializers.normal(1.0))
    apply, params, extra = pure(Autoencoder(config, rngs=nnx.Rngs(0)))

    def objective(p):
        return (mass * losses.squared_error(apply(p, extra, noisy)[0], x)[:, 0]).sum()

    found = jax.jit(lambda p: optim.minimize(optim.bfgs(), objective, p, max_iter=300))(
        as_dtype(params, "float64")
    )
    grid = jnp.linspace(-1.8, 2.3, 42)
    learned = (apply(found.params, extra, grid[:, None])[0][:, 0] - grid) / scale**2

    def log_density(x):
        spread = deviation**2 + scale**2
        return jax.nn.logsumexp(jnp.log(weights) - (x - centres) ** 2 / (2 * spread))

    score = jax.vmap(jax.grad(log_density))(grid)
    np.testing.assert_allclose(learned, score, atol=0.15)
    assert np.abs(score).max() > 1.5
    assert np.sqrt(np.mean((learned - score) ** 2)) < 0.06


@pytest.mark.slow
def test_a_linear_denoising_auto_encoder_is_wieners_filter():
    """Of Gaussian data with variance v: r(x) = v / (v + s^2) x, and so the score -x / (v + s^2)."""
    n, scale, variance = 40_000, 0.7, 2.0
    x = math.sqrt(variance) * np.random.default_rng(0).standard_normal((n, 1))
    keys = jax.random.split(jax.random.key(1), n)
    noisy = np.asarray(jax.jit(lambda k, x: data.input_noise(k, x, scale=scale))(keys, x))
    apply, params, extra = pure(Autoencoder(AutoencoderConfig.linear(1, 1), rngs=nnx.Rngs(0)))

    def objective(p):
        return losses.squared_error(apply(p, extra, noisy)[0], x).mean()

    found = jax.jit(lambda p: optim.minimize(optim.bfgs(), objective, p, max_iter=50))(
        as_dtype(params, "float64")
    )
    points = jnp.array([[-1.0], [2.0]])
    learned = (apply(found.params, extra, points)[0] - points) / scale**2
    np.testing.assert_allclose(learned, -points / (variance + scale**2), atol=0.03)


@pytest.mark.parametrize(
    ("how", "devices"),
    [
        ("shard_map", 4),
        *(pytest.param(how, n, marks=pytest.mark.slow) for how, n in (("pmap", 4), ("pmap", 2))),
    ],
)
def test_the_rates_of_a_sparse_code_are_those_of_all_devices(how, devices):
    apply, params, extra = pure(Autoencoder(AutoencoderConfig.tiny(), rngs=nnx.Rngs(0)))
    params = as_dtype(params, "float64")
    batch = {"x": np.random.default_rng(0).standard_normal((8, 6))}

    def objective(params, extra, batch, key):
        x = data.masking_noise(key, batch["x"], rate=0.3)
        out, features = apply(params, extra, x, features=True)[0]
        kl = regularizers.activation_kl(features["code"], target=0.1)
        return losses.squared_error(out, batch["x"]).sum(-1).mean() + kl, (extra, {})

    def after(how, devices):
        tx = optax.sgd(0.1)
        runner = train.lift(train.make_step(objective, tx), how, devices=devices)
        state = runner.put(train.init_state(params, extra, tx))
        for _ in range(2):
            state, metrics = runner.step(state, batch)
        return runner.get(state.params), float(runner.get(metrics)["loss"])

    (one, loss), (many, spread) = after("none", 1), after(how, devices)
    assert spread == pytest.approx(loss, rel=1e-12)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("tied", [False, True])
def test_a_deep_one_is_its_layers_one_after_another(tied):
    config = AutoencoderConfig.tiny(unit=ops.tanh, tied=tied)
    apply, params, extra = pure(Autoencoder(config, rngs=nnx.Rngs(3)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: rng.standard_normal(p.shape), params)
    x = rng.standard_normal((4, 2, 3))
    kernels = [params["encoder"][i]["kernel"] for i in (0, 1)]
    back = (
        [k.T for k in kernels[::-1]] if tied else [params["decoder"][i]["kernel"] for i in (0, 1)]
    )
    h = np.tanh(x.reshape(4, 6) @ kernels[0] + params["encoder"][0]["bias"])
    code = 1 / (1 + np.exp(-(h @ kernels[1] + params["encoder"][1]["bias"])))
    up = np.tanh(code @ back[0] + params["decoder"][0]["bias"])
    out = up @ back[1] + params["decoder"][1]["bias"]
    found, features = jax.jit(lambda p, x: apply(p, extra, x, features=True)[0])(params, x)
    np.testing.assert_allclose(found, out, rtol=1e-10)
    expected = {"encoder.0": h, "code": code, "decoder.0": up}
    assert features.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(features[name], value, rtol=1e-10)
    each = jax.vmap(lambda x: apply(params, extra, x[None])[0][0])(x)
    np.testing.assert_allclose(each, out, rtol=1e-10)


@pytest.mark.parametrize("tied", [False, True])
def test_products_are_computed_in_the_type_asked_for(tied):
    config = AutoencoderConfig.tiny(tied=tied, dtype=jnp.bfloat16)
    model = Autoencoder(config, rngs=nnx.Rngs(0))
    assert model(jnp.ones((2, 6), jnp.float32)).dtype == jnp.bfloat16
    whole = Autoencoder(AutoencoderConfig.tiny(tied=tied), rngs=nnx.Rngs(0))(jnp.ones((2, 6)))
    np.testing.assert_allclose(
        np.asarray(model(jnp.ones((2, 6))), np.float64), whole, rtol=0.05, atol=0.05
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AutoencoderConfig(0, (2,)), r"\(features_in=...\) must be >= 1, got 0"),
        (lambda: AutoencoderConfig(3, ()), r"\(hidden=...\) must be one or more .* got \(\)"),
        (lambda: AutoencoderConfig(3, (2, 0)), r"\(hidden=...\) must be one or more"),
        (lambda: tiny()(jnp.ones((2, 5))), r"with 6 values an example, got \(2, 5\)"),
        (lambda: tiny().decode(jnp.ones((2, 5))), r"must be \(batch, 3\), got \(2, 5\)"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert isinstance(error.value, InputError) == ("Config" in message or "=..." in message)


def tiny():
    return Autoencoder(AutoencoderConfig.tiny(), rngs=nnx.Rngs(0))
