"""Losses of the output units beside PyTorch's."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaln

from fdl import outputs

FIXTURE = np.load(Path(__file__).parents[1] / "fixtures" / "losses" / "data.npz")
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 1e-5}}


def width(name, part):
    return FIXTURE[f"{name}:in:{part}"].shape[-1]


UNITS = {  # name -> unit, the inputs of which its raw outputs are made
    "gauss_unit_nll": (lambda n: outputs.linear_gaussian(width(n, "mu")), ("mu",)),
    "gauss_hetero_softplus_var": (
        lambda n: outputs.heteroscedastic(width(n, "mu"), by="variance", floor=0.0),
        ("mu", "raw"),
    ),
    "gauss_hetero_softplus_precision": (
        lambda n: outputs.heteroscedastic(width(n, "mu"), by="precision", floor=0.0),
        ("mu", "raw"),
    ),
    "gauss_hetero_logvar": (
        lambda n: outputs.heteroscedastic(width(n, "mu"), by="log_variance", floor=0.0),
        ("mu", "lv"),
    ),
    "gauss_full_cov_scale_tril": (
        lambda n: outputs.full_covariance(width(n, "mu"), floor=0.0),
        ("mu", "diag", "low"),
    ),
    "mdn_softplus_sigma": (
        lambda n: outputs.mixture(width(n, "mu"), width(n, "logits"), floor=0.0),
        ("logits", "mu", "raw"),
    ),
    "bernoulli_logits": (lambda n: outputs.bernoulli(width(n, "z")), ("z",)),
    "multinoulli_logits": (lambda n: outputs.multinoulli(width(n, "z")), ("z",)),
    "poisson_lograte": (lambda n: outputs.poisson(width(n, "z")), ("z",)),
}


def target(name):
    if f"{name}:in:t_y" in FIXTURE.files:
        return FIXTURE[f"{name}:in:t_y"].astype(int)
    return FIXTURE[f"{name}:in:y_"]


def flat(array):
    return np.asarray(array, np.float64).reshape(len(array), -1)


@pytest.mark.parametrize("name", UNITS)
def test_nll_has_the_values_and_gradients_of_pytorch(name):
    make, inputs = UNITS[name]
    unit, y = make(name), target(name)
    expected = flat(FIXTURE[f"{name}:loss"]).sum(1)
    if name == "poisson_lograte":  # PyTorch leaves log y! out
        expected = expected + gammaln(y.astype(float) + 1).sum(1)
    gradient = np.concatenate([flat(FIXTURE[f"{name}:grad:{i}"]) for i in inputs], 1)
    raw = np.concatenate([flat(FIXTURE[f"{name}:in:{i}"]) for i in inputs], 1)

    @jax.jit
    def both(raw):
        loss, pullback = jax.vjp(lambda raw: unit.distribution(raw).nll(y), raw)
        return loss, pullback(jnp.ones_like(loss))[0]

    for dtype, tolerance in TOLERANCE.items():
        loss, found = both(jnp.asarray(raw, dtype))
        assert loss.dtype == found.dtype == dtype
        np.testing.assert_allclose(loss, expected, **tolerance)
        np.testing.assert_allclose(found, gradient, **tolerance)
