"""Predictive sparse decomposition against scikit-learn's lasso, its limits and its envelope."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fdl import models, ops
from fdl.pure import pure

FOLDER = Path(__file__).parents[1] / "fixtures" / "psd"
FIXTURE = np.load(FOLDER / "data.npz")
META = json.loads((FOLDER / "config.json").read_text())["config"]
L1, ALPHA = META["lam"], META["alpha"]
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-11}, "float32": {"rtol": 2e-4, "atol": 1e-5}}
OPTIONS = {"l1": L1, "alpha": ALPHA}


def taken_over(dtype="float64"):
    """The fixture's model and inputs, its matrices turned to (inputs, codes)."""
    inputs, codes = FIXTURE["B"].shape
    apply, _, extra = pure(models.PSD(models.PSDConfig(inputs, codes), rngs=nnx.Rngs(0)))
    encoder = {"kernel": FIXTURE["W"].T, "bias": FIXTURE["bias"], "gain": FIXTURE["gain"]}
    params = {"dictionary": FIXTURE["B"], "encoder": encoder}
    params = jax.tree.map(lambda a: jnp.asarray(a, dtype), params)
    return apply, params, extra, jnp.asarray(FIXTURE["Y"], dtype)


def energy(apply, params, extra, x, steps, options=OPTIONS):
    guess, _ = apply(params, extra, x, method="encode")
    z = ops.psd_codes(x, guess, params["dictionary"], **options, steps=steps)
    return ops.psd_energy(x, z, guess, params["dictionary"], **options), z


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_energies_codes_and_gradients_are_those_of_the_fixture(dtype):
    apply, params, extra, x = taken_over(dtype)
    tolerance = TOLERANCE[dtype]
    with jax.default_matmul_precision("highest"):
        guess, _ = apply(params, extra, x)
        np.testing.assert_allclose(guess, FIXTURE["encoder"], **tolerance)
        at_guess = ops.psd_energy(x, guess, guess, params["dictionary"], **OPTIONS)
        np.testing.assert_allclose(at_guess, FIXTURE["E_at_encoder"], **tolerance)
        _, z = energy(apply, params, extra, x, 10)
        np.testing.assert_allclose(z, FIXTURE["z_fista10"], **tolerance)

        def mean_energy(params):
            e, z = energy(apply, params, extra, x, 3000)
            return e.mean(), (e, z)

        (mean, (each, z)), grads = jax.value_and_grad(mean_energy, has_aux=True)(params)
    assert z.dtype == dtype
    loose = tolerance | {"atol": max(tolerance["atol"], 1e-9)}  # of the fixture's own optimum
    np.testing.assert_allclose(z, FIXTURE["z_star"], **loose)
    np.testing.assert_allclose(each, FIXTURE["E_star"], **tolerance)
    np.testing.assert_allclose(mean, FIXTURE["E_mean"], **tolerance)
    expected = {"grad_B": grads["dictionary"], "grad_W": grads["encoder"]["kernel"].T}
    expected |= {f"grad_{n}": grads["encoder"][n] for n in ("gain", "bias")}
    for name, grad in expected.items():
        np.testing.assert_allclose(grad, FIXTURE[name], **loose, err_msg=name)


def test_the_energy_never_rises_on_the_way_and_never_ends_above_the_guess():
    apply, params, extra, x = taken_over()
    guess, d = apply(params, extra, x)[0], params["dictionary"]

    def after(steps, accelerate):
        z = ops.psd_codes(x, guess, d, **OPTIONS, steps=steps, accelerate=accelerate)
        return ops.psd_energy(x, z, guess, d, **OPTIONS)

    plain = np.array([after(k, False) for k in range(5)])
    assert (np.diff(plain, axis=0) <= 1e-12).all() and (plain[-1] < plain[0]).all()
    assert (after(4, True) < plain[0]).all()
    np.testing.assert_allclose(plain[0], ops.psd_energy(x, guess, guess, d, **OPTIONS))


def test_alpha_leads_from_sparse_coding_to_the_prediction():
    apply, params, extra, x = taken_over()
    guess, d = apply(params, extra, x)[0], params["dictionary"]

    @functools.partial(jax.jit, static_argnames="couple")
    def infer(alpha, couple=True):
        return ops.psd_codes(x, guess, d, l1=L1, alpha=alpha, steps=2000, couple=couple)

    codes = {alpha: infer(alpha) for alpha in (0.0, 1e-8, 1e6)}
    sparse = ops.fista(x, d, L1 / 2, steps=2000)  # E has no 1/2
    np.testing.assert_allclose(codes[0.0], sparse, atol=1e-6)
    np.testing.assert_allclose(codes[1e-8], sparse, atol=1e-5)
    np.testing.assert_allclose(codes[1e6], guess, atol=1e-5)
    uncoupled = infer(7.0, couple=False)
    np.testing.assert_allclose(uncoupled, sparse, atol=1e-12)


