"""Products of curvature matrices with vectors, at the cost of a few gradients and never a matrix.

Each comes as a product, and as an operator v -> A v at a fixed point, which linearises once and is
the form for Krylov methods. On several devices: let the function (the model) begin with
`fdl.train.shared(params)` and the loss end with `mean_over_devices`, as for a gradient.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from fdl.types import Array, Params, PyTree

Operator: TypeAlias = Callable[[PyTree], PyTree]


def hvp(fun: Callable[[Params], Array], params: Params, v: PyTree) -> PyTree:
    """Multiply by the Hessian: H v = d/dt grad fun(params + t v) at t = 0, forward over reverse.

    Args:
      fun: params -> scalar.
      params: arrays of any shape.
      v: a direction, of the shapes of params; cast to their types.

    Returns:
      H v, of the shapes and types of params.

    Example:
      >>> fun = lambda p: p["x"] ** 2 * p["y"]
      >>> at, v = {"x": 3.0, "y": 2.0}, {"x": 1.0, "y": 0.0}
      >>> {name: float(h) for name, h in hvp(fun, at, v).items()}
      {'x': 4.0, 'y': 6.0}

    Source: Pearlmutter 1994, Fast exact multiplication by the Hessian; DLB 6.5.10.
    """
    return jax.jvp(jax.grad(fun), (params,), (_cast_like(v, params),))[1]


def hvp_operator(fun: Callable[[Params], Array], params: Params) -> tuple[PyTree, Operator]:
    """Return the gradient and v -> H v, which share one evaluation of the derivatives at params.

    Args:
      fun: params -> scalar.
      params: arrays of any shape.

    Returns:
      The gradient, and a linear function of a tree like params.

    Example:
      >>> grad, product = hvp_operator(lambda x: jnp.sum(x**3), jnp.array([1.0, 2.0]))
      >>> grad.tolist(), product(jnp.ones(2)).tolist()
      ([3.0, 12.0], [6.0, 12.0])

    Source: Pearlmutter 1994.
    """
    grad, product = jax.linearize(jax.grad(fun), params)
    return grad, lambda v: product(_cast_like(v, params))


def gnvp(
    model: Callable[[Params], Any], loss: Callable[[Any], Array], params: Params, v: PyTree
) -> PyTree:
    """Multiply by the generalised Gauss-Newton matrix: G v = J' H_L J v of loss(model(params)).

    J = d model / d params and H_L = the Hessian of the loss in the model's outputs. G is positive
    semi-definite wherever the loss is convex in the outputs, and equals the Hessian where the model
    is linear. It is the Hessian of the loss of the linearised model.

    Args:
      model: params -> outputs, any tree of arrays.
      loss: outputs -> scalar.
      params: arrays of any shape.
      v: a direction, of the shapes of params; cast to their types.

    Returns:
      G v, of the shapes and types of params.

    Example:
      >>> model = lambda p: p**2
      >>> loss = lambda outputs: 0.5 * jnp.sum((outputs - 5.0) ** 2)
      >>> gnvp(model, loss, jnp.array([1.0, 2.0]), jnp.ones(2)).tolist()
      [4.0, 16.0]

    Source: Schraudolph 2002, Fast curvature matrix-vector products; Martens 2010.
    """
    return gnvp_operator(model, loss, params)[1](v)


def gnvp_operator(
    model: Callable[[Params], Any], loss: Callable[[Any], Array], params: Params
) -> tuple[Any, Operator]:
    """Return the model's outputs and v -> G v, which share one evaluation of the model.

    Args:
      model: params -> outputs, any tree of arrays.
      loss: outputs -> scalar.
      params: arrays of any shape.

    Returns:
      The outputs, and a linear function of a tree like params.

    Example:
      >>> loss = lambda outputs: 0.5 * jnp.sum(outputs**2)
      >>> outputs, product = gnvp_operator(lambda p: 3.0 * p, loss, jnp.ones(2))
      >>> outputs.tolist(), product(jnp.ones(2)).tolist()
      ([3.0, 3.0], [9.0, 9.0])

    Source: Schraudolph 2002.
    """
    outputs, push = jax.linearize(model, params)
    pull = jax.linear_transpose(push, params)
    # H_L comes from the loss itself, not from its part on this device: the share that each runner
    # leaves in a cotangent is then the one that the transpose of the model expects.
    _, curve = jax.linearize(jax.grad(loss), outputs)

    def product(v: PyTree) -> PyTree:
        (result,) = pull(curve(push(_cast_like(v, params))))
        return result

    return outputs, product


def fvp(
    model: Callable[[Params], Any],
    divergence: Callable[[Any, Any], Array],
    params: Params,
    v: PyTree,
) -> PyTree:
    """Multiply by the Fisher information of the model's own distribution: F v = J' F_z J v.

    F = mean over inputs of E_y[s s'] with y drawn from the model and s = grad log p(y | outputs).
    F_z is the Hessian of the divergence KL(p_a || p_z) in z at z = a. F equals the Gauss-Newton
    matrix of the negative log-likelihood where the outputs are the natural parameters of an
    exponential family (logits of a softmax, mean of a Gaussian of fixed variance), not elsewhere.

    Args:
      model: params -> outputs, any tree of arrays.
      divergence: (a, z) -> mean over the inputs of KL(p_a || p_z), a scalar; the cross-entropy of
        the two will do, for it differs by a constant in z.
      params: arrays of any shape.
      v: a direction, of the shapes of params; cast to their types.

    Returns:
      F v, of the shapes and types of params.

    Example:
      >>> def divergence(a, z):  # Gaussians of mean 0 and standard deviations e^a, e^z
      ...     return jnp.mean(z - a + 0.5 * jnp.exp(2 * a - 2 * z) - 0.5)
      >>> round(float(fvp(lambda p: 3.0 * p, divergence, jnp.float32(0.2), 1.0)), 4)
      18.0

    Source: Amari 1998, Natural gradient; Martens 2020, New insights, sections 8 and 9.
    """
    at = jax.lax.stop_gradient(model(params))
    return gnvp(model, lambda z: divergence(at, z), params, v)


def empirical_fvp(
    losses: Callable[[Params], Array],
    params: Params,
    v: PyTree,
    *,
    mean: Callable[[Array], Array] = jnp.mean,
) -> PyTree:
    """Multiply by the empirical Fisher matrix (1/n) sum_i g_i g_i' of the examples' gradients.

    The labels are those of the data and not drawn from the model: it is no curvature, only the
    second moment of the gradients, and tends to 0 where every example is fitted.

    Args:
      losses: params -> one negative log-likelihood for each example, [n].
      params: arrays of any shape.
      v: a direction, of the shapes of params; cast to their types.
      mean: [n] -> scalar; the mean over all devices where there are several.

    Returns:
      (1/n) sum_i g_i (g_i' v), of the shapes and types of params.

    Example:
      >>> x = jnp.array([1.0, 3.0])
      >>> float(empirical_fvp(lambda w: w * x, jnp.float32(0.0), 2.0))
      10.0

    Source: Kunstner et al. 2019, Limitations of the empirical Fisher, equation 3.
    """
    return gnvp(losses, lambda each: 0.5 * mean(jnp.square(each)), params, v)


def _cast_like(v: PyTree, like: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.asarray(a, jnp.result_type(b)), v, like)
