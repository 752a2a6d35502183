"""Products and dense matrices: a PyTorch fixture, closed forms, sums over all labels, devices."""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from fdl import curvature, tree
from fdl.train import mean_over_devices, shared

pytestmark = pytest.mark.usefixtures("compile_quickly")

FOLDER = Path(__file__).parents[1] / "fixtures" / "hessian"
DATA = np.load(FOLDER / "data.npz")
CONFIG = json.loads((FOLDER / "config.json").read_text())["config"]
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 2e-4, "atol": 2e-5}}
DTYPES = ["float64", pytest.param("float32", marks=pytest.mark.slow)]


def unpack(flat):
    """The fixture's order: weight (h, d), bias, weight (k, h), bias, as a list keeps it."""
    d, h, k = CONFIG["d"], CONFIG["h"], CONFIG["k"]
    shapes = [(h, d), (h,), (k, h), (k,)]
    parts = np.split(np.asarray(flat), np.cumsum([np.prod(s) for s in shapes])[:-1])
    return [jnp.asarray(p.reshape(s)) for p, s in zip(parts, shapes, strict=True)]


def fixture(dtype):
    params = unpack(DATA["theta"].astype(dtype))
    v = unpack(DATA["v"].astype(dtype))
    x = jnp.asarray(DATA["x"], dtype)

    def model(p):
        return jnp.tanh(x @ p[0].T + p[1][None]) @ p[2].T + p[3][None]

    return params, v, model


def each_loss(logits):
    labels = jax.nn.one_hot(DATA["y"], CONFIG["k"], dtype=logits.dtype)
    return -(labels * jax.nn.log_softmax(logits)).sum(-1)


def mean_loss(logits):
    return each_loss(logits).mean()


