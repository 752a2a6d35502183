"""From a layer of a student to the size of a teacher's: the regressor of FitNets."""

from flax import nnx

from fdl.errors import InputError
from fdl.models.conv import Conv


def regressor(
    guided: tuple[int, ...], hint: tuple[int, ...], *, rngs: nnx.Rngs
) -> nnx.Linear | Conv:
    """Make the smallest map from the student's guided layer to the teacher's hint.

    Vectors: one affine map. Maps of a size: a 1x1 convolution. Larger maps to smaller ones: a
    convolution without padding, whose window N_g - N_h + 1 makes the sizes meet; it has far fewer
    parameters than an affine map.

    Args:
      guided: shape of the student's layer without the batch, (features,) or (*spatial, channels).
      hint: shape of the teacher's, of as many axes.
      rngs: for the parameters.

    Returns:
      An `nnx.Linear` or a `Conv`.

    Raises:
      InputError: when the shapes have different numbers of axes, or the hint is larger.

    Example:
      >>> import jax.numpy as jnp
      >>> regressor((16,), (64,), rngs=nnx.Rngs(0))(jnp.ones((2, 16))).shape
      (2, 64)
      >>> regressor((8, 8, 4), (6, 6, 32), rngs=nnx.Rngs(0))(jnp.ones((2, 8, 8, 4))).shape
      (2, 6, 6, 32)

    Source: Romero et al. 2014, arXiv 1412.6550, section 2.2.
    """
    if len(guided) != len(hint) or not guided:
        raise InputError(
            "regressor(guided, hint) must be two shapes (features,) or (*spatial, channels), "
            f"got {guided} and {hint}"
        )
    if len(guided) == 1:
        return nnx.Linear(guided[0], hint[0], rngs=rngs)
    window = tuple(g - h + 1 for g, h in zip(guided[:-1], hint[:-1], strict=True))
    if min(window) < 1:
        raise InputError(
            f"regressor(hint) must be no larger than the guided maps {guided[:-1]}, got {hint[:-1]}"
        )
    return Conv(guided[-1], hint[-1], window, rngs=rngs)
