"""From layers that were trained one by one to a network: greedy pre-training."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fdl.types import Array, Params


class StackedLayer(NamedTuple):
    """A trained layer, as the next one saw it: codes = scale * unit(x W + b) + shift.

    Attributes:
      kernel: W, (inputs, codes).
      bias: b, (codes,).
      scale: of each code, () or (codes,).
      shift: of each code, () or (codes,).
    """

    kernel: ArrayLike
    bias: ArrayLike
    scale: ArrayLike = 1.0
    shift: ArrayLike = 0.0


def tanh_as_sigmoid(kernel: ArrayLike, bias: ArrayLike, gain: ArrayLike = 1.0) -> StackedLayer:
    """Write a tanh layer for a network of sigmoid units, without changing what it computes.

    g tanh(u) = 2 g sigmoid(2 u) - g

    Args:
      kernel: (inputs, codes).
      bias: (codes,).
      gain: g, () or (codes,): that of a `PSD` encoder.

    Returns:
      The layer, of sigmoid units.

    Example:
      >>> layer = tanh_as_sigmoid(jnp.ones((1, 1)), jnp.zeros(1), 3.0)
      >>> float(layer.kernel[0, 0]), float(layer.scale), float(layer.shift)
      (2.0, 6.0, -3.0)
    """
    gain = jnp.asarray(gain)
    return StackedLayer(2 * jnp.asarray(kernel), 2 * jnp.asarray(bias), 2 * gain, -gain)


def stack_layers(params: Params, layers: Sequence[StackedLayer]) -> Params:
    """Let the first hidden layers of an MLP begin as layers that were trained one by one.

    The unit of the network has no scale and no shift; those of a layer go into the affine map
    behind it: (s u + t) W + b = u (s W) + (b + t W). Hidden layer l then computes what the trained
    layer did, but for its own s and t: the network begins as the trained stack with its own further
    layers on top.

    Args:
      params: of an `MLP` of `dense` layers without batch normalisation and raw inputs.
      layers: from the input on, at most as many as there are hidden layers. Their units must be the
        network's: auto-encoders with sigmoid codes and RBMs fit sigmoid units, PSD's tanh encoders
        tanh units, and with `tanh_as_sigmoid` sigmoid units as well.

    Returns:
      New parameters of the same shapes.

    Raises:
      ValueError: when there are too many layers or a shape does not fit.

    Example:
      >>> from flax import nnx
      >>> from fdl.models.mlp import MLP, MLPConfig
      >>> from fdl.models.rbm import RBM, RBMConfig
      >>> from fdl.pure import pure
      >>> apply, params, extra = pure(MLP(MLPConfig(6, (4,), 3), rngs=nnx.Rngs(0)))
      >>> rbm = pure(RBM(RBMConfig(6, 4), rngs=nnx.Rngs(1))).params
      >>> params = stack_layers(params, [StackedLayer(rbm["kernel"], rbm["hidden_bias"])])
      >>> bool((params["hidden"][0]["affine"]["kernel"] == rbm["kernel"]).all())
      True

    Source: DLB algorithm 15.1; Hinton et al. 2006; Bengio et al. 2007, Greedy Layer-Wise Training
    of Deep Networks.
    """
    hidden, output = dict(params["hidden"]), params["output"]
    if len(layers) > len(hidden):
        raise ValueError(
            f"stack_layers(layers) must be <= {len(hidden)}, the hidden layers, got {len(layers)}"
        )
    scale, shift = jnp.ones(()), jnp.zeros(())
    for i, layer in enumerate(layers):
        for name in ("kernel", "bias"):
            shape, got = (jnp.shape(a) for a in (hidden[i]["affine"][name], getattr(layer, name)))
            if got != shape:
                raise ValueError(
                    f"stack_layers: the {name} of layer {i} must be of shape {shape}, got {got}"
                )
        hidden[i] = {"affine": _behind(layer.kernel, layer.bias, scale, shift)}
        scale, shift = jnp.asarray(layer.scale), jnp.asarray(layer.shift)
    if len(layers) == len(hidden):
        output = _behind(output["kernel"], output["bias"], scale, shift)
    elif layers:
        above = hidden[len(layers)]["affine"]
        hidden[len(layers)] = {"affine": _behind(above["kernel"], above["bias"], scale, shift)}
    new = {**params, "hidden": hidden, "output": output}
    return jax.tree.map(lambda a, old: a.astype(old.dtype), new, dict(params))


def _behind(kernel: ArrayLike, bias: ArrayLike, scale: Array, shift: Array) -> Mapping[str, Array]:
    """Take the scale and the shift of the layer before into an affine map."""
    kernel, bias = jnp.asarray(kernel), jnp.asarray(bias)
    scale, shift = (jnp.broadcast_to(a, kernel.shape[:1]) for a in (scale, shift))
    return {"kernel": scale[:, None] * kernel, "bias": bias + shift @ kernel}
