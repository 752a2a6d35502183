"""LISTA: a few steps of sparse coding, unrolled into a network whose matrices learn."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from fdl import initializers, ops
from fdl.errors import InputError
from fdl.types import Array


@dataclasses.dataclass(frozen=True)
class LISTAConfig:
    """What a LISTA network is made of.

    Attributes:
      features_in: size of an input.
      codes: number of codes.
      layers: T, steps; all use the same matrices.
      threshold: first value of each code's threshold, >= 0.
      kernel_init: of the matrix from inputs to codes; that between codes begins at 0.

    Raises:
      InputError: when a size or the threshold is out of range.

    Example:
      >>> LISTAConfig(64, 128, layers=3).layers
      3
    """

    features_in: int
    codes: int
    _: dataclasses.KW_ONLY
    layers: int = 3
    threshold: float = 0.1
    kernel_init: initializers.Initializer = initializers.lecun_normal()

    def __post_init__(self) -> None:
        for name in ("features_in", "codes", "layers"):
            if getattr(self, name) < 1:
                raise InputError(f"LISTAConfig({name}=...) must be >= 1, got {getattr(self, name)}")
        if self.threshold < 0:
            raise InputError(f"LISTAConfig(threshold=...) must be >= 0, got {self.threshold}")

    @classmethod
    def tiny(cls, **changes: Any) -> "LISTAConfig":
        """4 inputs, 6 codes, 2 layers: for tests."""
        return dataclasses.replace(cls(4, 6, layers=2), **changes)


class LISTA(nnx.Module):
    """Learned iterative shrinkage and thresholding: sparse codes in a fixed, small time.

    z_1 = S(x W, theta),  z_{t+1} = S(x W + z_t M, theta),  S(a, t) = sign(a) max(|a| - t, 0)

    `from_dictionary` sets W = D / L, M = I - D'D / L and theta = l1 / L, with which T layers are T
    steps of `fdl.ops.ista`. Trained, on sum F(x, z_T) or on |z_T - z*|^2, they come nearer to the
    optimum than as many steps of FISTA, for inputs like those of training.

    Its parameters are {"kernel": W (inputs, codes), "lateral": M (codes, codes), "threshold":
    (codes,)}; a threshold below 0 counts as 0.

    Args:
      config: what it is made of.
      rngs: for the parameters.

    Raises:
      ValueError: from the call, when the input has another size.

    Example:
      >>> dictionary = jnp.array([[1.0, 0.6], [0.0, 0.8]])
      >>> x = jnp.array([[2.0, 3.0]])
      >>> model = LISTA.from_dictionary(dictionary, 0.5, layers=4)
      >>> bool(jnp.allclose(model(x), ops.ista(x, dictionary, 0.5, steps=4)))
      True

    Source: Gregor and LeCun 2010, Learning fast approximations of sparse coding, equation 4.
    """

    def __init__(self, config: LISTAConfig, *, rngs: nnx.Rngs):
        shape = (config.features_in, config.codes)
        self.layers = config.layers
        self.kernel = nnx.Param(config.kernel_init(rngs.params(), shape, jnp.float32))
        self.lateral = nnx.Param(jnp.zeros((config.codes, config.codes)))
        self.threshold = nnx.Param(jnp.full((config.codes,), config.threshold, jnp.float32))

    @classmethod
    def from_dictionary(
        cls, dictionary: ArrayLike, l1: float, *, layers: int, lipschitz: ArrayLike | None = None
    ) -> "LISTA":
        """Unroll `layers` steps of ISTA on 1/2 |x - D z|^2 + l1 |z|_1.

        Args:
          dictionary: D, shape (inputs, codes).
          l1: strength, >= 0.
          layers: T >= 1.
          lipschitz: L; None: lambda_max(D'D).

        Raises:
          InputError: for a size or strength out of range.
        """
        dictionary = jnp.asarray(dictionary)
        inputs, codes = dictionary.shape
        model = cls(LISTAConfig(inputs, codes, layers=layers, threshold=l1), rngs=nnx.Rngs(0))
        weights = ista_weights(dictionary, l1, lipschitz)
        model.kernel.set_value(weights["kernel"])
        model.lateral.set_value(weights["lateral"])
        model.threshold.set_value(weights["threshold"])
        return model

    def __call__(self, x: Array) -> Array:
        """Compute the codes of a batch: (batch, inputs) -> (batch, codes)."""
        if x.ndim != 2 or x.shape[1] != self.kernel.shape[0]:
            raise ValueError(
                f"LISTA needs (batch, inputs) with {self.kernel.shape[0]} inputs, got {x.shape}"
            )
        threshold = jnp.maximum(self.threshold[...], 0)[None]
        driven = x @ self.kernel[...]
        z = ops.soft_shrink(driven, threshold)
        for _ in range(self.layers - 1):
            z = ops.soft_shrink(driven + z @ self.lateral[...], threshold)
        return z

    def encode(self, x: Array) -> Array:
        """Compute the codes of a batch, as the call does: the name all layer trainers share."""
        return self(x)


def ista_weights(
    dictionary: ArrayLike, l1: ArrayLike, lipschitz: ArrayLike | None = None
) -> dict[str, Array]:
    """Return the parameters with which a layer of LISTA is a step of ISTA.

    W = D / L,  M = I - D'D / L,  theta = l1 / L

    Args:
      dictionary: D, shape (inputs, codes).
      l1: strength, >= 0, of 1/2 |x - D z|^2 + l1 |z|_1.
      lipschitz: L; None: lambda_max(D'D).

    Returns:
      {"kernel": (inputs, codes), "lateral": (codes, codes), "threshold": (codes,)}, as the
      parameters of `LISTA` are named.

    Example:
      >>> ista_weights(jnp.eye(2), 0.5)["threshold"]
      Array([0.5, 0.5], dtype=float32)

    Source: Gregor and LeCun 2010, section 2.
    """
    dictionary = jnp.asarray(dictionary)
    bound = ops.sparse_lipschitz(dictionary) if lipschitz is None else lipschitz
    codes = dictionary.shape[1]
    return {
        "kernel": dictionary / bound,
        "lateral": jnp.eye(codes, dtype=dictionary.dtype) - dictionary.T @ dictionary / bound,
        "threshold": jnp.broadcast_to(jnp.asarray(l1, dictionary.dtype) / bound, (codes,)),
    }