def same(found, expected, dtype):
    vector = found if getattr(found, "ndim", 0) == 2 else tree.ravel(found)[0]
    assert vector.dtype == dtype
    np.testing.assert_allclose(vector, expected, **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_matrices_and_products_of_pytorch(dtype):
    params, v, model = fixture(dtype)
    fun = lambda p: mean_loss(model(p))  # noqa: E731
    cross_entropy = lambda a, z: -(jax.nn.softmax(a) * jax.nn.log_softmax(z)).sum(-1).mean()  # noqa: E731

    @jax.jit
    def compute(params, v):
        grad, product = curvature.hvp_operator(fun, params)
        return {
            "hessian": curvature.hessian(fun, params),
            "ggn_fisher": curvature.gauss_newton(model, mean_loss, params),
            "hvp": (curvature.hvp(fun, params, v), product(v)),
            # the logits of a softmax are natural parameters: Fisher = Gauss-Newton
            "gnvp": (
                curvature.gnvp(model, mean_loss, params, v),
                curvature.fvp(model, cross_entropy, params, v),
            ),
            "grad": grad,
            "empirical": curvature.empirical_fvp(lambda p: each_loss(model(p)), params, v),
        }

    found = compute(params, v)
    for name in ("hessian", "ggn_fisher", "grad"):
        same(found[name], DATA[name], dtype)
    for name in ("hvp", "gnvp"):
        for product in found[name]:
            same(product, DATA[name], dtype)
    same(found["empirical"], DATA["empirical_fisher"] @ DATA["v"], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_spectra_and_steps_of_pytorch(dtype):
    params, _, model = fixture(dtype)
    fun = lambda p: mean_loss(model(p))  # noqa: E731
    g = DATA["grad"].astype(dtype)

    @jax.jit
    def compute(params, minus_g):
        h, gauss_newton = (
            curvature.hessian(fun, params),
            curvature.gauss_newton(model, mean_loss, params),
        )
        _, product = curvature.hvp_operator(fun, params)
        _, damped = curvature.hvp_operator(lambda p: fun(p) + 2.5 * tree.vdot(p, p), params)
        solved = curvature.conjugate_gradient(damped, minus_g, rtol=1e-12, max_steps=60)
        krylov = curvature.lanczos(product, params, len(g))
        return h, gauss_newton, curvature.tridiagonal(krylov), solved.x

    h, gauss_newton, tridiagonal, solved = compute(params, unpack(-g))
    values, vectors = np.linalg.eigh(h)
    np.testing.assert_allclose(values, DATA["hessian_eigenvalues"], **TOLERANCE[dtype])
    found = np.linalg.eigvalsh(gauss_newton)
    np.testing.assert_allclose(found, DATA["ggn_eigenvalues"], **TOLERANCE[dtype])
    np.testing.assert_allclose(np.trace(h), DATA["trace"], **TOLERANCE[dtype])
    step = -np.linalg.solve(h + 5 * np.eye(len(g), dtype=dtype), g)
    np.testing.assert_allclose(step, DATA["damped_newton_step"], **TOLERANCE[dtype])
    free = -vectors @ ((vectors.T @ g) / (np.abs(values) + 0.1))
    np.testing.assert_allclose(free, DATA["saddle_free_step"], **TOLERANCE[dtype])
    ritz = np.linalg.eigvalsh(tridiagonal)
    np.testing.assert_allclose(ritz, DATA["hessian_eigenvalues"], **TOLERANCE[dtype])
    same(solved, DATA["damped_newton_step"], dtype)


def test_closed_forms():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(5, 5))
    x, v = {"u": rng.normal(size=2), "w": rng.normal(size=3)}, rng.normal(size=5)
    quadratic = lambda p: 0.5 * tree.ravel(p)[0] @ a @ tree.ravel(p)[0]  # noqa: E731
    symmetric = (a + a.T) / 2
    np.testing.assert_allclose(curvature.hessian(quadratic, x), symmetric, rtol=1e-13)
    found = curvature.hvp(quadratic, x, tree.ravel(x)[1](v))
    np.testing.assert_allclose(tree.ravel(found)[0], symmetric @ v, rtol=1e-13)
    rosenbrock = lambda p: 100 * (p[1] - p[0] ** 2) ** 2 + (1 - p[0]) ** 2  # noqa: E731
    p, q = -1.2, 1.0
    expected = [[1200 * p**2 - 400 * q + 2, -400 * p], [-400 * p, 200.0]]
    np.testing.assert_allclose(curvature.hessian(rosenbrock, jnp.array([p, q])), expected)
    # linear least squares: Gauss-Newton is the Hessian, X'X / n
    x, y = rng.normal(size=(7, 3)), rng.normal(size=7)
    square = lambda z: 0.5 * jnp.mean((z - y) ** 2)  # noqa: E731
    w = jnp.ones(3)
    np.testing.assert_allclose(
        curvature.gauss_newton(lambda w: x @ w, square, w), x.T @ x / 7, rtol=1e-13
    )
    np.testing.assert_allclose(
        curvature.hessian(lambda w: square(x @ w), w), x.T @ x / 7, rtol=1e-13, atol=1e-15
    )


def test_gauss_newton_is_the_dense_product_and_semi_definite():
    params, v, model = fixture("float64")
    vector, unravel = tree.ravel(params)
    jacobian = jax.jit(jax.jacrev(lambda p: model(unravel(p)).ravel()))(vector)
    target = jnp.sin(jnp.arange(32.0)).reshape(16, 2)
    # not separable over the outputs, and not convex far away
    loss = lambda z: jnp.log1p(jnp.sum((z - target) ** 2))  # noqa: E731
    inner = jax.jit(jax.hessian(lambda z: loss(z.reshape(16, 2))))(model(params).ravel())
    expected = jacobian.T @ inner @ jacobian

    @jax.jit
    def compute(params, v):
        return (
            curvature.gauss_newton(model, loss, params),
            tree.ravel(curvature.gnvp(model, loss, params, v))[0],
            curvature.gauss_newton(model, mean_loss, params),
        )

    dense, product, convex = compute(params, v)
    np.testing.assert_allclose(dense, expected, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(product, expected @ DATA["v"], rtol=1e-10, atol=1e-13)
    assert np.linalg.eigvalsh(convex)[0] > -1e-15


def test_fisher_is_the_expectation_over_the_models_own_labels():
    params, v, model = fixture("float64")
    vector, unravel = tree.ravel(params)
    log_p = lambda p: jax.nn.log_softmax(model(unravel(p)))  # noqa: E731
    scores = jax.jacrev(log_p)(vector)  # [n, k, 26]
    expected = jnp.einsum("nk,nki,nkj->ij", jnp.exp(log_p(vector)), scores, scores) / len(scores)

    def kl(a, z):
        log_ratio = jax.nn.log_softmax(a) - jax.nn.log_softmax(z)
        return (jax.nn.softmax(a) * log_ratio).sum(-1).mean()

    found = tree.ravel(curvature.fvp(model, kl, params, v))[0]
    np.testing.assert_allclose(found, expected @ DATA["v"], rtol=1e-10, atol=1e-14)


def test_fisher_where_outputs_are_not_natural_parameters():
    # N(m, e^2s) with the outputs (m, s): Fisher = diag(e^-2s, 2), the Hessian of one sample is not
    def divergence(a, z):
        ratio = jnp.exp(2 * (a["s"] - z["s"]))
        square = 0.5 * (a["m"] - z["m"]) ** 2 / jnp.exp(2 * z["s"])
        return jnp.mean(z["s"] - a["s"] + 0.5 * ratio - 0.5 + square)

    at = {"m": jnp.float64(0.3), "s": jnp.float64(-0.4)}
    v = {"m": 2.0, "s": 3.0}
    found = curvature.fvp(lambda p: p, divergence, at, v)
    np.testing.assert_allclose(found["m"], 2 * np.exp(0.8), rtol=1e-12)
    np.testing.assert_allclose(found["s"], 3 * 2, rtol=1e-12)


def test_trees_as_optax_hands_them_over():
    odd = (jnp.float32(2.0), jnp.zeros((0, 3)))
    params = {"a": jnp.ones(2, jnp.bfloat16), "none": None, "b": odd}
    fun = lambda p: jnp.sum(p["a"].astype(jnp.float32) ** 3) * p["b"][0]  # noqa: E731
    found = curvature.hvp(fun, params, jax.tree.map(lambda a: jnp.ones(a.shape), params))
    assert jax.tree.map(jnp.result_type, found) == jax.tree.map(jnp.result_type, params)
    np.testing.assert_allclose(found["a"].astype(float), [15.0, 15.0])  # 6 * 2 + 3
    np.testing.assert_allclose(found["b"][0], 6.0)
    assert curvature.hessian(lambda p: jnp.float32(0), {}).shape == (0, 0)


@pytest.mark.slow
def test_products_under_vmap_are_those_of_a_loop():
    params, _, model = fixture("float64")
    fun = lambda p: mean_loss(model(p))  # noqa: E731
    many = jax.tree.map(lambda a: jnp.stack([a, -a, 2 * a]), params)
    found = jax.vmap(lambda v: curvature.hvp(fun, params, v))(many)
    one = jax.tree.map(jnp.asarray, curvature.hvp(fun, params, params))
    stacked = jax.tree.map(lambda o: np.stack([o, -o, 2 * o]), one)
    close = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-15)
    jax.tree.map(close, found, stacked)


# --- several devices ---------------------------------------------------------------------------


def products(params, v, x, y):
    """Everything at once, as one device of many computes it."""

    def model(p):
        p = shared(p)
        return jnp.tanh(x @ p["w"]) @ p["u"]

    def loss(z):
        return mean_over_devices(-(y * jax.nn.log_softmax(z)).sum(-1).mean())

    def kl(a, z):
        return mean_over_devices(-(jax.nn.softmax(a) * jax.nn.log_softmax(z)).sum(-1).mean())

    def fun(p):
        return loss(model(p))

    def losses(p):
        return -(y * jax.nn.log_softmax(model(p))).sum(-1)

    return {
        "hvp": curvature.hvp(fun, params, v),
        "hvp_operator": curvature.hvp_operator(fun, params)[1](v),
        "gnvp": curvature.gnvp(model, loss, params, v),
        "fvp": curvature.fvp(model, kl, params, v),
        "empirical": curvature.empirical_fvp(
            losses, params, v, mean=lambda a: mean_over_devices(a.mean())
        ),
        "hessian": curvature.hessian(fun, params),
        "gauss_newton": curvature.gauss_newton(model, loss, params),
        "krylov": curvature.lanczos(curvature.hvp_operator(fun, params)[1], v, 4).alphas,
        "cg": curvature.conjugate_gradient(
            lambda u: curvature.gnvp(model, loss, params, u), v, max_steps=3
        ).x,
    }


def spread(runner, n, params, v, x, y):
    chosen = jax.devices()[:n]
    split = lambda a: a.reshape(n, len(a) // n, *a.shape[1:])  # noqa: E731
    if runner in ("vmap", "pmap"):
        lifted = (
            jax.jit(jax.vmap(products, (None, None, 0, 0), axis_name="data"))
            if runner == "vmap"
            else jax.pmap(products, "data", in_axes=(None, None, 0, 0), devices=chosen)
        )
        stacked = jax.device_get(lifted(params, v, split(x), split(y)))
        return [jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(n)]
    mesh = Mesh(np.array(chosen), ("data",), axis_types=(AxisType.Auto,))
    lifted = jax.shard_map(
        products,
        mesh=mesh,
        in_specs=(P(), P(), P("data"), P("data")),
        out_specs=P(),
        check_vma=runner == "shard_map checked",
    )
    out = jax.jit(lifted)(params, v, x, y)
    return [jax.tree.map(lambda a, i=i: np.asarray(a.addressable_data(i)), out) for i in range(n)]


def slowly(*pair):
    return pytest.param(*pair, marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.devices
@pytest.mark.parametrize(
    ("runner", "n"),
    [
        ("pmap", 8),
        ("shard_map", 2),
        ("shard_map checked", 2),
        *(slowly("vmap", n) for n in (2, 8)),
        *(slowly("pmap", n) for n in (1, 2)),
        *(slowly("shard_map", n) for n in (1, 8)),
        *(slowly("shard_map checked", n) for n in (1, 8)),
    ],
)
def test_products_on_devices_are_those_of_one(runner, n):
    rng = np.random.default_rng(1)
    params, v = ({"u": rng.normal(size=(3, 2)), "w": rng.normal(size=(4, 3))} for _ in range(2))
    x, y = rng.normal(size=(16, 4)), rng.dirichlet(np.ones(2), 16)
    expected = jax.device_get(jax.jit(products)(params, v, x, y))
    for replica in spread(runner, n, params, v, x, y):
        for name, found in replica.items():
            check = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-13, err_msg=name)
            jax.tree.map(check, found, expected[name])
