"""PSD models: encoders by hand, a convolutional model against the dense one that it is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from fdl import ops, optim, train
from fdl.errors import InputError
from fdl.models import PSD, PSDConfig
from fdl.pure import pure

RNG = np.random.default_rng(0)
UNITS = {
    "linear": lambda u, e: u,
    "tanh": lambda u, e: e["gain"] * np.tanh(u),
    "tanh_shrink": lambda u, e: e["gain"] * (u - np.tanh(u)),
    "shrink": lambda u, e: np.sign(u) * np.maximum(np.abs(u) - e["threshold"], 0),
}


def drawn(config, seed=0):
    """A model whose parameters are all random."""
    apply, params, extra = pure(PSD(config, rngs=nnx.Rngs(seed)))
    rng = np.random.default_rng(seed)
    return apply, jax.tree.map(lambda p: jnp.asarray(rng.uniform(0.1, 1, p.shape)), params), extra


@pytest.mark.parametrize("encoder", UNITS)
def test_an_encoder_is_its_formula(encoder):
    apply, params, extra = drawn(PSDConfig(4, 6, encoder=encoder))
    x = RNG.normal(size=(5, 4))
    e = jax.tree.map(np.asarray, params["encoder"])
    expected = UNITS[encoder](x @ e["kernel"] + e["bias"], e)
    for method in ("__call__", "encode"):
        np.testing.assert_allclose(
            apply(params, extra, jnp.asarray(x), method=method)[0], expected, rtol=1e-9
        )
    z = RNG.normal(size=(5, 6))
    np.testing.assert_allclose(
        apply(params, extra, jnp.asarray(z), method="decode")[0], z @ params["dictionary"].T
    )


def test_a_threshold_below_zero_counts_as_zero():
    apply, params, extra = pure(PSD(PSDConfig.tiny(encoder="shrink"), rngs=nnx.Rngs(0)))
    x = jnp.asarray(RNG.normal(size=(5, 4)))
    encoder = params["encoder"] | {"threshold": jnp.full(6, -1.0)}
    below = apply(params | {"encoder": encoder}, extra, x)[0]
    np.testing.assert_allclose(below, x @ encoder["kernel"] + encoder["bias"][None], rtol=1e-6)


def test_columns_begin_with_norm_one_and_the_kernel_as_the_dictionary():
    for window in (None, (3, 2)):
        _, params, _ = pure(PSD(PSDConfig(2, 6, window=window), rngs=nnx.Rngs(0)))
        d = params["dictionary"] if window is None else params["dictionary"].swapaxes(-1, -2)
        norms = jnp.sqrt(jnp.square(d).sum(tuple(range(d.ndim - 1))))
        np.testing.assert_allclose(norms, 1, rtol=1e-6)
        np.testing.assert_array_equal(params["encoder"]["kernel"], d)


def test_layers_of_lista_begin_as_steps_of_ista_on_the_dictionary():
    apply, params, extra = pure(
        PSD(PSDConfig(4, 6, encoder="lista", layers=3, threshold=0.2), rngs=nnx.Rngs(0))
    )
    x = jnp.asarray(RNG.normal(size=(5, 4)), jnp.float32)
    expected = ops.ista(x, params["dictionary"], 0.2, steps=3)
    np.testing.assert_allclose(apply(params, extra, x)[0], expected, atol=1e-5)


@pytest.mark.parametrize("encoder", ["tanh", "shrink"])
def test_a_convolutional_model_is_the_dense_one_with_shared_filters(encoder):
    window, spatial, channels, codes = (2, 3), (4, 5), 2, 3
    config = PSDConfig(channels, codes, encoder=encoder, window=window)
    apply, params, extra = drawn(config)
    x = jnp.asarray(RNG.normal(size=(2, *spatial, channels)))
    maps = (*(n - k + 1 for n, k in zip(spatial, window, strict=True)), codes)
    inputs, units = x[0].size, int(np.prod(maps))
    columns = ops.decode_sparse(jnp.eye(units).reshape(-1, *maps), params["dictionary"])
    per_code = {n: jnp.tile(a, units // codes) for n, a in params["encoder"].items() if a.ndim == 1}
    images = jnp.eye(inputs).reshape(-1, *x.shape[1:])
    kernel = ops.conv(images, params["encoder"]["kernel"]).reshape(inputs, units)
    dense = {
        "dictionary": columns.reshape(units, inputs).T,
        "encoder": {"kernel": kernel, **per_code},
    }
    dense_apply = pure(PSD(PSDConfig(inputs, units, encoder=encoder), rngs=nnx.Rngs(0))).apply
    options = {"l1": 0.5, "alpha": 2.0}

    def energy(apply, params, x):
        guess, _ = apply(params, extra, x, method="encode")
        z = ops.psd_codes(x, guess, params["dictionary"], **options, steps=2000)
        e = ops.psd_energy(x, z, guess, params["dictionary"], **options)
        return e.sum(), (guess.reshape(2, -1), z.reshape(2, -1), e)

    ours, expected = (
        jax.value_and_grad(lambda p, a=a, x=x: energy(a, p, x), has_aux=True)(p)
        for a, p, x in ((apply, params, x), (dense_apply, dense, x.reshape(2, -1)))
    )
    for a, b in zip(ours[0][1], expected[0][1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)
    summed = expected[1]["encoder"]["bias"].reshape(-1, codes).sum(0)
    np.testing.assert_allclose(ours[1]["encoder"]["bias"], summed, atol=1e-6)


def test_training_keeps_atoms_at_norm_one_and_lowers_the_energy_on_many_devices():
    """One step of a recipe, with the projection of the dictionary alone; 1 and 4 devices agree."""
    apply, params, extra = pure(PSD(PSDConfig(6, 10), rngs=nnx.Rngs(0)))
    x = np.random.default_rng(1).normal(size=(16, 6)).astype(np.float32)

    def objective(params, extra, batch, key):
        guess, _ = apply(params, extra, batch["x"], method="encode")
        options = {"l1": 0.5, "alpha": 1.0}
        z = ops.psd_codes(batch["x"], guess, params["dictionary"], **options, steps=10)
        each = ops.psd_energy(batch["x"], z, guess, params["dictionary"], **options)
        return each.mean(), (extra, {})

    tx = optax.chain(
        optax.sgd(0.05),
        optim.project(
            optim.projection_unit_norm,
            lambda p: {"dictionary": True, "encoder": jax.tree.map(lambda _: False, p["encoder"])},
        ),
    )
    ends = {}
    for how, devices in (("none", 1), ("shard_map", 4)):
        runner = train.lift(train.make_step(objective, tx), how, devices=devices)
        state = runner.put(train.init_state(params, extra, tx, seed=0))
        seen = []
        for _ in range(30):
            state, metrics = runner.step(state, {"x": x})
            seen.append(float(runner.get(metrics)["loss"]))
        ends[how] = runner.get(state.params)
        assert seen[-1] < 0.9 * seen[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *ends.values())
    d = ends["none"]["dictionary"]
    np.testing.assert_allclose(np.linalg.norm(d, axis=0), 1, rtol=1e-5)
    assert np.abs(np.linalg.norm(ends["none"]["encoder"]["kernel"], axis=0) - 1).max() > 1e-3


def test_what_is_wrong_is_said_in_one_line():
    wrong = (
        {"features_in": 0},
        {"codes": 0},
        {"layers": 0},
        {"encoder": "sigmoid"},
        {"threshold": -1.0},
        {"window": ()},
    )
    for changes in wrong:
        with pytest.raises(InputError, match=rf"PSDConfig\({next(iter(changes))}=\.\.\.\) must"):
            PSDConfig.tiny(**changes)
    with pytest.raises(InputError, match=r"PSDConfig\(encoder='lista'\) must have window=None"):
        PSDConfig.tiny(encoder="lista", window=(3,))
    model = PSD(PSDConfig.tiny(), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"PSD needs \(batch, inputs\) with 4 of the last, got"):
        model(jnp.ones((2, 5)))