def test_without_sparsity_the_codes_solve_linear_equations():
    apply, params, extra, x = taken_over()
    guess, d = apply(params, extra, x)[0], np.asarray(params["dictionary"])
    z = ops.psd_codes(x, guess, d, l1=0.0, alpha=ALPHA, steps=2000)
    matrix = d.T @ d + ALPHA * np.eye(d.shape[1])
    np.testing.assert_allclose(z, np.linalg.solve(matrix, (x @ d + ALPHA * guess).T).T, atol=1e-9)


def test_the_gradient_is_that_of_the_least_energy():
    """Envelope theorem: against derivatives through all steps of inference, and differences."""
    apply, params, extra, x = taken_over()

    def least(params):
        return energy(apply, params, extra, x, 400)[0].sum()

    def through(params):
        guess, d = apply(params, extra, x)[0], params["dictionary"]
        z = ops.proximal_gradient(
            lambda z: 2 * (z @ d.T - x) @ d + 2 * ALPHA * (z - guess),
            guess,
            lipschitz=2 * (ops.sparse_lipschitz(FIXTURE["B"].astype(float)) + ALPHA),
            l1=L1,
            steps=400,
        )
        return ops.psd_energy(x, z, guess, d, **OPTIONS).sum()

    partial, whole = jax.grad(least)(params), jax.grad(through)(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), partial, whole)
    rng = np.random.default_rng(0)
    move = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), params)
    h = 1e-5
    ahead, behind = (
        least(jax.tree.map(lambda p, m, s=s: p + s * m, params, move)) for s in (h, -h)
    )
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, m: (g * m).sum(), partial, move)))
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * h), rtol=1e-6)


def test_a_tolerance_stops_near_the_optimum():
    apply, params, extra, x = taken_over()
    guess, d = apply(params, extra, x)[0], params["dictionary"]
    z = ops.psd_codes(x, guess, d, **OPTIONS, steps=10_000, tolerance=1e-8)
    np.testing.assert_allclose(z, FIXTURE["z_star"], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"l1": -1.0}, r"psd_codes\(l1=\.\.\.\) must be >= 0, got -1"),
        ({"alpha": -1.0}, r"psd_codes\(alpha=\.\.\.\) must be >= 0"),
        ({"steps": -1}, r"psd_codes\(steps=\.\.\.\) must be >= 0"),
        ({"prediction": np.ones((2, 5))}, r"psd_codes\(prediction=\.\.\.\) must have the shape"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(changes, message):
    options = {"prediction": np.ones((2, 4)), "l1": 1.0, "alpha": 1.0, "steps": 1} | changes
    with pytest.raises(ValueError, match=message):
        ops.psd_codes(np.ones((2, 3)), dictionary=np.ones((3, 4)), **options)
    with pytest.raises(ValueError, match=r"psd_energy\(prediction=\.\.\.\)"):
        ops.psd_energy(np.ones((2, 3)), np.ones((2, 4)), np.ones(4), np.ones((3, 4)), l1=1, alpha=1)


@pytest.mark.parametrize("couple", [True, False])
def test_the_codes_of_least_energy_do_not_depend_on_the_bound_of_the_step(couple):
    rng = np.random.default_rng(1)
    x, d, guess = (jnp.asarray(rng.normal(size=s)) for s in ((3, 4), (4, 6), (3, 6)))
    bound = jnp.abs(d.T @ d).sum(0).max()
    assert bound > ops.sparse_lipschitz(d) + 0.1  # so that the steps differ
    how = {"l1": 0.3, "alpha": 0.5, "couple": couple}
    one, other = (
        ops.psd_codes(x, guess, d, **how, steps=2000, lipschitz=each) for each in (None, bound)
    )
    np.testing.assert_allclose(one, other, atol=1e-7)
    few = [ops.psd_codes(x, guess, d, **how, steps=2, lipschitz=each) for each in (None, bound)]
    assert float(jnp.abs(few[0] - few[1]).max()) > 1e-3  # the bound was used
